"""A model that writes the caption of an image, word by word (Radford et al. 2021, Sec. 2.3).

CLIP's own parts in another arrangement: the image's vector, which CLIP would place in the joint
space, becomes the first position of the text Transformer. Radford et al. (after Desai & Johnson
2021) let the decoder attend to the whole feature map; here it sees one vector, so that objectives
are compared at the same architecture and parameters.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fmscale.models.caption_model import CaptionModel
from fmscale.models.clip import image_tower, initialize_tower, tower_groups
from fmscale.models.text_encoder import TextEncoder
from fmscale.sizing import CaptionerShape, TextShape

PADDING = 0


class Captioner(CaptionModel):
    """Logits of every next word of a caption, given the image and the words before."""

    def __init__(self, shape: CaptionerShape) -> None:
        super().__init__()
        assert isinstance(shape.text, TextShape)  # the shape has checked it
        self.shape = shape
        self.image = image_tower(shape.image)
        self.text = TextEncoder(shape.text)
        self.image_projection = nn.Linear(
            shape.image.d_model, shape.d_embed, bias=shape.image.projection_bias
        )
        self.text_projection = nn.Linear(shape.d_embed, shape.text.d_model, bias=False)
        self.init_weights()

    def decode(self, vector: Tensor, text: Tensor) -> Tensor:
        """Logits (B, T, vocab_size) of the tokens `text` (B, T), each given those before it.

        Raises:
            ValueError: if captions are longer than the decoder.
        """
        if text.shape[1] > self.text.shape.seq_len:
            raise ValueError(
                f"{text.shape[1]} tokens exceed seq_len={self.text.shape.seq_len}; "
                "truncate captions"
            )
        table = self.text.token_embedding
        first = self.text_projection(vector)[:, None]  # (B, 1, d_text)
        x = self.text.states(torch.cat([first, table(text[:, :-1])], dim=1))  # (B, T, d_text)
        return F.linear(self.text.norm(x), table.weight)

    def log_likelihood(self, vector: Tensor, text: Tensor) -> Tensor:
        """Log-likelihood (B,) in nats of captions (B, T) given the vectors of their images."""
        logits = self.decode(vector, text)
        # float32 whatever the precision of the model: the loss is what the laws are fitted to.
        with torch.autocast(logits.device.type, enabled=False):
            nats = F.cross_entropy(
                logits.flatten(0, 1).float(), text.flatten(), ignore_index=PADDING, reduction="none"
            )
        return -nats.view(text.shape).sum(dim=1)

    def param_groups(self) -> dict[str, list[Tensor]]:
        """Parameters by the groups of `CaptionerShape.param_groups`."""
        return {
            **tower_groups("image", self.image, self.image_projection),
            **tower_groups("text", self.text, self.text_projection),
        }

    def init_weights(self) -> None:
        """Draw all weights again from torch's global generator, by the rules of `CLIP`."""
        initialize_tower(self.image, self.image_projection)
        initialize_tower(self.text, self.text_projection)
