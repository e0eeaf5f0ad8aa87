"""Batches of token sequences: what all training sets of stored tokens do alike."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from functools import cached_property
from typing import TYPE_CHECKING, Literal

import numpy as np

from fmscale.data.text.token_sequences import TokenSequences

if TYPE_CHECKING:
    from torch import Tensor


class SequenceData(ABC):
    """A training and a validation split of tokens, with the data budget applied."""

    unit: Literal["tokens"] = "tokens"
    seq_len: int
    n_unique_tokens: int | None

    @property
    @abstractmethod
    def _train(self) -> TokenSequences:
        """All training sequences, before the data budget."""

    @property
    @abstractmethod
    def _validation(self) -> TokenSequences:
        """All sequences that are held out."""

    @property
    @abstractmethod
    def _held_out(self) -> np.ndarray:
        """Numbers (n,) of the sequences that every model is measured on."""

    @cached_property
    def _subset(self) -> np.ndarray | None:
        return self._train.subset(self.n_unique_tokens)

    @property
    def units_per_item(self) -> int:
        """Tokens predicted by one sequence."""
        return self.seq_len

    @property
    def n_items(self) -> int:
        """Distinct training sequences after the data budget."""
        return self._train.n_sequences if self._subset is None else len(self._subset)

    def train_batch(self, indices: np.ndarray) -> dict[str, Tensor]:
        """Sequences of the given items: {"tokens": (B, seq_len + 1) int64}."""
        numbers = indices if self._subset is None else self._subset[indices]
        return as_batch(self._train.rows(numbers))

    def validation_batches(self, batch_size: int) -> Iterator[dict[str, Tensor]]:
        """The fixed validation sequences in order; the last batch may be short."""
        for first in range(0, len(self._held_out), batch_size):
            yield as_batch(self._validation.rows(self._held_out[first : first + batch_size]))


def as_batch(rows: np.ndarray) -> dict[str, Tensor]:
    """Token ids (B, seq_len + 1) as what a language model is trained on."""
    # torch comes late, so that a process that only counts the data need not load it.
    import torch

    return {"tokens": torch.from_numpy(rows.astype(np.int64))}
