"""Sizes of the towers that CLIP combines: two kinds that see, two kinds that read."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from fmscale.sizing.architecture import Recipe
from fmscale.sizing.counting import block_forward_flops, block_groups, check_heads, check_positive

ACTIVATIONS = ("gelu", "gelu_exact", "quick_gelu")


@dataclass(frozen=True)
class TransformerWidths:
    """What both Transformer towers derive from their sizes."""

    n_layer: int
    n_head: int
    d_model: int
    d_ff: int | None = None  # 4 * d_model if None
    activation: str = "gelu"  # of the MLP: gelu (tanh form), gelu_exact or quick_gelu

    def __post_init__(self) -> None:
        check_positive(self)
        if self.activation not in ACTIVATIONS:
            raise ValueError(
                f"{type(self).__name__}.activation={self.activation!r} is not known; use "
                f"{', '.join(ACTIVATIONS)}"
            )
        check_heads(self, self.n_head, self.d_model)

    @property
    def d_hidden(self) -> int:
        """Width of the MLP's hidden layer: `d_ff`, or its default of 4 * d_model."""
        return self.d_ff or 4 * self.d_model

    @property
    def recipe(self) -> Recipe:
        """Architecture of the blocks."""
        return Recipe(mlp=self.activation)

    @property
    def d_head(self) -> int:
        return self.d_model // self.n_head

    def unread_flops(self, n_positions: int) -> int:
        """Forward FLOPs that the last block of a tower does not take at `n_positions` positions,
        because it is read at one: query, output, MLP and attention of all others.

        `forward_flops` counts them all the same, as published counts do, so that sizes compare.
        """
        weights = 2 * self.d_model**2 + 2 * self.d_model * self.d_hidden
        return (n_positions - 1) * (2 * weights + 4 * self.d_model * n_positions)

    @property
    def label(self) -> str:
        """Layers x width."""
        return f"{self.n_layer}x{self.d_model}"


@dataclass(frozen=True, kw_only=True)
class VisionShape(TransformerWidths):
    """Size of a Vision Transformer tower: patches and a class token, no causal mask."""

    image_size: int  # pixels, square
    patch_size: int  # pixels, square
    n_channels: int = 3

    projection_bias: ClassVar[bool] = False  # of the map into the joint space

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.image_size % self.patch_size:
            good = [p for p in range(1, self.image_size + 1) if self.image_size % p == 0]
            raise ValueError(
                f"VisionShape: patch_size={self.patch_size} does not divide "
                f"image_size={self.image_size}; patch sizes that do: {good}"
            )

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

    def params_met(self) -> dict[str, int]:
        """Parameters of each group times the positions of one image that meet them."""
        met = {name: count * self.n_positions for name, count in self.param_groups().items()}
        # The class token is not a patch.
        return {**met, "patch": self.param_groups()["patch"] * self.n_patches}

    def forward_flops(self) -> int:
        """Forward FLOPs for one image, the last block at every position; see `unread_flops`."""
        patches = self.n_patches * 2 * self.n_channels * self.patch_size**2 * self.d_model
        sizes = (self.n_layer, self.d_model, self.d_hidden)
        return patches + self.n_positions * block_forward_flops(*sizes, self.n_positions)


