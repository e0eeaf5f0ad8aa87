"""Captions as token ids: bytes, or any tokenizer.json of the `tokenizers` library.

As in CLIP (Radford et al. 2021, Sec. 2.4) text is lower-cased, ended by a token of its own, and cut
to the context. The text tower finds the end by the highest id, and 0 pads. A tokenizer whose
end-of-text token already has the highest id, as CLIP's own has, is used as it is; any other is
shifted by one to make room for padding, and gets an end of its own.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np

from fmscale.data.text.tokenizer import byte_level_bpe

PADDING = 0
START, END = "<|startoftext|>", "<|endoftext|>"


class Encoded(NamedTuple):
    """Token ids of captions."""

    tokens: np.ndarray  # (n, seq_len) int64, ended and padded
    n_truncated: int  # captions that were too long


class CaptionTokenizer(Protocol):
    """Turns texts into rows of ids; `encode` is what zero-shot prompts go through."""

    name: str
    vocab_size: int

    def encode(self, texts: Sequence[str], seq_len: int) -> np.ndarray: ...

    def encode_counted(self, texts: Sequence[str], seq_len: int) -> Encoded: ...

    def decode(self, tokens: np.ndarray) -> list[str]: ...


def clean(text: str) -> str:
    """Lower case, and single spaces only."""
    return re.sub(r"\s+", " ", text).strip().lower()


class ByteCaptions:
    """One token per byte of UTF-8: id 1 + byte, and 257 ends."""

    name = "bytes"
    vocab_size = 258

    def encode(self, texts: Sequence[str], seq_len: int) -> np.ndarray:
        return self.encode_counted(texts, seq_len).tokens

    def encode_counted(self, texts: Sequence[str], seq_len: int) -> Encoded:
        rows = ([byte + 1 for byte in clean(text).encode()] for text in texts)
        return _fill(rows, len(texts), seq_len, end=257)

    def decode(self, tokens: np.ndarray) -> list[str]:
        return [
            bytes(int(i) - 1 for i in row if 1 <= i <= 256).decode(errors="replace")
            for row in tokens
        ]


class TokenizerFile:
    """A tokenizer.json, such as CLIP's own or one trained by `train_bpe`."""

    def __init__(self, path: str | Path) -> None:
        from tokenizers import Tokenizer

        if not Path(path).is_file():
            raise ValueError(
                f"data.tokenizer = {str(path)!r}: no such file. Give bytes, bpe, or the path of a "
                "tokenizer.json."
            )
        try:
            self._tokenizer = Tokenizer.from_file(str(path))
        # `tokenizers` raises a bare Exception for a file that it cannot read.
        except Exception as error:
            raise ValueError(f"data.tokenizer = {str(path)!r} cannot be read: {error}") from error
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()
        self.name = f"{Path(path).name}, {self._tokenizer.get_vocab_size()} tokens"
        n_vocab = self._tokenizer.get_vocab_size()
        self._ends_itself = self._tokenizer.token_to_id(END) == n_vocab - 1
        self._shift = 0 if self._ends_itself else 1
        self.vocab_size = n_vocab if self._ends_itself else n_vocab + 2
        self._start = self._tokenizer.token_to_id(START) if self._ends_itself else None

    def encode(self, texts: Sequence[str], seq_len: int) -> np.ndarray:
        return self.encode_counted(texts, seq_len).tokens

    def encode_counted(self, texts: Sequence[str], seq_len: int) -> Encoded:
        found = self._tokenizer.encode_batch([clean(t) for t in texts], add_special_tokens=False)
        start = [] if self._start is None else [self._start]
        rows = ([*start, *(i + self._shift for i in row.ids)] for row in found)
        return _fill(rows, len(texts), seq_len, end=self.vocab_size - 1)

    def decode(self, tokens: np.ndarray) -> list[str]:
        special = {PADDING, self.vocab_size - 1, self._start}
        rows = [[int(i) - self._shift for i in row if int(i) not in special] for row in tokens]
        return [str(text) for text in self._tokenizer.decode_batch(rows)]


def train_bpe(texts: Iterator[str], vocab_size: int) -> str:
    """A byte-level BPE of `vocab_size` ids, padding and end included, as tokenizer.json text.

    Raises:
        ValueError: if the size does not even hold the bytes, or the texts are too few for it.
    """
    n_merged = vocab_size - 2  # padding and the end come on top
    if n_merged < 257:
        raise ValueError(
            f"data.vocab_size = {vocab_size}: a BPE needs at least 259, for all bytes, padding, "
            "the end and one merge. Raise it, or set data.tokenizer=bytes data.vocab_size=258."
        )
    tokenizer = byte_level_bpe((clean(text) for text in texts), n_merged, [])
    found = tokenizer.get_vocab_size()
    if found != n_merged:
        raise ValueError(
            f"data.vocab_size = {vocab_size}, but the captions give only {found + 2} tokens. Set "
            f"data.vocab_size={found + 2} or less."
        )
    return str(tokenizer.to_str())


def _fill(rows: Iterator[list[int]], n_rows: int, seq_len: int, end: int) -> Encoded:
    """Cut each row to make room for the end, and pad."""
    tokens = np.full((n_rows, seq_len), PADDING, dtype=np.int64)
    n_truncated = 0
    for out, ids in zip(tokens, rows, strict=True):
        n_truncated += len(ids) > seq_len - 1
        ids = ids[: seq_len - 1]
        out[: len(ids)] = ids
        out[len(ids)] = end
    return Encoded(tokens, n_truncated)
