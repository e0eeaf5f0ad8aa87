"""Parameters and training FLOPs of GPT and CLIP from plain integers, without torch.

Scaling laws disagree chiefly because they count differently (Porian et al. 2024; Pearce & Song
2024), so nothing here returns one number called N or C: parameters come as a dict of groups, and
compute as one entry per convention. Being free of torch, a sweep can be priced before it is run.

Counting rules, used throughout:

- One multiply-add is two FLOPs. The backward pass costs twice the forward one (a gradient for the
  input and one for the weight of each matrix product), so training is three times forward: the 6
  of C = 6 N D.
- Only matrix products count. Norms, GELU, softmax, biases, look-ups and the optimizer are left
  out; they grow with the width where the products grow with its square.
- A table that is looked up costs nothing; a tied output head is a matrix product and does cost.

Sources: Kaplan et al. 2020, Sec. 2.1 and Table 1 (non-embedding N, causal half of attention);
Hoffmann et al. 2022, App. F (embedding and head counted, full attention); Chowdhery et al. 2022,
App. B (6 N + 12 L H Q T per token, attention not halved).
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import ClassVar

FLOPS_FORMULA: dict[str, str] = {
    "flops": "matrix products and full T x T attention, head included, forward + backward = 3 x "
    "forward (Chowdhery et al. 2022, App. B)",
    "flops_causal": "as flops, with half of the attention term where the mask is causal "
    "(Kaplan et al. 2020, Table 1)",
    "flops_6nd": "6 * n_params_total * D, embeddings included (Brown et al. 2020, App. D)",
    "flops_6nd_non_embedding": "6 * n_params_non_embedding * D (Kaplan et al. 2020, Eq. 2.2)",
    "flops_6nd_matmul": "6 * n_params_matmul * D: linear weights with the output head, no look-ups",
}
"""What each compute column counts; stored beside the numbers."""

# Groups that are tables: looked up or added, never multiplied by an activation (the tied GPT head
# is the exception and is handled in GPTShape).
EMBEDDING_GROUPS = ("token_embedding", "position_embedding", "class_embedding")
# Groups that are matrices applied to activations.
MATMUL_GROUPS = ("patch", "attention", "mlp", "projection")


def _check_positive(shape: object) -> None:
    """Refuse anything but positive integers, with the name of the field."""
    for field in fields(shape):  # type: ignore[arg-type]
        value = getattr(shape, field.name)
        if isinstance(value, _NESTED) or (field.name == "d_ff" and value is None):
            continue
        if isinstance(value, bool) or not isinstance(value, int) or value <= 0:
            raise ValueError(
                f"{type(shape).__name__}.{field.name} must be a positive integer, got {value!r}; "
                "set it in the model or data config"
            )


def _check_heads(shape: object, n_head: int, d_model: int) -> None:
    if d_model % n_head:
        near = [n for n in range(1, d_model + 1) if d_model % n == 0]
        remedy = min(near, key=lambda n: abs(n - n_head))
        raise ValueError(
            f"{type(shape).__name__}: n_head={n_head} does not divide d_model={d_model}; "
            f"the nearest number of heads that does is {remedy}"
        )


def _block_groups(n_layer: int, d_model: int, d_ff: int) -> dict[str, int]:
    """Parameters of `n_layer` pre-LN blocks by role (two norms, fused qkv, output, two MLPs)."""
    return {
        "attention": n_layer * 4 * d_model * d_model,
        "mlp": n_layer * 2 * d_model * d_ff,
        "bias": n_layer * (3 * d_model + d_model + d_ff + d_model),
        "norm": n_layer * 2 * 2 * d_model,
    }


def _block_forward_flops(n_layer: int, d_model: int, d_ff: int, n_keys: float) -> int:
    """Forward FLOPs of `n_layer` blocks for one position that attends to `n_keys` positions.

    Scores and the weighted sum each take d_model multiply-adds per key, over all heads together.
    """
    weights = 4 * d_model * d_model + 2 * d_model * d_ff
    return n_layer * (2 * weights + round(4 * d_model * n_keys))


@dataclass(frozen=True)
class GPTShape:
    """Size of a GPT: pre-LN blocks, learned positions, output head tied to the token embedding."""

    n_layer: int
    n_head: int
    d_model: int
    vocab_size: int
    seq_len: int  # positions, the longest context
    d_ff: int | None = None  # 4 * d_model if None

    family: ClassVar[str] = "gpt"
    unit: ClassVar[str] = "tokens"

    def __post_init__(self) -> None:
        _check_positive(self)
        _check_heads(self, self.n_head, self.d_model)

    @property
    def label(self) -> str:
        """Layers x width, e.g. "gpt_4x128"."""
        return f"gpt_{self.n_layer}x{self.d_model}"

    @property
    def d_hidden(self) -> int:
        """Width of the MLP's hidden layer: `d_ff`, or its default of 4 * d_model."""
        return self.d_ff or 4 * self.d_model

    @property
    def d_head(self) -> int:
        return self.d_model // self.n_head

    def param_groups(self) -> dict[str, int]:
        """Parameters by role; the sum is `n_params_total`."""
        groups = _block_groups(self.n_layer, self.d_model, self.d_hidden)
        groups["norm"] += 2 * self.d_model  # the norm before the head
        return {
            "token_embedding": self.vocab_size * self.d_model,  # also the output head
            "position_embedding": self.seq_len * self.d_model,
            **groups,
        }

    @property
    def n_params_total(self) -> int:
        """Every trained number, the tied embedding once."""
        return sum(self.param_groups().values())

    @property
    def n_params_non_embedding(self) -> int:
        """Total without token and position tables (Kaplan et al. 2020), biases and norms kept."""
        return self.n_params_total - _sum_of(self.param_groups(), EMBEDDING_GROUPS)

    @property
    def n_params_matmul(self) -> int:
        """Weights that multiply activations: the blocks' matrices and the tied output head."""
        groups = self.param_groups()
        return _sum_of(groups, MATMUL_GROUPS) + groups["token_embedding"]

    def train_flops_per_unit(self, batch_size: int = 1) -> dict[str, int]:
        """Training FLOPs per token under every convention of `FLOPS_FORMULA`.

        `flops` is 6 * n_params_matmul + 12 * n_layer * d_model * seq_len: every query meets every
        key. `flops_causal` halves the second term as Kaplan et al. do; the mean number of keys
        under a causal mask is (seq_len + 1) / 2, so this is low by one key in seq_len.

        Args:
            batch_size: sequences per step; no effect, present so that both families answer the
                same call.
        """
        head = 2 * self.vocab_size * self.d_model
        sizes = (self.n_layer, self.d_model, self.d_hidden)
        return {
            "flops": 3 * (_block_forward_flops(*sizes, self.seq_len) + head),
            "flops_causal": 3 * (_block_forward_flops(*sizes, self.seq_len / 2) + head),
            "flops_6nd": 6 * self.n_params_total,
            "flops_6nd_non_embedding": 6 * self.n_params_non_embedding,
            "flops_6nd_matmul": 6 * self.n_params_matmul,
        }


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
        _check_positive(self)
        _check_heads(self, self.n_head, self.d_model)
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
        groups = _block_groups(self.n_layer, self.d_model, self.d_hidden)
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
        return patches + self.n_positions * _block_forward_flops(*sizes, self.n_positions)


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
        _check_positive(self)
        _check_heads(self, self.n_head, self.d_model)

    @property
    def d_hidden(self) -> int:
        """Width of the MLP's hidden layer: `d_ff`, or its default of 4 * d_model."""
        return self.d_ff or 4 * self.d_model

    @property
    def d_head(self) -> int:
        return self.d_model // self.n_head

    def param_groups(self) -> dict[str, int]:
        """Parameters by role, without the projection into the joint space."""
        groups = _block_groups(self.n_layer, self.d_model, self.d_hidden)
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
        return self.seq_len * _block_forward_flops(*sizes, n_keys)


