"""CLIP (Radford et al. 2021): two towers, a linear map of each into one space, a temperature."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fmscale.models.bag_of_words import BagOfWords
from fmscale.models.initialization import clip_stds, initialize
from fmscale.models.resnet import ResNet
from fmscale.models.text_encoder import TextEncoder
from fmscale.models.vit import UNIT, Pixels, VisionTransformer
from fmscale.sizing import BagShape, CLIPShape, ResNetShape
from fmscale.sizing.towers import CaptionShape, ImageShape

INITIAL_TEMPERATURE = 0.07  # Radford et al. 2021, Sec. 2.5, after Wu et al. 2018
# Zhai et al. 2023, Sec. 3.2: at the start nearly every pair is, rightly, called a mismatch.
SIGMOID_SCALE = 10.0
SIGMOID_BIAS = -10.0

Tower = VisionTransformer | ResNet | TextEncoder | BagOfWords


class CLIP(nn.Module):
    """Places images and captions in one space where a pair's cosine is high.

    Args:
        shape: sizes; see `fmscale.sizing.CLIPShape`.
        max_scale: largest factor on the cosines (Radford et al. 2021, Sec. 2.5).
        pixels: how images of bytes are normalised.
    """

    def __init__(self, shape: CLIPShape, max_scale: float = 100.0, pixels: Pixels = UNIT) -> None:
        super().__init__()
        self.shape = shape
        self.max_scale = max_scale
        self.image = image_tower(shape.image, pixels)
        self.text = text_tower(shape.text)
        self.image_projection = nn.Linear(
            shape.image.d_model, shape.d_embed, bias=shape.image.projection_bias
        )
        self.text_projection = nn.Linear(shape.text.d_model, shape.d_embed, bias=False)
        self.log_scale = nn.Parameter(torch.empty(()))  # ln(1 / temperature)
        # Added to the logits of a sigmoid loss (Zhai et al. 2023); a softmax would not see it.
        self.logit_bias = nn.Parameter(torch.empty(())) if shape.n_scalars == 2 else None
        self.init_weights()

    def encode_image(self, image: Tensor) -> Tensor:
        """Unit vectors (B, d_embed) of images (B, 3, H, W), uint8 or float in -1..1."""
        return _unit(self.image_projection(self.image(image)))

    def encode_text(self, text: Tensor) -> Tensor:
        """Unit vectors (B, d_embed) of captions (B, T) int64 with padding id 0."""
        return _unit(self.text_projection(self.text(text)))

    def scale(self) -> Tensor:
        """Factor on the cosines, at most `max_scale`.

        The parameter itself is capped before each use, which equals the paper's cap after each
        step. A cap inside the graph alone would stop the gradient and trap it above the limit.
        """
        with torch.no_grad():
            self.log_scale.clamp_(max=math.log(self.max_scale))
        return self.log_scale.exp()

    def forward(self, image: Tensor, text: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Unit vectors of both sides and the factor: logits are scale * z_image @ z_text.T."""
        return self.encode_image(image), self.encode_text(text), self.scale()

    def param_groups(self) -> dict[str, list[Tensor]]:
        """Parameters by the groups of `CLIPShape.param_groups`."""
        scalars: list[Tensor] = [self.log_scale]
        if self.logit_bias is not None:
            scalars.append(self.logit_bias)
        return {
            **tower_groups("image", self.image, self.image_projection),
            **tower_groups("text", self.text, self.text_projection),
            "temperature": scalars,
        }

    @torch.no_grad()
    def init_weights(self) -> None:
        """Draw all weights again from torch's global generator; the temperature starts at 0.07."""
        initialize_tower(self.image, self.image_projection)
        initialize_tower(self.text, self.text_projection)
        self.log_scale.fill_(math.log(1 / INITIAL_TEMPERATURE))
        if self.logit_bias is not None:
            self.log_scale.fill_(math.log(SIGMOID_SCALE))
            self.logit_bias.fill_(SIGMOID_BIAS)


def image_tower(shape: ImageShape, pixels: Pixels = UNIT) -> VisionTransformer | ResNet:
    if isinstance(shape, ResNetShape):
        return ResNet(shape, pixels)
    return VisionTransformer(shape, pixels)


def text_tower(shape: CaptionShape) -> TextEncoder | BagOfWords:
    return BagOfWords(shape) if isinstance(shape, BagShape) else TextEncoder(shape)


def tower_groups(name: str, tower: Tower, projection: nn.Linear) -> dict[str, list[Tensor]]:
    """Parameters of a tower and of the projection that goes with it, as `PairShape` names them."""
    groups = tower.param_groups()
    if projection.bias is not None:
        groups["bias"] = [*groups["bias"], projection.bias]
    own = {f"{name}_{role}": parameters for role, parameters in groups.items()}
    return {**own, f"{name}_projection": [projection.weight]}


def initialize_tower(tower: Tower, projection: nn.Linear) -> None:
    """Draw the weights of a tower and of its projection by CLIP's rules."""
    roles = {**tower.roles(), "projection": [projection.weight]}
    if projection.bias is not None:
        roles["bias"] = [*roles["bias"], projection.bias]
    stds = clip_stds(getattr(tower.shape, "n_layer", 1), tower.shape.d_model)
    initialize(roles, {**stds, "projection": projection.in_features**-0.5})


def _unit(z: Tensor) -> Tensor:
    # In float32 even under autocast: the cosines are multiplied by up to 100.
    return F.normalize(z.float(), dim=-1)