@dataclass(frozen=True)
class ResNetShape:
    """Size of CLIP's residual network (Radford et al. 2021, Sec. 2.4, after He et al. 2019).

    A stem of three convolutions, stages of bottleneck blocks that double in width and halve the
    image, and attention pooling. Four stages are the published ones; small images take fewer.
    """

    image_size: int  # pixels, square
    width: int  # channels after the stem
    n_blocks: tuple[int, ...]  # bottleneck blocks of each stage
    n_head: int | None = None  # of the attention pool; d_model / 64 if None, at least 1
    n_channels: int = 3

    projection_bias: ClassVar[bool] = True  # the attention pool's output matrix has one
    EXPANSION: ClassVar[int] = 4

    def __post_init__(self) -> None:
        object.__setattr__(self, "n_blocks", tuple(self.n_blocks))
        check_positive(self)
        if not self.n_blocks:
            raise ValueError("ResNetShape.n_blocks is empty; give the blocks of each stage")
        check_heads(self, self.heads, self.d_model)
        if self.width % 2:
            raise ValueError(f"ResNetShape: width={self.width} is odd; the stem halves it")
        if self.image_size % self.stride:
            raise ValueError(
                f"ResNetShape: {len(self.n_blocks)} stages shrink the image {self.stride}-fold, "
                f"which does not divide image_size={self.image_size}; use fewer stages"
            )

    @property
    def stride(self) -> int:
        """By how much the image shrinks along each axis: 4 in the stem, 2 in each later stage."""
        return 4 << (len(self.n_blocks) - 1)

    @property
    def d_model(self) -> int:
        """Channels of the last stage."""
        return (self.width * self.EXPANSION) << (len(self.n_blocks) - 1)

    @property
    def heads(self) -> int:
        return self.n_head or max(1, self.d_model // 64)

    @property
    def n_positions(self) -> int:
        """Positions of the attention pool: the last feature map and its mean."""
        return (self.image_size // self.stride) ** 2 + 1

    @property
    def label(self) -> str:
        """Blocks of each stage x width of the stem."""
        return f"rn{'-'.join(map(str, self.n_blocks))}x{self.width}"

    def convolutions(self) -> Iterator[tuple[int, int, int]]:
        """Weights and output channels of each convolution, and its number of positions."""
        size, w = self.image_size // 2, self.width
        stem = ((self.n_channels, w // 2), (w // 2, w // 2), (w // 2, w))
        for inside, outside in stem:
            yield 9 * inside * outside, outside, size**2
        size, inside = size // 2, w
        for stage, n_blocks in enumerate(self.n_blocks):
            planes = w * 2**stage
            for block in range(n_blocks):
                shrink = 2 if stage and not block else 1
                outside = self.EXPANSION * planes
                yield inside * planes, planes, size**2
                yield 9 * planes**2, planes, size**2
                size //= shrink
                yield planes * outside, outside, size**2
                if shrink > 1 or inside != outside:
                    yield inside * outside, outside, size**2
                inside = outside

    def param_groups(self) -> dict[str, int]:
        """Parameters by role; the pool's output matrix is the projection of `CLIPShape`."""
        return {
            "conv": sum(weights for weights, _, _ in self.convolutions()),
            "norm": 2 * sum(channels for _, channels, _ in self.convolutions()),
            "position_embedding": self.n_positions * self.d_model,
            "attention": 3 * self.d_model**2,
            "bias": 3 * self.d_model,
        }

    def params_met(self) -> dict[str, int]:
        """Parameters of each group times the positions of one image that meet them.

        The pool has one query; keys and values are taken at every position. Gains and biases
        are counted with the positions of the last feature map.
        """
        groups = self.param_groups()
        met = {name: groups[name] * self.n_positions for name in ("norm", "position_embedding")}
        return {
            "conv": sum(weights * positions for weights, _, positions in self.convolutions()),
            "attention": self.d_model**2 * (1 + 2 * self.n_positions),
            "bias": self.d_model * (1 + 2 * self.n_positions),
            **met,
        }

    def forward_flops(self) -> int:
        """Forward FLOPs for one image, twice the multiply-adds that CLIP's paper calls FLOPs."""
        met = self.params_met()
        return 2 * (met["conv"] + met["attention"]) + 4 * self.d_model * self.n_positions


@dataclass(frozen=True, kw_only=True)
class TextShape(TransformerWidths):
    """Size of CLIP's text Transformer: causal blocks, read at the end-of-text token."""

    vocab_size: int
    seq_len: int  # positions, end-of-text included

    def param_groups(self) -> dict[str, int]:
        """Parameters by role, without the projection into the joint space."""
        groups = block_groups(self.n_layer, self.d_model, self.d_hidden)
        groups["norm"] += 2 * self.d_model  # the norm after the blocks
        return {
            "token_embedding": self.vocab_size * self.d_model,  # no output head in CLIP
            "position_embedding": self.seq_len * self.d_model,
            **groups,
        }

    def params_met(self) -> dict[str, int]:
        """Parameters of each group times the positions of one caption that meet them."""
        return {name: count * self.seq_len for name, count in self.param_groups().items()}

    def forward_flops(self, causal: bool = False) -> int:
        """Forward FLOPs for one caption, padding too; `causal` counts half of the attention."""
        n_keys = self.seq_len / 2 if causal else self.seq_len
        sizes = (self.n_layer, self.d_model, self.d_hidden)
        return self.seq_len * block_forward_flops(*sizes, n_keys)


@dataclass(frozen=True)
class BagShape:
    """Size of a continuous bag of words: the mean of the words' vectors, blind to their order."""

    vocab_size: int
    seq_len: int
    d_model: int

    def __post_init__(self) -> None:
        check_positive(self)

    @property
    def label(self) -> str:
        return f"bag{self.d_model}"

    def param_groups(self) -> dict[str, int]:
        """Parameters by role: one table."""
        return {"token_embedding": self.vocab_size * self.d_model}

    def params_met(self) -> dict[str, int]:
        """Parameters times the positions of one caption that look them up."""
        return {name: count * self.seq_len for name, count in self.param_groups().items()}

    def forward_flops(self, causal: bool = False) -> int:
        """No matrix product: 0."""
        return 0


ImageShape = VisionShape | ResNetShape
CaptionShape = TextShape | BagShape