@dataclass(frozen=True)
class CLIPShape:
    """Size of a CLIP: two towers, a projection of each into a joint space, one temperature."""

    d_embed: int  # width of the joint space
    image: VisionShape
    text: TextShape

    family: ClassVar[str] = "clip"
    unit: ClassVar[str] = "samples"

    def __post_init__(self) -> None:
        _check_positive(self)

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
        return self.n_params_total - _sum_of(groups, _both_towers(EMBEDDING_GROUPS))

    @property
    def n_params_matmul(self) -> int:
        """Weights that multiply activations: patch, attention, MLP and projection matrices."""
        return _sum_of(self.param_groups(), _both_towers(MATMUL_GROUPS))

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
        _check_batch(batch_size)
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
            "flops_6nd_non_embedding": 6 * (total - _sum_of(met, _both_towers(EMBEDDING_GROUPS))),
            "flops_6nd_matmul": 6 * _sum_of(met, _both_towers(MATMUL_GROUPS)),
        }


Shape = GPTShape | CLIPShape

_NESTED = (VisionShape, TextShape)


def _check_batch(batch_size: int) -> None:
    if isinstance(batch_size, bool) or not isinstance(batch_size, int) or batch_size <= 0:
        raise ValueError(f"batch_size must be a positive integer, got {batch_size!r}")


def _both_towers(names: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(f"{tower}_{name}" for tower in ("image", "text") for name in names)


def _sum_of(groups: Mapping[str, int], names: tuple[str, ...]) -> int:
    return sum(count for name, count in groups.items() if name in names)
