"""Size of CLIP and of its two towers."""

from dataclasses import dataclass
from typing import ClassVar

from fmscale.sizing.counting import (
    EMBEDDING_GROUPS,
    MATMUL_GROUPS,
    block_forward_flops,
    block_groups,
    check_batch,
    check_heads,
    check_positive,
    sum_of,
)


@dataclass(frozen=True)
class VisionShape:
    """Size of a Vision Transformer tower: patches and a class token, no causal mask."""

    image_size: int  # pixels, square
    patch_size: int  # pixels, square
    n_layer: int
    n_head: int
    d_model: int
    d_ff: int | None = None  # 4 * d_model if None
    n_channels: int = 3

    def __post_init__(self) -> None:
        check_positive(self)
        check_heads(self, self.n_head, self.d_model)
        if self.image_size % self.patch_size:
            good = [p for p in range(1, self.image_size + 1) if self.image_size % p == 0]
            raise ValueError(
                f"VisionShape: patch_size={self.patch_size} does not divide "
                f"image_size={self.image_size}; patch sizes that do: {good}"
            )

    @property
    def d_hidden(self) -> int:
        """Width of the MLP's hidden layer: `d_ff`, or its default of 4 * d_model."""
        return self.d_ff or 4 * self.d_model

    @property
    def d_head(self) -> int:
        return self.d_model // self.n_head

    @property
    def n_patches(self) -> int:
        return (self.image_size // self.patch_size) ** 2

    @property
    def n_positions(self) -> int:
        """Positions the blocks see: the patches and the class token."""
        return self.n_patches + 1

    def param_groups(self) -> dict[str, int]:
        """Parameters by role, without the projection into the joint space."""
        groups = block_groups(self.n_layer, self.d_model, self.d_hidden)
        groups["norm"] += 2 * 2 * self.d_model  # one norm before the blocks, one after
        return {
            "patch": self.n_channels * self.patch_size**2 * self.d_model,  # no bias
            "class_embedding": self.d_model,
            "position_embedding": self.n_positions * self.d_model,
            **groups,
        }

    def forward_flops(self) -> int:
        """Forward FLOPs for one image."""
        patches = self.n_patches * 2 * self.n_channels * self.patch_size**2 * self.d_model
        sizes = (self.n_layer, self.d_model, self.d_hidden)
        return patches + self.n_positions * block_forward_flops(*sizes, self.n_positions)


@dataclass(frozen=True)
class TextShape:
    """Size of CLIP's text tower: causal blocks, read at the end-of-text token."""

    vocab_size: int
    seq_len: int  # positions, end-of-text included
    n_layer: int
    n_head: int
    d_model: int
    d_ff: int | None = None  # 4 * d_model if None

    def __post_init__(self) -> None:
        check_positive(self)
        check_heads(self, self.n_head, self.d_model)

    @property
    def d_hidden(self) -> int:
        """Width of the MLP's hidden layer: `d_ff`, or its default of 4 * d_model."""
        return self.d_ff or 4 * self.d_model

    @property
    def d_head(self) -> int:
        return self.d_model // self.n_head

    def param_groups(self) -> dict[str, int]:
        """Parameters by role, without the projection into the joint space."""
        groups = block_groups(self.n_layer, self.d_model, self.d_hidden)
        groups["norm"] += 2 * self.d_model  # the norm after the blocks
        return {
            "token_embedding": self.vocab_size * self.d_model,  # no output head in CLIP
            "position_embedding": self.seq_len * self.d_model,
            **groups,
        }

    def forward_flops(self, causal: bool = False) -> int:
        """Forward FLOPs for one caption, every position counted, padding too.

        Args:
            causal: count half of the attention term.
        """
        n_keys = self.seq_len / 2 if causal else self.seq_len
        sizes = (self.n_layer, self.d_model, self.d_hidden)
        return self.seq_len * block_forward_flops(*sizes, n_keys)


@dataclass(frozen=True)
class CLIPShape:
    """Size of a CLIP: two towers, a projection of each into a joint space, one temperature."""

    d_embed: int  # width of the joint space
    image: VisionShape
    text: TextShape

    family: ClassVar[str] = "clip"
    unit: ClassVar[str] = "samples"

    def __post_init__(self) -> None:
        check_positive(self)

    @property
    def label(self) -> str:
        """Layers x width of the image tower, and of the text tower where it differs."""
        label = f"clip_{self.image.n_layer}x{self.image.d_model}"
        if (self.text.n_layer, self.text.d_model) != (self.image.n_layer, self.image.d_model):
            label += f"+{self.text.n_layer}x{self.text.d_model}"
        return label

    def param_groups(self) -> dict[str, int]:
        """Parameters by tower and role (`image_mlp`, ...); the sum is `n_params_total`."""
        return {
            **{f"image_{name}": count for name, count in self.image.param_groups().items()},
            "image_projection": self.image.d_model * self.d_embed,
            **{f"text_{name}": count for name, count in self.text.param_groups().items()},
            "text_projection": self.text.d_model * self.d_embed,
            "temperature": 1,
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

    def _positions(self) -> dict[str, int]:
        """How many positions of one image-text pair each parameter group meets."""
        positions = {name: 1 for name in self.param_groups()}  # projections, temperature
        for name in self.image.param_groups():
            positions[f"image_{name}"] = self.image.n_positions
        for name in self.text.param_groups():
            positions[f"text_{name}"] = self.text.seq_len
        positions["image_patch"] = self.image.n_patches  # the class token is not a patch
        return positions

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
        groups, positions = self.param_groups(), self._positions()
        met = {name: count * positions[name] for name, count in groups.items()}
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
