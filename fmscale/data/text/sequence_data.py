"""Batches of token sequences: what all training sets of stored tokens do alike."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from fmscale.data.protocol import TextData
from fmscale.data.text.token_sequences import TokenSequences

if TYPE_CHECKING:
    from torch import Tensor


class SequenceData(TextData):
    """A training and a validation split of tokens, with the data budget applied."""

    n_unique_tokens: int | None

    @abstractmethod
    def _arrays(self, split: str) -> list[np.ndarray]:
        """Token ids (n,) of the split "train" or "validation", memory-mapped."""

    @property
    @abstractmethod
    def _held_out(self) -> np.ndarray:
        """Numbers (n,) of the sequences that every model is measured on."""

    @cached_property
    def _train(self) -> TokenSequences:
        """All training sequences, before the data budget."""
        return TokenSequences(self._arrays("train"), self.seq_len, "training")

    @cached_property
    def _validation(self) -> TokenSequences:
        """All sequences that are held out."""
        return TokenSequences(self._arrays("validation"), self.seq_len, "validation")

    @cached_property
    def _subset(self) -> np.ndarray | None:
        return self._train.subset(self.n_unique_tokens)

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
