"""Languages whose true probabilities are known, so that a model's regret can be measured.

A sequence is a pure function of (seed, index): nothing is stored, and the validation sequences
are indices that training never draws. A language states the exact log-probability of every token
given those before it (its oracle); cross-entropy minus the oracle's on the same tokens is the
regret, in which most sampling noise cancels and no floor has to be fitted.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from fmscale.data.counter_random import random_uniform
from fmscale.data.protocol import TextData
from fmscale.data.text.token_sequences import check_sizes

if TYPE_CHECKING:
    from torch import Tensor

# Sequences of the validation set start here: no training set has as many items.
VALIDATION_START = 1 << 40
_SEQUENCES = 1  # stream of the random numbers that sequences are made of


class KnownLanguage(TextData):
    """A language over symbols 0..n_symbols-1; token n_symbols starts every sequence.

    Args:
        n_symbols: size of the alphabet.
        vocab_size: n_symbols + 1.
        seed: of the language (its tables) and of its sequences, not of the run.
        n_unique_tokens: data budget U.
        rest: see `TextData`.

    Raises:
        ValueError: naming the field, for sizes that do not fit together.
    """

    name: ClassVar[str]
    val_bytes_per_token: float | None = None  # symbols are no bytes

    def __init__(
        self,
        n_symbols: int,
        seq_len: int,
        vocab_size: int,
        seed: int = 0,
        n_unique_tokens: int = 1 << 26,
        n_val_tokens: int = 65_536,
        val_batch_size: int = 64,
    ) -> None:
        if n_symbols < 2:
            raise ValueError(f"data.n_symbols = {n_symbols}: a language needs at least 2.")
        if vocab_size != n_symbols + 1:
            raise ValueError(
                f"data.vocab_size = {vocab_size}, but {n_symbols} symbols and one start token make "
                f"{n_symbols + 1}. Set data.vocab_size={n_symbols + 1}."
            )
        check_sizes(seq_len, val_batch_size, n_val_tokens, n_unique_tokens)
        self.n_symbols = n_symbols
        self.seq_len = seq_len
        self.vocab_size = vocab_size
        self.seed = seed
        self.n_unique_tokens = n_unique_tokens
        self.n_val_tokens = n_val_tokens
        self.val_batch_size = val_batch_size

    @property
    @abstractmethod
    def n_draws(self) -> int:
        """Uniform numbers that one sequence is made of."""

    @property
    @abstractmethod
    def entropy(self) -> float | None:
        """Exact mean nats per token of the oracle; None where it has no closed form."""

    @abstractmethod
    def draw(self, uniform: np.ndarray) -> np.ndarray:
        """Symbols (B, seq_len) from uniform numbers (B, n_draws)."""

    @abstractmethod
    def log_probabilities(self, symbols: np.ndarray) -> np.ndarray:
        """log p(symbol t | symbols before t) in nats, (B, seq_len) from (B, seq_len)."""

    @property
    def n_items(self) -> int:
        """Distinct training sequences."""
        return self.n_unique_tokens // self.seq_len

    def prepare(self) -> None:
        """Nothing is cached: sequences are made when they are asked for."""

    def sequences(self, indices: np.ndarray) -> np.ndarray:
        """Symbols of the given items, (B, seq_len)."""
        return self.draw(random_uniform(self.seed, _SEQUENCES, indices, self.n_draws))

    def train_batch(self, indices: np.ndarray) -> dict[str, Tensor]:
        """Sequences with their start token: {"tokens": (B, seq_len + 1) int64}."""
        import torch

        symbols = self.sequences(indices)
        start = np.full((len(symbols), 1), self.n_symbols)
        tokens = np.concatenate([start, symbols], axis=1).astype(np.int64)
        return {"tokens": torch.from_numpy(tokens)}

    def validation_batches(self, batch_size: int) -> Iterator[dict[str, Tensor]]:
        """The fixed validation sequences in order; the last batch may be short."""
        indices = VALIDATION_START + np.arange(self.n_val_tokens // self.seq_len)
        for first in range(0, len(indices), batch_size):
            yield self.train_batch(indices[first : first + batch_size])

    def oracle_nats(self, tokens: Tensor) -> Tensor:
        """True cross-entropy of each predicted token, (B, seq_len) from (B, seq_len + 1)."""
        import torch

        return torch.from_numpy(-self.log_probabilities(tokens[:, 1:].cpu().numpy()))

    def describe(self) -> dict[str, object]:
        """Settings and true entropy, as stored in every record."""
        settings = {k: v for k, v in vars(self).items() if isinstance(v, (int, float, str))}
        return {"name": self.name, "tokenizer": f"symbols-{self.n_symbols}", **settings,
                "entropy_nats": self.entropy}  # fmt: skip


def pick(cumulative: np.ndarray, uniform: np.ndarray) -> np.ndarray:
    """Symbols (B,) whose cumulative probabilities (B, n_symbols) first exceed `uniform` (B,)."""
    last = cumulative.shape[1] - 1  # rounding may leave the last sum below 1
    return np.minimum((uniform[:, None] >= cumulative).sum(axis=1), last)


def random_rows(seed: int, stream: int, n_rows: int, n_columns: int, power: float) -> np.ndarray:
    """Random distributions (n_rows, n_columns): exponential variates to a power, normalised.

    With power 1 rows are uniform on the simplex, that is, Dirichlet(1, ..., 1); a larger power
    makes them sparser.
    """
    uniform = random_uniform(seed, stream, np.arange(n_rows), n_columns)
    weights = (-np.log1p(-uniform)) ** power
    return weights / weights.sum(axis=1, keepdims=True)
