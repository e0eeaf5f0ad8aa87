"""What all models of image-text pairs count alike, whatever they are trained to do."""

from abc import ABC, abstractmethod
from typing import ClassVar

from fmscale.sizing.counting import check_batch, check_positive
from fmscale.sizing.shape import Shape
from fmscale.sizing.towers import CaptionShape, ImageShape, VisionShape

# Image tower, pixels, patch, text tower -> name. Radford et al. 2021, Tables 19 and 20; from
# vit_s32_alt on, the configurations of open_clip (Ilharco et al. 2021).
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
    ("12x384", 224, 32, "10x256"): "vit_s32_alt",
    ("12x384", 224, 32, "12x384"): "vit_s32",
    ("12x512", 224, 32, "12x384"): "vit_m32_alt",
    ("12x512", 224, 32, "12x512"): "vit_m32",
    ("32x1280", 224, 14, "24x1024"): "vit_h14",
    ("40x1408", 224, 14, "24x1024"): "vit_g14",
    ("48x1664", 224, 14, "32x1280"): "vit_bigg14",
}


class PairShape(Shape, ABC):
    """Base of the shapes that see an image and a caption; a subclass counts its own parts.

    It names its parameter groups after the part and the role: `image_mlp`, `text_projection`.
    """

    d_embed: int  # width of the space where image and text meet
    image: ImageShape
    text: CaptionShape

    unit: ClassVar[str] = "samples"
    metrics: ClassVar[tuple[str, ...]] = ("val_loss", "zero_shot_error")

    def __post_init__(self) -> None:
        check_positive(self)

    @property
    def label(self) -> str:
        """Kind, then the published name, else the image tower, and the text tower where it
        differs. No two objectives share a label."""
        patch = self.image.patch_size if isinstance(self.image, VisionShape) else None
        key = (self.image.label, self.image.image_size, patch, self.text.label)
        if key in PUBLISHED:
            return f"{self._kind}_{PUBLISHED[key]}"
        label = f"{self._kind}_{self.image.label}"
        return label if self.text.label == self.image.label else f"{label}+{self.text.label}"

    @property
    def _kind(self) -> str:
        """First part of the label."""
        return self.family

    @abstractmethod
    def params_met(self) -> dict[str, int]:
        """Parameters of each group times the positions of one image-text pair that meet them."""

    @abstractmethod
    def _text_flops(self, causal: bool) -> int:
        """Forward FLOPs of one caption, projection included."""

    def forward_macs(self) -> dict[str, int]:
        """Multiply-adds of one image and of one caption, projections included: half of the forward
        FLOPs, and what Radford et al. 2021, Fig. 9, call FLOPs."""
        return {"image": self.image_macs(), "text": self._text_flops(causal=False) // 2}

    def unread_flops(self) -> int:
        """Forward FLOPs of a pair that `flops` counts but nothing computes, in the image tower."""
        if not isinstance(self.image, VisionShape):
            return 0
        return self.image.unread_flops(self.image.n_positions)

    def _meeting_flops(self, batch_size: int) -> int:
        """Forward FLOPs where image and text meet, for one pair."""
        return 0

    @property
    def vocabulary(self) -> int:
        """Tokens of captions."""
        return self.text.vocab_size

    def image_groups(self) -> dict[str, int]:
        """Parameters of the image tower and of its projection, by role."""
        groups = self.image.param_groups()
        if self.image.projection_bias:
            groups["bias"] += self.d_embed
        own = {f"image_{name}": count for name, count in groups.items()}
        return {**own, "image_projection": self.image.d_model * self.d_embed}

    def image_met(self) -> dict[str, int]:
        """The same, times the positions of one image that meet them."""
        met = {f"image_{name}": count for name, count in self.image.params_met().items()}
        if self.image.projection_bias:
            met["image_bias"] += self.d_embed
        return {**met, "image_projection": self.image.d_model * self.d_embed}

    def text_groups(self) -> dict[str, int]:
        """Parameters of the text tower and of its projection, by role."""
        own = {f"text_{name}": count for name, count in self.text.param_groups().items()}
        return {**own, "text_projection": self.text.d_model * self.d_embed}

    def text_met(self) -> dict[str, int]:
        """The same, times the positions of one caption that meet them."""
        met = {f"text_{name}": count for name, count in self.text.params_met().items()}
        return {**met, "text_projection": self.text.d_model * self.d_embed}

    def image_macs(self) -> int:
        """Multiply-adds of one image, projection included."""
        return self.image.forward_flops() // 2 + self.image.d_model * self.d_embed

    def train_flops_per_unit(self, batch_size: int) -> dict[str, int]:
        """Training FLOPs per image-text pair under every convention of `FLOPS_FORMULA`.

        In the 6ND columns a parameter counts once for each position it meets: a tower's weights
        for every patch or token, the projections once. Three times forward counts a gradient with
        respect to the pixels that is not computed; it is the patch matrix's forward cost, under
        1 % even with one layer of width 16.

        Args:
            batch_size: pairs contrasted with each other (over all ranks).
        """
        check_batch(batch_size)
        shared = 2 * self.image_macs() + self._meeting_flops(batch_size)
        met = self.params_met()
        total = sum(met.values())
        tables = sum(n for name, n in met.items() if name.endswith("embedding"))
        return {
            "flops": 3 * (shared + self._text_flops(causal=False)),
            "flops_causal": 3 * (shared + self._text_flops(causal=True)),
            "flops_6nd": 6 * total,
            "flops_6nd_non_embedding": 6 * (total - tables),
            "flops_6nd_matmul": 6 * sum(n for name, n in met.items() if self._is_matmul(name)),
        }
