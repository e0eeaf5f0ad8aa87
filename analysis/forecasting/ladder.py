"""The runs a forecast is made from, and cuts within them at which a forecast can be checked."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from analysis.laws.law import Array

Mask = NDArray[np.bool_]

FEWEST = {1: 4, 2: 5}  # runs, by the number of variables
FEWEST_AT_A_CUT = {1: 4, 2: 8}
BACK = (2.0, 4.0, 10.0, 30.0)  # cuts at the largest compute over these
AHEAD = 1.25  # runs this many times beyond a cut are forecast from it
MOST = 300  # rows; a longer curve is thinned evenly


@dataclass(frozen=True)
class Ladder:
    """n runs in logarithms."""

    x: Array  # (k, n): ln N and ln D, or the logarithm of the one variable
    size: Array  # (n,): logarithm of what distance is measured in, compute or the variable
    y: Array  # (n,): ln loss
    weight: Array  # (n,): 1, or less for one of several rows of a run

    def __len__(self) -> int:
        return len(self.y)

    @property
    def variables(self) -> int:
        return len(self.x)

    @property
    def top(self) -> float:
        return float(self.size.max())

    def thinned(self) -> Ladder:
        """At most MOST rows, evenly spread in rank of size."""
        if len(self) <= MOST:
            return self
        order = np.argsort(self.size, kind="stable")
        kept = order[np.linspace(0, len(self) - 1, MOST).round().astype(int)]
        return Ladder(self.x[:, kept], self.size[kept], self.y[kept], self.weight[kept])

    def cuts(self) -> list[Mask]:
        """Runs at or below each inner cut, where enough of them are left."""
        found: list[Mask] = []
        for times in BACK:
            below = self.size[self.size <= self.top - np.log(times) + 1e-9]
            if not below.size:
                continue
            seen = self.size <= below.max() + 1e-9
            if self._enough(seen) and not any(np.array_equal(seen, other) for other in found):
                found.append(seen)
        return found

    def beyond(self, seen: Mask) -> Mask:
        """Runs to be forecast from a cut."""
        return np.asarray(self.size > self.size[seen].max() + np.log(AHEAD))

    def _enough(self, seen: Mask) -> bool:
        if seen.sum() < FEWEST_AT_A_CUT[self.variables]:
            return False
        levels = [len(np.unique(np.round(row[seen], 3))) for row in self.x]
        return self.variables == 1 or (levels[0] >= 2 and levels[1] >= 3)

    def closeness(self, seen: Mask, discount: float) -> Array:
        """Weights that fall with the distance below the largest run seen, zero beyond it (n,)."""
        near = np.exp(-discount * np.maximum(self.size[seen].max() - self.size, 0.0))
        return np.where(seen, self.weight * near, 0.0)
