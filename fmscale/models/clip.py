"""CLIP (Radford et al. 2021): two towers, a linear map of each into one space, a temperature."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fmscale.models.initialization import clip_stds, initialize
from fmscale.models.layers import sizing_groups
from fmscale.models.text_encoder import TextEncoder
from fmscale.models.vit import VisionTransformer
from fmscale.sizing import CLIPShape

INITIAL_TEMPERATURE = 0.07  # Radford et al. 2021, Sec. 2.5, after Wu et al. 2018


class CLIP(nn.Module):
    """Places images and captions in one space where a pair's cosine is high.

    Args:
        shape: sizes; see `fmscale.sizing.CLIPShape`.
        max_scale: largest factor on the cosines (Radford et al. 2021, Sec. 2.5).
    """

    def __init__(self, shape: CLIPShape, max_scale: float = 100.0) -> None:
        super().__init__()
        self.shape = shape
        self.max_scale = max_scale
        self.image = VisionTransformer(shape.image)
        self.text = TextEncoder(shape.text)
        self.image_projection = nn.Linear(shape.image.d_model, shape.d_embed, bias=False)
        self.text_projection = nn.Linear(shape.text.d_model, shape.d_embed, bias=False)
        self.log_scale = nn.Parameter(torch.empty(()))  # ln(1 / temperature)
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
        image, text = sizing_groups(self.image.roles()), sizing_groups(self.text.roles())
        return {
            **{f"image_{name}": parameters for name, parameters in image.items()},
            "image_projection": [self.image_projection.weight],
            **{f"text_{name}": parameters for name, parameters in text.items()},
            "text_projection": [self.text_projection.weight],
            "temperature": [self.log_scale],
        }

    @torch.no_grad()
    def init_weights(self) -> None:
        """Draw all weights anew from torch's global generator; the temperature starts at 0.07."""
        image = {**self.image.roles(), "projection": [self.image_projection.weight]}
        initialize(image, clip_stds(self.shape.image.n_layer, self.shape.image.d_model))
        text = {**self.text.roles(), "projection": [self.text_projection.weight]}
        initialize(text, clip_stds(self.shape.text.n_layer, self.shape.text.d_model))
        self.log_scale.fill_(math.log(1 / INITIAL_TEMPERATURE))


def _unit(z: Tensor) -> Tensor:
    # In float32 even under autocast: the cosines are multiplied by up to 100.
    return F.normalize(z.float(), dim=-1)
