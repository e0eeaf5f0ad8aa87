"""The captions of an index as token ids: tokenized once, mapped into memory afterwards."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np

from fmscale.data.checksums import noted
from fmscale.data.image_text.caption_tokenizer import (
    ByteCaptions,
    CaptionTokenizer,
    TokenizerFile,
    train_bpe,
)
from fmscale.data.image_text.pair_index import PairIndex
from fmscale.runs.files import write_atomically

CHUNK = 10_000  # captions tokenized at once


class CaptionTokens:
    """A tokenizer by name, and the ids of all captions under it.

    Args:
        tokenizer: "bytes", "bpe" (trained on the captions of the index), or the path of a file.
        vocab_size: checked against the tokenizer; for "bpe", the size to train.
        seq_len: tokens of a row, the end included.
    """

    def __init__(self, tokenizer: str, vocab_size: int, seq_len: int) -> None:
        if seq_len < 2:
            raise ValueError(f"data.seq_len = {seq_len}: give at least 2, one word and the end.")
        self.choice = str(tokenizer)
        self.vocab_size = vocab_size
        self.seq_len = seq_len
        self._opened: CaptionTokenizer | None = None
        if self.choice != "bpe":  # a mistake shows before anything is listed
            self._opened = self._open(ByteCaptions() if self.choice == "bytes"
                                      else TokenizerFile(self.choice))  # fmt: skip

    def tokenizer(self, index: PairIndex) -> CaptionTokenizer:
        """The tokenizer; a BPE is trained at the first call and kept in the index's folder."""
        if self._opened is None:
            path = index.folder / f"bpe-{self.vocab_size}.json"
            if not path.exists():
                texts = (index.caption(i) for i in range(len(index)))
                write_atomically(path, train_bpe(texts, self.vocab_size))
            self._opened = self._open(TokenizerFile(path))
        return self._opened

    def rows(self, index: PairIndex) -> np.ndarray:
        """Token ids (n, seq_len) of all captions, memory-mapped."""
        note = self._note(index)
        shape, dtype = (len(index), self.seq_len), note["dtype"]
        return np.asarray(np.memmap(self._path(index), dtype=dtype, mode="r", shape=shape))

    def describe(self, index: PairIndex) -> dict[str, Any]:
        """The tokenizer, and how many captions were cut."""
        return {
            "tokenizer": self.tokenizer(index).name,
            "vocab_size": self.vocab_size,
            "seq_len": self.seq_len,
            "n_captions_truncated": self._note(index)["n_truncated"],
        }

    def _note(self, index: PairIndex) -> dict[str, Any]:
        """What is known of the file of ids, which is written first where there is no whole one."""

        def tokenize() -> dict[str, Any]:
            tokenizer = self.tokenizer(index)
            dtype = np.uint16 if tokenizer.vocab_size <= 1 << 16 else np.uint32
            rows = np.empty((len(index), self.seq_len), dtype=dtype)
            n_truncated = 0
            for first in range(0, len(index), CHUNK):
                texts = [index.caption(i) for i in range(first, min(first + CHUNK, len(index)))]
                encoded = tokenizer.encode_counted(texts, self.seq_len)
                rows[first : first + len(texts)] = encoded.tokens
                n_truncated += encoded.n_truncated
            write_atomically(self._path(index), rows.tobytes())
            return {"dtype": np.dtype(dtype).name, "n_truncated": n_truncated}

        return noted(self._path(index), tokenize)

    def _path(self, index: PairIndex) -> Path:
        content = self.choice
        if self.choice not in ("bytes", "bpe"):
            content = hashlib.sha256(Path(self.choice).read_bytes()).hexdigest()
        key = hashlib.sha256(f"{content} {self.vocab_size} {self.seq_len}".encode()).hexdigest()
        return index.folder / f"tokens-{key[:12]}.bin"

    def _open(self, tokenizer: CaptionTokenizer) -> CaptionTokenizer:
        if tokenizer.vocab_size != self.vocab_size:
            raise ValueError(
                f"data.vocab_size = {self.vocab_size}, but the tokenizer {tokenizer.name!r} needs "
                f"{tokenizer.vocab_size}. Set data.vocab_size={tokenizer.vocab_size}."
            )
        return tokenizer
