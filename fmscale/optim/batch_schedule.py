"""How many tokens or samples have been read after so many optimizer steps.

With a constant batch this is a product. With a batch ramp (Brown et al. 2020, App. B: the batch
grows linearly in the tokens read) it is a sum, still a function of the step alone, so that a
resumed or branched run reads what an unbroken one reads. Standard library only.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from dataclasses import dataclass
from functools import cached_property


@dataclass(frozen=True)
class BatchRamp:
    """A batch that grows from `start` items, linearly in the tokens read, over `units` tokens."""

    start: int  # sequences in the first optimizer step
    units: float  # tokens after which the full batch is reached

    def __post_init__(self) -> None:
        if isinstance(self.start, bool) or not isinstance(self.start, int) or self.start < 1:
            raise ValueError(f"batch_ramp.start={self.start!r} must be a whole number, at least 1")
        if not isinstance(self.units, int | float) or not self.units > 0:
            raise ValueError(f"batch_ramp.units={self.units!r} must be a positive number of tokens")


@dataclass(frozen=True)
class BatchSchedule:
    """Batch size by step.

    Raises:
        ValueError: if the ramp does not start below the full batch, or not at a multiple of
            `multiple_of`.
    """

    batch_size: int  # items in a step, after the ramp
    units_per_item: int = 1  # tokens in a sequence, or 1 for a pair
    ramp: BatchRamp | None = None
    multiple_of: int = 1  # micro-batches that a step is divided into

    def __post_init__(self) -> None:
        if self.ramp is None:
            return
        if self.ramp.start >= self.batch_size:
            raise ValueError(
                f"batch_ramp.start={self.ramp.start} must lie below batch_size={self.batch_size}; "
                "lower it or drop the ramp with batch_ramp=null"
            )
        if self.ramp.start % self.multiple_of:
            raise ValueError(
                f"batch_ramp.start={self.ramp.start} is not divisible into {self.multiple_of} "
                "micro-batches; choose a multiple"
            )

    @cached_property
    def _ramp_items(self) -> list[int]:
        """Items read after 0, 1, 2, ... steps, until the first step at the full batch."""
        items = [0]
        if self.ramp is None:
            return items
        growth = (self.batch_size - self.ramp.start) * self.units_per_item / self.ramp.units
        while True:
            wanted = self.ramp.start + growth * items[-1]
            size = self.multiple_of * round(wanted / self.multiple_of)
            if size >= self.batch_size:
                return items
            items.append(items[-1] + size)

    @property
    def ramp_steps(self) -> int:
        """Steps with less than the full batch."""
        return len(self._ramp_items) - 1

    @property
    def units_per_step(self) -> int:
        """Tokens or samples in a step at the full batch."""
        return self.batch_size * self.units_per_item

    def items(self, step: int) -> int:
        """Items read by the first `step` steps."""
        if step <= self.ramp_steps:
            return self._ramp_items[step]
        return self._ramp_items[-1] + (step - self.ramp_steps) * self.batch_size

    def batch(self, step: int) -> int:
        """Items in optimizer step number `step`, counted from 0."""
        return self.items(step + 1) - self.items(step)

    def n_units(self, step: int) -> int:
        """Tokens or samples read by the first `step` steps."""
        return self.items(step) * self.units_per_item

    def nearest_steps(self, n_units: float) -> int:
        """The number of steps that comes closest to `n_units`."""
        after = self.steps_covering(n_units)
        before = max(0, after - 1)
        too_many, too_few = self.n_units(after) - n_units, n_units - self.n_units(before)
        if too_many == too_few:  # halves to the even number, as Python rounds
            return after if after % 2 == 0 else before
        return after if too_many < too_few else before

    def steps_covering(self, n_units: float) -> int:
        """The smallest number of steps that reads at least `n_units`."""
        items = n_units / self.units_per_item
        if items <= self._ramp_items[-1]:
            return bisect_left(self._ramp_items, items)
        return self.ramp_steps + math.ceil((items - self._ramp_items[-1]) / self.batch_size)

    def full_steps(self, step: int) -> float:
        """Steps at the full batch that would have read as much as the first `step` did."""
        if self.ramp is None:
            return step
        return self.n_units(step) / self.units_per_step
