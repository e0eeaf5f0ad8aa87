"""Byte-level text as fixed-length sequences, with the data budget applied.

Sequences are cut from all documents laid end to end, one separator after each, with no mask across
documents (as in Brown et al. 2020, App. B).
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np

from fmscale.data.file_names import endings
from fmscale.data.text.sequence_data import SequenceData
from fmscale.data.text.sources import (
    SourceFiles,
    content_hash,
    split_by_file,
    split_tails,
    text_mark,
)
from fmscale.data.text.token_cache import TokenCache, open_cache, settings_hash
from fmscale.data.text.token_sequences import check_sizes
from fmscale.data.text.tokenizer import ByteTokenizer

SPLITS = {"by_file": split_by_file, "tail": split_tails}


class ByteText(SequenceData):
    """Text files as byte sequences for next-token prediction.

    Args:
        data_dir: where the token cache is kept, in `<name>-<hash>/`.
        root: folder of text files; None means the Python standard library's own sources.
        name: the data set's name in records and in the cache folder's name.
        split: "by_file" holds out whole files, "tail" the end of every file.
        val_fraction: share of the bytes that is held out for validation.
        n_val_tokens: size of the fixed validation set: sequences evenly spaced over the split.
        n_unique_tokens: data budget U; None takes all. Sequences are kept in one fixed random
            order, so a smaller budget is a subset of a larger one and spans all documents.
        content: mark of the text, part of the run's id; None: not checked.
        rest: see `TextData`.
    """

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
        content: str | None = None,
    ) -> None:
        self.tokenizer = ByteTokenizer()
        if vocab_size != self.tokenizer.vocab_size:
            raise ValueError(
                f"data.vocab_size = {vocab_size}, but the bytes tokenizer has 256 tokens. Set "
                "data.vocab_size=256."
            )
        if split not in SPLITS:
            raise ValueError(f"data.split = {split!r}: choose one of {sorted(SPLITS)}.")
        if not 0 < val_fraction < 1:
            raise ValueError(f"data.val_fraction = {val_fraction}: give a share between 0 and 1.")
        check_sizes(seq_len, val_batch_size, n_val_tokens, n_unique_tokens)
        self.name = name
        self.seq_len = seq_len
        self.vocab_size = vocab_size
        self.split = split
        self.val_fraction = val_fraction
        self.n_val_tokens = n_val_tokens
        self.val_batch_size = val_batch_size
        self.n_unique_tokens = n_unique_tokens
        self.content = content
        self.data_dir = Path(data_dir)
        # Listing the files now finds a missing or an empty folder before anything is computed.
        self.sources = SourceFiles(root, suffixes)

    @staticmethod
    def complete(settings: Mapping[str, Any]) -> dict[str, Any]:
        """The mark of the text, so that other text is another run.

        Raises:
            ValueError, FileNotFoundError: naming the folder, if there is no text in it.
        """
        if settings.get("content") is not None:
            return {}
        root = settings.get("root")
        suffixes = endings(settings.get("suffixes", (".py",)), "data.suffixes")
        return {"content": text_mark(None if root is None else str(root), suffixes)}

    @property
    def val_bytes_per_token(self) -> float:
        """Bytes that one validation token stands for; turns nats/token into bits/byte."""
        return 1.0  # the separator counts as a byte

    def prepare(self) -> None:
        """Build the token cache unless it is there; safe for several processes at once."""
        _ = self._cache

    def describe(self) -> dict[str, object]:
        """Counts and hashes of the text, as stored in every record."""
        return {
            "name": self.name,
            "tokenizer": self.tokenizer.name,
            "vocab_size": self.vocab_size,
            "seq_len": self.seq_len,
            "separator": self.tokenizer.separator,
            "n_unique_tokens": self.n_items * self.seq_len,
            "n_val_tokens": len(self._held_out) * self.seq_len,
            "cache": self._cache.folder.name,
            **self._cache.manifest,
        }

    @cached_property
    def _cache(self) -> TokenCache:
        files = self.sources.read()
        content = content_hash(files)
        if self.content is not None and self.content != content[:16]:
            raise ValueError(
                f"data.content = {self.content}, but the text in {self.sources.root} is "
                f"{content[:16]}: it was changed since the run was planned. Give the old text, or "
                "plan the run again."
            )
        settings: dict[str, object] = {
            "content_sha256": content,
            "n_files": len(files),
            "n_bytes": sum(len(file.text) for file in files),
            "tokenizer": self.tokenizer.name,
            "separator": self.tokenizer.separator,
            "split": self.split,
            "val_fraction": self.val_fraction,
        }
        folder = self.data_dir / f"{self.name}-{settings_hash(settings)}"
        split = SPLITS[self.split]
        return open_cache(folder, files, self.tokenizer, split, self.val_fraction, settings)

    def _arrays(self, split: str) -> list[np.ndarray]:
        return [self._cache.train if split == "train" else self._cache.validation]

    @cached_property
    def _held_out(self) -> np.ndarray:
        return self._validation.spread(self.n_val_tokens)
