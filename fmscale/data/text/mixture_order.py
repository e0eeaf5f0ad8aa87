"""The order of a mixture: which source, and which of its items, at each position of the stream.

Every position belongs to one source, in exact proportion to the shares. All of it is a pure
function of (seed, position), so runs resume exactly.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import numpy as np

from fmscale.data.counter_random import random_order
from fmscale.data.item_order import SeededOrder

SHORTEST_BLOCK = 4096  # positions over which the shares are exact


class MixtureOrder:
    """Item index at each position of an endless stream drawn from several sources.

    Positions are dealt out in blocks: a block holds each source as often as its share says (what
    is rounded in one block is made up for in the next), in a random order of its own.

    Args:
        sizes: items of each source; the mixture numbers them in this order.
        shares: adding up to 1, in the same order.
        seed: of the run.
    """

    def __init__(self, sizes: Mapping[str, int], shares: Mapping[str, float], seed: int) -> None:
        self.names = list(sizes)
        self.sizes = np.array([sizes[name] for name in self.names])
        self.firsts = np.cumsum(self.sizes) - self.sizes
        self.seed = seed
        share = np.array([shares[name] for name in self.names])
        self._bounds = np.append(0.0, np.cumsum(share))
        self._bounds[-1] = 1.0
        # Long enough for the rarest source to be in every block, whatever the rounding.
        self.block = max(SHORTEST_BLOCK, int(np.ceil(4 / share[share > 0].min())))
        # A source's own order depends on its name, not on which others are there.
        self._orders = [SeededOrder(n, _derived(seed, name)) for name, n in sizes.items()]
        self._stream_seed = _derived(seed, "")
        self._kept: tuple[int, np.ndarray] = (-1, np.empty(0, dtype=np.int64))

    def drawn(self, block: int) -> np.ndarray:
        """How often each source came before a block begins, (n_sources,) int64."""
        return np.diff(np.rint(self._bounds * (self.block * block)).astype(np.int64))

    def counts(self, count: int) -> dict[str, int]:
        """How often each source comes among the first `count` positions."""
        block, rest = divmod(count, self.block)
        own = np.bincount(self._dealt(block)[:rest], minlength=len(self.names))
        return dict(zip(self.names, (self.drawn(block) + own).tolist(), strict=True))

    def n_distinct(self, count: int) -> int:
        """Different items among the first `count`."""
        drawn = list(self.counts(count).values())
        return int(np.minimum(drawn, self.sizes).sum())

    def indices(self, start: int, count: int) -> np.ndarray:
        """Item indices (count,) int64 at positions start .. start + count - 1."""
        parts = [np.empty(0, dtype=np.int64)]
        while count > 0:
            block, offset = divmod(start, self.block)
            n = min(count, self.block - offset)
            dealt = self._dealt(block)
            before, which = dealt[:offset], dealt[offset : offset + n]
            part = np.empty(n, dtype=np.int64)
            for i, begin in enumerate(self.drawn(block).tolist()):
                mine = which == i
                first = begin + int((before == i).sum())
                items = self._orders[i].indices(first, int(mine.sum()))
                part[mine] = self.firsts[i] + items
            parts.append(part)
            start, count = start + n, count - n
        return np.concatenate(parts)

    def _dealt(self, block: int) -> np.ndarray:
        """The source at each position of a block, (block,) int64; the last block is kept."""
        if self._kept[0] != block:
            places = random_order(self._stream_seed, block, self.block)
            ends = np.cumsum(self.drawn(block + 1) - self.drawn(block))
            self._kept = (block, np.searchsorted(ends, places, side="right"))
        return self._kept[1]


def _derived(seed: int, name: str) -> int:
    digest = hashlib.blake2b(f"{seed} {name}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big")
