"""Size of CLIP: two towers, their projections into one space, a temperature."""

from dataclasses import dataclass
from typing import ClassVar

from fmscale.sizing.pairs import PairShape
from fmscale.sizing.towers import CaptionShape, ImageShape, TextShape


@dataclass(frozen=True)
class CLIPShape(PairShape):
    """Size of a CLIP: two towers, a projection of each into a joint space, one temperature."""

    d_embed: int  # width of the joint space
    image: ImageShape
    text: CaptionShape
    n_scalars: int = 1  # the temperature; 2 with the bias of a sigmoid loss

    family: ClassVar[str] = "clip"
    contrasts: ClassVar[bool] = True

    @property
    def _kind(self) -> str:
        return "siglip" if self.n_scalars == 2 else "clip"

    def param_groups(self) -> dict[str, int]:
        """Parameters by tower and role (`image_mlp`, ...); the sum is `n_params_total`."""
        return {**self.image_groups(), **self.text_groups(), "temperature": self.n_scalars}

    def params_met(self) -> dict[str, int]:
        return {**self.image_met(), **self.text_met(), "temperature": self.n_scalars}

    def unread_flops(self) -> int:
        """Forward FLOPs of a pair that `flops` counts but nothing computes, in both towers."""
        unread = super().unread_flops()
        if isinstance(self.text, TextShape):
            unread += self.text.unread_flops(self.text.seq_len)
        return unread

    def _text_flops(self, causal: bool) -> int:
        return self.text.forward_flops(causal=causal) + 2 * self.d_embed * self.text.d_model

    def _meeting_flops(self, batch_size: int) -> int:
        """The B x B logits cost 2 B^2 d_embed a batch, so 2 B d_embed a pair."""
        return 2 * batch_size * self.d_embed
