"""Documents that say the same: copies, and near-duplicates by MinHash (Broder 1997).

The first of several stays. Exact copies cost 16 bytes of memory a document; near-duplicates keep
an index of all documents that stay, about three kilobytes each.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING
from zlib import crc32

import numpy as np

from fmscale.data.preparation.ngrams import ngram_hashes, word_hashes

if TYPE_CHECKING:
    from datasketch import MinHash

N_PERMUTATIONS = 128
SHINGLE = 5  # words
_SCHEME = "affine32"


def signature(text: str) -> np.ndarray:
    """MinHash of the word 5-grams, (128,) uint32; two texts agree at a share J of the places."""
    words = word_hashes(text)
    if not len(words):  # signs only: such texts are alike if they are equal
        words = np.array([crc32(text.encode())], dtype=np.uint64)
    shingles = ngram_hashes(words, min(SHINGLE, len(words)))
    return _min_hash(np.unique(shingles) >> np.uint64(32)).hashvalues


def _min_hash(values: np.ndarray) -> MinHash:
    from datasketch import MinHash  # with scipy, a second that other preparations need not wait

    minimum = MinHash(N_PERMUTATIONS, scheme=_SCHEME, hashfunc=int)
    minimum.update_batch(values.tolist())
    return minimum


def exact_duplicates(fingerprints: np.ndarray) -> np.ndarray:
    """True for every copy of an earlier row, (n,) bool from (n, 16) uint8."""
    rows = np.ascontiguousarray(fingerprints).view("V16")[:, 0]
    repeated = np.ones(len(rows), dtype=bool)
    repeated[np.unique(rows, return_index=True)[1]] = False
    return repeated


class NearDuplicates:
    """Looks each document up among those kept before it.

    Args:
        similarity: estimated Jaccard index of word 5-grams from which a document is dropped.
    """

    def __init__(self, similarity: float) -> None:
        from datasketch import MinHashLSH

        self.similarity = similarity
        # Candidates are found a little below the limit, then compared by whole signature.
        self.index = MinHashLSH(
            threshold=max(0.1, similarity - 0.1), num_perm=N_PERMUTATIONS, weights=(0.3, 0.7)
        )
        self.kept: list[np.ndarray] = []

    def flag(self, signatures: Iterable[np.ndarray]) -> list[bool]:
        """For each signature in order, whether it is too similar to an earlier one that stays."""
        return [self._is_near(values) for values in signatures]

    def _is_near(self, values: np.ndarray) -> bool:
        from datasketch import MinHash

        minimum = MinHash(N_PERMUTATIONS, scheme=_SCHEME, hashvalues=values)
        for key in self.index.query(minimum):
            if np.mean(self.kept[key] == values) >= self.similarity:
                return True
        self.index.insert(len(self.kept), minimum)
        self.kept.append(values)
        return False
