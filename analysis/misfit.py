"""Does a joint law follow the runs it was fitted to, or is its form wrong for them?

Where a law of N and D is right, what it misses is chance and, in runs of one size that share a
trunk, an error they have in common. Neither depends on D at one size and otherwise at another. So
the test asks whether the residuals' slope in D differs between sizes (and their slope in N between
values of D) by more than their scatter allows: an analysis of covariance (Fisher 1932). A form
without the right coupling of N and D fails it, whatever the noise, without repeated runs.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import permutations
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from scipy.stats import f as f_distribution

from analysis.groups import label_groups
from analysis.laws import Law
from analysis.points import Points

if TYPE_CHECKING:
    from analysis.result import FitResult

MISFIT = "the law does not follow these runs"  # how its warning begins
CHANCE = 1e-3  # probability below which a difference of slopes is not put down to chance
MATTERS = 0.02  # relative change of the error along a group that is worth a word
SAME = 0.02  # values closer than 2 % are one value
LEAST = 3  # values along a group from which its slope says something, and groups to compare


@dataclass(frozen=True)
class Misfit:
    """The group of runs along which the error of a law drifts most."""

    over: str  # letter whose value the group shares
    value: float
    along: str
    ends: tuple[float, float]  # of `along`
    errors: tuple[float, float]  # relative error of the law there, > 0: it predicts too much
    probability: float  # of slopes so unequal under a law of the right form

    def __str__(self) -> str:
        (low, high), (first, last) = self.ends, self.errors
        return (
            f"{MISFIT}: at {self.over} = {self.value:.4g} its error goes from {first:+.1%} at "
            f"{self.along} = {low:.3g} to {last:+.1%} at {high:.3g}, unlike at other {self.over} "
            f"(chance: p = {self.probability:.0e}). Compare forms (compare --laws joint,kaplan), "
            "or fit a narrower range (--where)"
        )


def find_misfit(law: Law, result: FitResult, points: Points) -> Misfit | None:
    """The worst drift of a law of two columns; None: none beyond chance, or too few runs."""
    if len(law.columns) != 2 or not np.all(points.y > 0):
        return None
    predicted = law.value(result.parameters, points.x)
    if not np.all(predicted > 0):
        return None
    residual = np.log(predicted) - np.log(points.y)
    found = [
        drift
        for over, along in permutations(law.columns)
        if (drift := _drift(over, along, points, residual)) is not None
    ]
    return min(found, key=lambda one: one.probability, default=None)


def _drift(over: str, along: str, points: Points, residual: NDArray[np.float64]) -> Misfit | None:
    groups = _groups(points.x[over], points.x[along])
    freedom = sum(len(group) for group in groups) - 2 * len(groups)
    if len(groups) < LEAST or freedom < LEAST:
        return None
    x = [_centred(np.log(points.x[along][group])) for group in groups]
    r = [_centred(residual[group]) for group in groups]
    spread = np.array([np.sum(a * a) for a in x])
    joint = np.array([np.sum(a * b) for a, b in zip(x, r, strict=True)])
    slopes = joint / spread
    common = joint.sum() ** 2 / spread.sum()  # a slope that all share, a refit would take out
    unequal = float(np.sum(slopes * joint) - common) / (len(groups) - 1)
    rest = float(sum(np.sum(b * b) for b in r) - np.sum(slopes * joint)) / freedom
    ratio = unequal / rest if rest > 0 else np.inf
    probability = float(f_distribution.sf(ratio, len(groups) - 1, freedom))
    lengths = np.array([np.ptp(a) for a in x])
    worst = int(np.argmax(np.abs(slopes) * lengths))
    if probability > CHANCE or abs(slopes[worst]) * lengths[worst] < MATTERS:
        return None
    group, at = groups[worst], x[worst]
    level = float(np.mean(residual[group]))
    first, last = (float(np.expm1(level + slopes[worst] * end)) for end in (at.min(), at.max()))
    values = points.x[along][group]
    ends = float(values.min()), float(values.max())
    value = float(np.median(points.x[over][group]))
    return Misfit(over, value, along, ends, (first, last), probability)


def _groups(over: NDArray[np.float64], along: NDArray[np.float64]) -> list[NDArray[np.intp]]:
    """Indices of the runs at each value of `over` that were made at three or more of `along`."""
    label = label_groups(over, SAME)
    groups = (np.flatnonzero(label == k) for k in range(label.max() + 1))
    return [group for group in groups if label_groups(along[group], SAME).max() + 1 >= LEAST]


def _centred(values: NDArray[np.float64]) -> NDArray[np.float64]:
    return values - float(np.mean(values))
