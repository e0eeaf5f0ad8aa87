"""Word n-grams as 64-bit numbers: what near-duplicates and leakage are looked for with."""

from __future__ import annotations

import re
from zlib import crc32

import numpy as np

from fmscale.data.counter_random import mix64

# Lower-cased words without punctuation; every byte of a non-ASCII character belongs to a word.
_WORD = re.compile(rb"[0-9a-z_\x80-\xff]+")
_BASE = np.uint64(0x9E3779B97F4A7C15)  # odd, so that each word keeps all of its bits


def word_hashes(text: str) -> np.ndarray:
    """A 64-bit number for each word, (n_words,) uint64; the same in every process."""
    words = _WORD.findall(text.lower().encode())
    return mix64(np.fromiter(map(crc32, words), dtype=np.uint64, count=len(words)))


def ngram_hashes(words: np.ndarray, n: int) -> np.ndarray:
    """A number for each n neighbours, (n_words - n + 1,) uint64, none for a shorter text."""
    count = len(words) - n + 1
    if count < 1:
        return np.empty(0, dtype=np.uint64)
    out = np.zeros(count, dtype=np.uint64)
    for j in range(n):
        out = out * _BASE + words[j : j + count]
    return mix64(out)
