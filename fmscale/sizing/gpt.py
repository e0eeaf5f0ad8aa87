"""Size of a GPT."""

from dataclasses import dataclass
from typing import ClassVar

from fmscale.sizing.counting import (
    EMBEDDING_GROUPS,
    MATMUL_GROUPS,
    block_forward_flops,
    block_groups,
    check_heads,
    check_positive,
    sum_of,
)


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
        check_positive(self)
        check_heads(self, self.n_head, self.d_model)

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
        groups = block_groups(self.n_layer, self.d_model, self.d_hidden)
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
        return self.n_params_total - sum_of(self.param_groups(), EMBEDDING_GROUPS)

    @property
    def n_params_matmul(self) -> int:
        """Weights that multiply activations: the blocks' matrices and the tied output head."""
        groups = self.param_groups()
        return sum_of(groups, MATMUL_GROUPS) + groups["token_embedding"]

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
            "flops": 3 * (block_forward_flops(*sizes, self.seq_len) + head),
            "flops_causal": 3 * (block_forward_flops(*sizes, self.seq_len / 2) + head),
            "flops_6nd": 6 * self.n_params_total,
            "flops_6nd_non_embedding": 6 * self.n_params_non_embedding,
            "flops_6nd_matmul": 6 * self.n_params_matmul,
        }
