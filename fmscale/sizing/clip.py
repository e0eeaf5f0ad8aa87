"""Size of CLIP: two towers, their projections into one space, a temperature."""

from dataclasses import dataclass
from typing import ClassVar

from fmscale.sizing.counting import (
    EMBEDDING_GROUPS,
    MATMUL_GROUPS,
    check_batch,
    check_positive,
    sum_of,
)
from fmscale.sizing.towers import CaptionShape, ImageShape, VisionShape

# Radford et al. 2021, Tables 19 and 20: image tower, pixels, patch, text tower -> name.
PUBLISHED = {
    ("rn3-4-6-3x64", 224, None, "12x512"): "rn50",
    ("rn3-4-23-3x64", 224, None, "12x512"): "rn101",
    ("rn4-6-10-6x80", 288, None, "12x640"): "rn50x4",
    ("rn6-8-18-8x96", 384, None, "12x768"): "rn50x16",
    ("rn3-15-36-10x128", 448, None, "12x1024"): "rn50x64",
    ("12x768", 224, 32, "12x512"): "vit_b32",
    ("12x768", 224, 16, "12x512"): "vit_b16",
    ("24x1024", 224, 14, "12x768"): "vit_l14",
    ("24x1024", 336, 14, "12x768"): "vit_l14_336",
}


@dataclass(frozen=True)
class CLIPShape:
    """Size of a CLIP: two towers, a projection of each into a joint space, one temperature."""

    d_embed: int  # width of the joint space
    image: ImageShape
    text: CaptionShape
    n_scalars: int = 1  # the temperature; 2 with the bias of a sigmoid loss

    family: ClassVar[str] = "clip"
    unit: ClassVar[str] = "samples"

    def __post_init__(self) -> None:
        check_positive(self)

    @property
    def label(self) -> str:
        """The published name, else the image tower, and the text tower where it differs."""
        patch = self.image.patch_size if isinstance(self.image, VisionShape) else None
        key = (self.image.label, self.image.image_size, patch, self.text.label)
        if key in PUBLISHED:
            return f"clip_{PUBLISHED[key]}"
        label = f"clip_{self.image.label}"
        return label if self.text.label == self.image.label else f"{label}+{self.text.label}"

    def param_groups(self) -> dict[str, int]:
        """Parameters by tower and role (`image_mlp`, ...); the sum is `n_params_total`."""
        image = self.image.param_groups()
        if self.image.projection_bias:
            image["bias"] += self.d_embed
        return {
            **{f"image_{name}": count for name, count in image.items()},
            "image_projection": self.image.d_model * self.d_embed,
            **{f"text_{name}": count for name, count in self.text.param_groups().items()},
            "text_projection": self.text.d_model * self.d_embed,
            "temperature": self.n_scalars,
        }

    @property
    def n_params_total(self) -> int:
        """Every trained number of both towers, projections and temperature."""
        return sum(self.param_groups().values())

    @property
    def n_params_non_embedding(self) -> int:
        """Total without token, position and class tables; the patch matrix stays, it multiplies."""
        groups = self.param_groups()
        return self.n_params_total - sum_of(groups, _both_towers(EMBEDDING_GROUPS))

    @property
    def n_params_matmul(self) -> int:
        """Weights that multiply activations: patch, attention, MLP and projection matrices."""
        return sum_of(self.param_groups(), _both_towers(MATMUL_GROUPS))

    def params_met(self) -> dict[str, int]:
        """Parameters of each group times the positions of one image-text pair that meet them."""
        met = {
            **{f"image_{name}": count for name, count in self.image.params_met().items()},
            **{f"text_{name}": count for name, count in self.text.params_met().items()},
            "image_projection": self.image.d_model * self.d_embed,
            "text_projection": self.text.d_model * self.d_embed,
            "temperature": self.n_scalars,
        }
        if self.image.projection_bias:
            met["image_bias"] += self.d_embed
        return met

    def forward_macs(self) -> dict[str, int]:
        """Multiply-adds of one image and of one caption, projections included: half of the forward
        FLOPs, and what Radford et al. 2021, Fig. 9, call FLOPs."""
        return {
            "image": self.image.forward_flops() // 2 + self.image.d_model * self.d_embed,
            "text": self.text.forward_flops() // 2 + self.text.d_model * self.d_embed,
        }

    def train_flops_per_unit(self, batch_size: int) -> dict[str, int]:
        """Training FLOPs per image-text pair under every convention of `FLOPS_FORMULA`.

        The B x B logits cost 2 B^2 d_embed a batch, so 2 B d_embed a pair. In the 6ND columns a
        parameter counts once for each position it meets: a tower's weights for every patch or
        token, the projections once. Three times forward counts a gradient with respect to the
        pixels which nobody computes; it is the patch matrix's forward cost, under 1 % even with
        one layer of width 16.

        Args:
            batch_size: pairs contrasted with each other (over all ranks).
        """
        check_batch(batch_size)
        projections = 2 * self.d_embed * (self.image.d_model + self.text.d_model)
        logits = 2 * batch_size * self.d_embed
        shared = self.image.forward_flops() + projections + logits
        met = self.params_met()
        total = sum(met.values())
        return {
            "flops": 3 * (shared + self.text.forward_flops()),
            "flops_causal": 3 * (shared + self.text.forward_flops(causal=True)),
            "flops_6nd": 6 * total,
            "flops_6nd_non_embedding": 6 * (total - sum_of(met, _both_towers(EMBEDDING_GROUPS))),
            "flops_6nd_matmul": 6 * sum_of(met, _both_towers(MATMUL_GROUPS)),
        }


def _both_towers(names: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(f"{tower}_{name}" for tower in ("image", "text") for name in names)
