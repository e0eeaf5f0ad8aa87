"""Tokenizers of running text. Bytes only so far: no vocabulary to train, no unknown tokens."""

from __future__ import annotations

from typing import Protocol

import numpy as np


class TextTokenizer(Protocol):
    """What `token_cache` needs: bytes in, token ids out."""

    name: str
    vocab_size: int
    separator: int  # token put after every document
    dtype: np.dtype  # smallest unsigned type that holds every id

    def encode(self, text: bytes) -> np.ndarray: ...

    def decode(self, tokens: np.ndarray) -> bytes: ...


class ByteTokenizer:
    """One token per byte. The separator is the zero byte, which no text file contains."""

    name = "bytes"
    vocab_size = 256
    separator = 0
    dtype = np.dtype(np.uint8)

    def encode(self, text: bytes) -> np.ndarray:
        """Token ids (n_bytes,) uint8."""
        return np.frombuffer(text, dtype=np.uint8)

    def decode(self, tokens: np.ndarray) -> bytes:
        """The bytes of token ids (n,); separators stay zero bytes."""
        return np.asarray(tokens).astype(np.uint8).tobytes()
