"""Fixed-length sequences of token arrays, by number; nothing is kept but the arrays.

Sequences are cut at a stride of seq_len. One carries seq_len + 1 tokens: its last token is the
next one's first, so every token is predicted once. Arrays are not joined: the few tokens at the
end of each that fill no sequence are left out.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fmscale.data.counter_random import random_order

# Any fixed number; changing it changes which sequences a smaller data budget keeps.
_SUBSET_STREAM = 0x5B5E7


class TokenSequences:
    """All sequences of one split.

    Args:
        arrays: token ids (n_tokens,) each, usually memory-mapped.
        split: "training" or "validation", for messages.

    Raises:
        ValueError: if no array is long enough for one sequence.
    """

    def __init__(self, arrays: Sequence[np.ndarray], seq_len: int, split: str) -> None:
        self.arrays = arrays
        self.seq_len = seq_len
        self.split = split
        counts = [max(0, (len(array) - 1) // seq_len) for array in arrays]
        self.ends = np.cumsum(counts)
        if not self.n_sequences:
            n_tokens = sum(len(array) for array in arrays)
            raise ValueError(
                f"data.seq_len = {seq_len}, but the {split} text holds only {n_tokens} tokens. "
                "Lower data.seq_len or give more text in data.root."
            )

    @property
    def n_sequences(self) -> int:
        return int(self.ends[-1]) if len(self.ends) else 0

    def rows(self, numbers: np.ndarray, arrays: Sequence[np.ndarray] | None = None) -> np.ndarray:
        """Tokens of the given sequences, (B, seq_len + 1).

        Args:
            numbers: (B,), each in 0..n_sequences-1.
            arrays: other values of the same tokens, such as their bytes; None: the token ids.
        """
        arrays = self.arrays if arrays is None else arrays
        positions = np.arange(self.seq_len + 1)
        if len(arrays) == 1:
            return arrays[0][numbers[:, None] * self.seq_len + positions]
        which = np.searchsorted(self.ends, numbers, side="right")
        out = np.empty((len(numbers), self.seq_len + 1), dtype=arrays[0].dtype)
        for i in np.unique(which):
            mine = which == i
            first = self.ends[i - 1] if i else 0
            starts = (numbers[mine] - first) * self.seq_len
            out[mine] = arrays[i][starts[:, None] + positions]
        return out

    def subset(self, n_unique_tokens: int | None) -> np.ndarray | None:
        """Numbers (n,) of the sequences that a data budget keeps; None for all.

        They come in one fixed random order: a smaller budget is a subset of a larger one, and
        spans all documents.

        Raises:
            ValueError: if the text does not hold as much.
        """
        if n_unique_tokens is None:
            return None
        n_wanted = n_unique_tokens // self.seq_len
        if n_wanted > self.n_sequences:
            raise ValueError(
                f"data.n_unique_tokens = {n_unique_tokens}, but the training text holds only "
                f"{self.n_sequences * self.seq_len} tokens in whole sequences. Lower it, or set "
                "data.n_unique_tokens=null to take all."
            )
        return random_order(0, _SUBSET_STREAM, self.n_sequences)[:n_wanted]

    def spread(self, n_tokens: int) -> np.ndarray:
        """Numbers (n,) of sequences evenly spaced over the split, n_tokens together.

        Raises:
            ValueError: if the split does not hold as many.
        """
        n_wanted = n_tokens // self.seq_len
        if n_wanted > self.n_sequences:
            raise ValueError(
                f"data.n_val_tokens = {n_tokens}, but the validation text holds only "
                f"{self.n_sequences * self.seq_len} tokens in whole sequences. Lower it or raise "
                "data.val_fraction (of shards: --val-fraction when they are prepared)."
            )
        return np.arange(n_wanted, dtype=np.int64) * self.n_sequences // n_wanted


def check_sizes(
    seq_len: int, val_batch_size: int, n_val_tokens: int | None, n_unique_tokens: int | None
) -> None:
    """Refuse impossible settings of sequences, naming the field, the value and the remedy."""
    for field, value in (("seq_len", seq_len), ("val_batch_size", val_batch_size)):
        if value < 1:
            raise ValueError(f"data.{field} = {value}: give a whole number of at least 1.")
    for field, budget in (("n_val_tokens", n_val_tokens), ("n_unique_tokens", n_unique_tokens)):
        if budget is not None and budget < seq_len:
            raise ValueError(
                f"data.{field} = {budget} is less than one sequence of {seq_len} tokens. "
                "Give at least data.seq_len."
            )
