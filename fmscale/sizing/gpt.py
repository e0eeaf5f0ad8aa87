"""Size of a GPT."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from fmscale.sizing.architecture import GPT2, Recipe
from fmscale.sizing.counting import check_heads, check_positive
from fmscale.sizing.shape import TokenShape


@dataclass(frozen=True)
class GPTShape(TokenShape):
    """Size of a GPT: blocks of a recipe, by default GPT-2's."""

    n_layer: int
    n_head: int
    d_model: int
    vocab_size: int
    seq_len: int  # positions, the longest context
    d_ff: int | None = None  # if None, as many MLP parameters as two matrices of 4 * d_model have
    recipe: Recipe = GPT2

    family: ClassVar[str] = "gpt"

    def __post_init__(self) -> None:
        check_positive(self)
        check_heads(self, self.n_head, self.d_model)
        if self.recipe.rotary_width(self.d_head) > self.d_head:
            raise ValueError(f"GPTShape: heads of width {self.d_head} are too narrow to rotate")

    @property
    def label(self) -> str:
        """Layers x width, e.g. "gpt_4x128"."""
        return f"{self.recipe.name}_{self.n_layer}x{self.d_model}"

    @property
    def d_hidden(self) -> int:
        """Width of the MLP's hidden layer: `d_ff`, or its default.

        That is 4 * d_model; with SwiGLU's three matrices two thirds of it, in multiples of 8.
        """
        if self.d_ff is not None:
            return self.d_ff
        return -(-self.d_model // 3) * 8 if self.recipe.mlp == "swiglu" else 4 * self.d_model

    @property
    def d_head(self) -> int:
        return self.d_model // self.n_head

    def param_groups(self) -> dict[str, int]:
        """Parameters by role; the sum is `n_params_total`."""
        recipe, d_model = self.recipe, self.d_model
        hidden = (recipe.mlp_matrices - 1) * self.d_hidden  # width of the first product
        norms = 2 * self.n_layer + (recipe.residual != "post")  # the last before the head
        groups = {
            "token_embedding": self.vocab_size * d_model,  # also the output head where tied
            "position_embedding": self.seq_len * d_model,
            "output_embedding": self.vocab_size * d_model,
            "attention": self.n_layer * 4 * d_model * d_model,
            "mlp": self.n_layer * recipe.mlp_matrices * d_model * self.d_hidden,
            "bias": self.n_layer * (5 * d_model + hidden),
            "norm": norms * recipe.norm_size * d_model,
        }
        if recipe.qk_norm:
            groups["norm"] += self.n_layer * 2 * self.d_head
        absent = {
            "position_embedding": recipe.position != "learned",
            "output_embedding": recipe.tied,
            "bias": not recipe.bias,
        }
        return {name: count for name, count in groups.items() if not absent.get(name)}

    @property
    def n_params_matmul(self) -> int:
        """Weights that multiply activations: the blocks' matrices and the output head."""
        return super().n_params_matmul + self.vocab_size * self.d_model

    def n_keys(self, layer: int) -> int:
        """Positions that a query of a block meets, before the causal mask."""
        window = self.recipe.window_of(layer)
        return self.seq_len if window is None else min(window, self.seq_len)

    def n_keys_causal(self, layer: int) -> float:
        """Positions that a query of a block sees on average, itself counted as a half.

        seq_len / 2 in a dense block; under a window w it is w - w^2 / (2 seq_len).
        """
        n_keys = self.n_keys(layer)
        return n_keys - n_keys**2 / (2 * self.seq_len)

    def train_flops_per_unit(self, batch_size: int = 1) -> dict[str, int]:
        """Training FLOPs per token under every convention of `FLOPS_FORMULA`.

        `flops` is 6 * n_params_matmul + 12 * n_layer * d_model * seq_len: every query meets every
        key, or every key of its window in a banded block. `flops_causal` halves the second term as
        Kaplan et al. do; the mean number of keys under a causal mask is (seq_len + 1) / 2, so this
        is low by half a key. `batch_size` has no effect; other families need it.
        """
        # Scores and the weighted sum each take d_model multiply-adds per key; twice that backward.
        per_key = 12 * self.d_model
        full = sum(self.n_keys(layer) for layer in range(self.n_layer))
        causal = sum(self.n_keys_causal(layer) for layer in range(self.n_layer))
        weights = 6 * self.n_params_matmul
        return {
            "flops": weights + per_key * full,
            "flops_causal": weights + round(per_key * causal),
            "flops_6nd": 6 * self.n_params_total,
            "flops_6nd_non_embedding": 6 * self.n_params_non_embedding,
            "flops_6nd_matmul": weights,
        }
