"""The order of training items: an endless stream in which every position can be addressed."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol, runtime_checkable

import numpy as np

from fmscale.data.counter_random import random_order

if TYPE_CHECKING:
    from fmscale.data.protocol import TrainingData


class Order(Protocol):
    """Which item comes when."""

    def indices(self, start: int, count: int) -> np.ndarray:
        """Item indices (count,) int64 at positions start .. start + count - 1."""

    def n_distinct(self, count: int) -> int:
        """Different items among the first `count`."""


class Supply(NamedTuple):
    """A source of training items with its part in the stream."""

    name: str
    n_items: int  # distinct
    share: float  # of all items drawn


@runtime_checkable
class MixedData(Protocol):
    """Data that are drawn from several sources, in an order of their own."""

    def item_order(self, seed: int) -> Order: ...

    def supplies(self) -> list[Supply]: ...


def item_order(data: TrainingData, seed: int) -> Order:
    """The data's own order where they have one; else one without replacement."""
    if isinstance(data, MixedData):
        return data.item_order(seed)
    return SeededOrder(data.n_items, seed)


def supplies(data: TrainingData) -> list[Supply]:
    """The sources that the data are drawn from: one, except for mixtures."""
    if isinstance(data, MixedData):
        return data.supplies()
    return [Supply("the data", data.n_items, 1.0)]


class SeededOrder:
    """Item index at each position of an endless stream, epoch after epoch.

    Epoch e is a permutation of all items that depends on (seed, e) alone: no item comes twice
    before every item came once (sampling without replacement, as in Brown et al. 2020, App. B),
    and a resumed run finds its place by its position alone.
    """

    def __init__(self, n_items: int, seed: int) -> None:
        if n_items < 1:
            raise ValueError(
                f"n_items = {n_items}: an order needs at least one item. "
                "Give more data or shorter sequences."
            )
        self.n_items = n_items
        self.seed = seed
        self._epoch = -1
        self._permutation = np.empty(0, dtype=np.int64)

    def indices(self, start: int, count: int) -> np.ndarray:
        """Item indices (count,) int64 at positions start .. start + count - 1."""
        if start < 0 or count < 0:
            raise ValueError(f"start = {start}, count = {count}: both must be 0 or more.")
        parts = []
        while count > 0:
            epoch, offset = divmod(start, self.n_items)
            part = self._epoch_order(epoch)[offset : offset + count]
            parts.append(part)
            start += len(part)
            count -= len(part)
        return np.concatenate(parts) if parts else np.empty(0, dtype=np.int64)

    def n_distinct(self, count: int) -> int:
        """Different items among the first `count`."""
        return min(count, self.n_items)

    def _epoch_order(self, epoch: int) -> np.ndarray:
        # Only the latest epoch is kept: 8 bytes an item.
        if epoch != self._epoch:
            self._permutation = random_order(self.seed, epoch, self.n_items)
            self._epoch = epoch
        return self._permutation
