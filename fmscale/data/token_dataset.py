"""Byte-level text as fixed-length sequences, with the data budget applied.

Sequences are cut at a stride of seq_len from all documents laid end to end, one separator after
each, with no mask across documents (as in Brown et al. 2020, App. B). An item carries
seq_len + 1 tokens: its last token is the next item's first, so every token is predicted once.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from fmscale.data.counter_random import random_order
from fmscale.data.text_sources import SourceFiles, content_hash, split_by_file, split_tails
from fmscale.data.token_cache import TokenCache, build_cache, open_cache, settings_hash
from fmscale.data.tokenizer import ByteTokenizer

if TYPE_CHECKING:
    from torch import Tensor

SPLITS = {"by_file": split_by_file, "tail": split_tails}
# Any fixed number; changing it changes which sequences a smaller data budget keeps.
_SUBSET_STREAM = 0x5B5E7


class ByteText:
    """Text files as byte sequences for next-token prediction.

    Args:
        data_dir: where the token cache is kept, in `<name>-<hash>/`.
        seq_len: positions of one sequence.
        root: folder of text files; None means the Python standard library's own sources.
        suffixes: file name endings to take.
        name: the data set's name in records and in the cache folder's name.
        vocab_size: must be what the tokenizer has; stated so that the model can read it.
        split: "by_file" holds out whole files, "tail" the end of every file.
        val_fraction: share of the bytes that is held out for validation.
        n_val_tokens: size of the fixed validation set: sequences evenly spaced over the split.
        val_batch_size: sequences of one validation batch; it does not change the loss.
        n_unique_tokens: data budget U; None takes all. Sequences are kept in one fixed random
            order, so a smaller budget is a subset of a larger one and spans all documents.
    """

    unit: Literal["tokens"] = "tokens"

    def __init__(
        self,
        data_dir: str | os.PathLike[str],
        seq_len: int,
        root: str | os.PathLike[str] | None = None,
        suffixes: Sequence[str] = (".py",),
        name: str = "text",
        vocab_size: int = 256,
        split: Literal["by_file", "tail"] = "by_file",
        val_fraction: float = 0.06,
        n_val_tokens: int = 262_144,
        val_batch_size: int = 32,
        n_unique_tokens: int | None = None,
    ) -> None:
        self.tokenizer = ByteTokenizer()
        if vocab_size != self.tokenizer.vocab_size:
            raise ValueError(
                f"data.vocab_size = {vocab_size}, but the {self.tokenizer.name} tokenizer has "
                f"{self.tokenizer.vocab_size} tokens. Set data.vocab_size="
                f"{self.tokenizer.vocab_size}."
            )
        if split not in SPLITS:
            raise ValueError(f"data.split = {split!r}: choose one of {sorted(SPLITS)}.")
        if not 0 < val_fraction < 1:
            raise ValueError(f"data.val_fraction = {val_fraction}: give a share between 0 and 1.")
        for field, value in (("seq_len", seq_len), ("val_batch_size", val_batch_size)):
            if value < 1:
                raise ValueError(f"data.{field} = {value}: give a whole number of at least 1.")
        for field, budget in (("n_val_tokens", n_val_tokens), ("n_unique_tokens", n_unique_tokens)):
            if budget is not None and budget < seq_len:
                raise ValueError(
                    f"data.{field} = {budget} is less than one sequence of {seq_len} tokens. "
                    f"Give at least data.seq_len."
                )
        self.name = name
        self.seq_len = seq_len
        self.vocab_size = vocab_size
        self.split = split
        self.val_fraction = val_fraction
        self.n_val_tokens = n_val_tokens
        self.val_batch_size = val_batch_size
        self.n_unique_tokens = n_unique_tokens
        self.data_dir = Path(data_dir)
        # Listing the files now finds a missing or an empty folder before anything is computed.
        self.sources = SourceFiles(root, suffixes)

    @property
    def units_per_item(self) -> int:
        """Tokens predicted by one sequence."""
        return self.seq_len

    @property
    def n_items(self) -> int:
        """Distinct training sequences after the data budget."""
        return len(self._item_starts)

    @property
    def val_bytes_per_token(self) -> float:
        """Bytes that one validation token stands for; turns nats/token into bits/byte."""
        return 1.0  # the separator counts as a byte

    def prepare(self) -> None:
        """Build the token cache unless it is there; safe for several processes at once."""
        _ = self._cache

    def train_batch(self, indices: np.ndarray) -> dict[str, Tensor]:
        """Sequences of the given items: {"tokens": (B, seq_len + 1) int64}."""
        return self._gather(self._cache.train, self._item_starts[indices])

    def validation_batches(self, batch_size: int) -> Iterator[dict[str, Tensor]]:
        """The fixed validation sequences in order; the last batch may be short."""
        starts = self._val_starts
        for first in range(0, len(starts), batch_size):
            yield self._gather(self._cache.validation, starts[first : first + batch_size])

    def describe(self) -> dict[str, object]:
        """Counts and hashes of the text, as stored in every record."""
        return {
            "name": self.name,
            "tokenizer": self.tokenizer.name,
            "vocab_size": self.vocab_size,
            "seq_len": self.seq_len,
            "separator": self.tokenizer.separator,
            "n_unique_tokens": self.n_items * self.seq_len,
            "n_val_tokens": len(self._val_starts) * self.seq_len,
            "cache": self._cache.folder.name,
            **self._cache.manifest,
        }

    @cached_property
    def _cache(self) -> TokenCache:
        files = self.sources.read()
        settings: dict[str, object] = {
            "content_sha256": content_hash(files),
            "n_files": len(files),
            "n_bytes": sum(len(file.text) for file in files),
            "tokenizer": self.tokenizer.name,
            "separator": self.tokenizer.separator,
            "split": self.split,
            "val_fraction": self.val_fraction,
        }
        folder = self.data_dir / f"{self.name}-{settings_hash(settings)}"
        if not (folder / "manifest.json").exists():
            split = SPLITS[self.split]
            build_cache(folder, files, self.tokenizer, split, self.val_fraction, settings)
        return open_cache(folder, self.tokenizer)

    @cached_property
    def _item_starts(self) -> np.ndarray:
        n_available = _n_sequences(len(self._cache.train), self.seq_len, "training")
        starts = np.arange(n_available, dtype=np.int64) * self.seq_len
        if self.n_unique_tokens is None:
            return starts
        n_wanted = self.n_unique_tokens // self.seq_len
        if n_wanted > n_available:
            raise ValueError(
                f"data.n_unique_tokens = {self.n_unique_tokens}, but the training text holds only "
                f"{n_available * self.seq_len} tokens in whole sequences. Lower it, or set "
                "data.n_unique_tokens=null to take all."
            )
        return starts[random_order(0, _SUBSET_STREAM, n_available)[:n_wanted]]

    @cached_property
    def _val_starts(self) -> np.ndarray:
        n_available = _n_sequences(len(self._cache.validation), self.seq_len, "validation")
        n_wanted = self.n_val_tokens // self.seq_len
        if n_wanted > n_available:
            raise ValueError(
                f"data.n_val_tokens = {self.n_val_tokens}, but the validation text holds only "
                f"{n_available * self.seq_len} tokens in whole sequences. Lower it or raise "
                "data.val_fraction."
            )
        # Whole sequences, evenly spaced: every held-out file has its share.
        return np.arange(n_wanted, dtype=np.int64) * n_available // n_wanted * self.seq_len

    def _gather(self, tokens: np.ndarray, starts: np.ndarray) -> dict[str, Tensor]:
        # torch comes late, so that a process that only counts the data need not load it.
        import torch

        rows = tokens[starts[:, None] + np.arange(self.seq_len + 1)]  # (B, seq_len + 1)
        return {"tokens": torch.from_numpy(rows.astype(np.int64))}


def _n_sequences(n_tokens: int, seq_len: int, split: str) -> int:
    n_sequences = (n_tokens - 1) // seq_len
    if n_sequences < 1:
        raise ValueError(
            f"data.seq_len = {seq_len}, but the {split} text holds only {n_tokens} tokens. "
            "Lower data.seq_len or give more text in data.root."
        )
    return n_sequences
