"""Random numbers addressed by counter: a pure function of (seed, stream, index, field).

Nothing is drawn from a stateful generator, so item i of a data set is the same in every batch,
process and NumPy version. The mixing function is the finaliser of SplitMix64 (Steele, Lea and
Flood 2014), a bijection of 64-bit integers.
"""

from __future__ import annotations

import numpy as np

_GOLDEN = 0x9E3779B97F4A7C15
_MASK = (1 << 64) - 1


def mix64(values: np.ndarray) -> np.ndarray:
    """SplitMix64 finaliser, element by element; uint64 in, new uint64 array out."""
    mixed = values ^ (values >> np.uint64(30))
    mixed *= np.uint64(0xBF58476D1CE4E5B9)
    mixed ^= mixed >> np.uint64(27)
    mixed *= np.uint64(0x94D049BB133111EB)
    mixed ^= mixed >> np.uint64(31)
    return mixed


def stream_key(seed: int, stream: int) -> np.ndarray:
    """The 64-bit key (1,) of one stream of one seed; distinct streams are independent."""
    start = np.array([(seed * _GOLDEN + 1) & _MASK], dtype=np.uint64)
    return mix64(mix64(start) + np.uint64((stream * _GOLDEN) & _MASK))


def random_bits(seed: int, stream: int, indices: np.ndarray, n_fields: int) -> np.ndarray:
    """Uniform 64-bit integers (B, n_fields): row b depends on (seed, stream, indices[b]) alone.

    Args:
        stream: which use of the seed this is, so that e.g. captions and noise never share bits.
        indices: item numbers (B,), not negative.
    """
    items = mix64(mix64(indices.astype(np.uint64)) + stream_key(seed, stream))
    fields = np.arange(1, n_fields + 1, dtype=np.uint64) * np.uint64(_GOLDEN)
    return mix64(items[:, None] + fields)


def random_uniform(seed: int, stream: int, indices: np.ndarray, n_fields: int) -> np.ndarray:
    """Uniform floats in [0, 1), shape (B, n_fields); see `random_bits`."""
    return (random_bits(seed, stream, indices, n_fields) >> np.uint64(11)) * 2.0**-53


def random_order(seed: int, stream: int, n: int) -> np.ndarray:
    """A permutation (n,) of 0..n-1. The sort keys are distinct, since the mixing is a bijection."""
    keys = mix64(mix64(np.arange(n, dtype=np.uint64)) + stream_key(seed, stream))
    return np.argsort(keys)
