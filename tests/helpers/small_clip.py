"""CLIP models that take no time to make."""

from __future__ import annotations

import torch

from fmscale.data.scenes.captions import CaptionTokenizer
from fmscale.data.scenes.dataset import Scenes
from fmscale.models.clip import CLIP
from fmscale.models.vit import Pixels
from fmscale.sizing import CLIPShape, TextShape, VisionShape

VOCAB = CaptionTokenizer().vocab_size


def build(activation: str = "gelu", pixels: Pixels | None = None, n_scalars: int = 1) -> CLIP:
    torch.manual_seed(0)
    shape = CLIPShape(
        16,
        VisionShape(image_size=24, patch_size=8, n_layer=2, n_head=2, d_model=32, d_ff=48,
                    activation=activation),
        TextShape(vocab_size=VOCAB, seq_len=20, n_layer=3, n_head=4, d_model=24,
                  activation=activation),
        n_scalars=n_scalars,
    )  # fmt: skip
    model = CLIP(shape, pixels=pixels or Pixels()).eval()
    with torch.no_grad():  # fresh biases are zero and would hide a mistake
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return model


def tiny(d_model: int = 16) -> CLIPShape:
    image = VisionShape(image_size=12, patch_size=4, n_layer=2, n_head=2, d_model=d_model)
    text = TextShape(vocab_size=32, seq_len=6, n_layer=2, n_head=2, d_model=d_model)
    return CLIPShape(d_embed=8, image=image, text=text)


def pairs(n: int) -> dict[str, torch.Tensor]:
    image = torch.randint(256, (n, 3, 12, 12), dtype=torch.uint8)
    return {"image": image, "text": torch.randint(32, (n, 6))}


def tiny_clip(data: Scenes) -> CLIP:
    torch.manual_seed(0)
    image = VisionShape(image_size=data.image_size, patch_size=6, n_layer=1, n_head=1, d_model=16)
    text = TextShape(
        vocab_size=data.vocab_size, seq_len=data.seq_len, n_layer=1, n_head=1, d_model=16
    )
    return CLIP(CLIPShape(16, image, text))
