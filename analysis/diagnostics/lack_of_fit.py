"""Does a joint law follow the runs it was fitted to, or is its form wrong for them?

Where a law of N and D is right, what it misses is chance and, in runs of one size that share a
trunk, an error they have in common. Neither depends on D at one size and otherwise at another. So
the test asks whether the residuals' slope in D differs between sizes (and their slope in N between
values of D) by more than their scatter allows: an analysis of covariance (Fisher 1932). A form
without the right coupling of N and D fails it, whatever the noise, without repeated runs.

A law of one column is asked two things about its residuals, in directions that it cannot absorb
itself: whether smooth curves through them (of degree two to four in the logarithm of the column)
explain more than chance lets them, again a ratio of mean squares, and whether neighbors are alike
(von Neumann 1941), which finds a bump that no smooth curve follows.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import permutations
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from scipy.stats import f as f_distribution
from scipy.stats import norm

from analysis.laws import Array, Law
from analysis.tables.groups import label_groups
from analysis.tables.points import Points

if TYPE_CHECKING:
    from analysis.result import FitResult

LACK_OF_FIT = "the law does not follow these runs"  # how its warning begins
CHANCE = 1e-3  # probability below which a difference of slopes is not put down to chance
MATTERS = 0.02  # relative change of the error along a group that is worth a word
SAME = 0.02  # values closer than 2 % are one value
BENDS = (2, 3, 4)  # degrees of the curves that residuals are asked for
ALIKE = 0.01  # probability below which neighbors are not alike by chance
DRAWS = 4000  # of residuals, for that probability
MANY = 200  # points from which it follows from the normal distribution
EXPLAINED = 0.8  # correlation of residuals with a floor's slope from which it is what they lack
PARTS = 3  # of the column's range, in which a bend is quoted
LEAST = 3  # values along a group from which its slope says something, and groups to compare


@dataclass(frozen=True)
class Drift:
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
            f"{LACK_OF_FIT}: at {self.over} = {self.value:.4g} its error goes from {first:+.1%} at "
            f"{self.along} = {low:.3g} to {last:+.1%} at {high:.3g}, unlike at other {self.over} "
            f"(chance: p = {self.probability:.0e}). Compare forms (compare --laws joint,kaplan), "
            "or fit a narrower range (--where)"
        )


def find_drift(law: Law, result: FitResult, points: Points) -> Drift | None:
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


@dataclass(frozen=True)
class Bend:
    """A pattern of the residuals along the column of a law."""

    column: str
    places: tuple[float, ...]  # of the column, where the errors are quoted
    errors: tuple[float, ...]  # of the law there, > 0: it predicts too much
    relative: bool  # errors are relative; else in units of the metric
    probability: float
    advice: str

    def __str__(self) -> str:
        unit = "+.1%" if self.relative else "+.3g"
        where = ", ".join(
            f"{e:{unit}} at {self.column} = {v:.3g}"
            for e, v in zip(self.errors, self.places, strict=True)
        )
        return (
            f"{LACK_OF_FIT}: its error bends with {self.column}, {where} (chance: p = "
            f"{self.probability:.0e}). {self.advice}"
        )


def find_bend(law: Law, result: FitResult, points: Points) -> Bend | None:
    """What smooth curves still find in the residuals of a law of one column, if beyond chance."""
    column = law.columns[0]
    x = points.x[column]
    # Runs that travel together err together: that is a pattern, and no lack of fit.
    if len(law.columns) != 1 or points.clusters < len(points) or np.ptp(x) == 0 or np.min(x) <= 0:
        return None
    predicted = law.predict(points.x, result.parameters)
    relative = bool(np.all(points.y > 0) and np.all(predicted > 0)) and result.residual_log
    residual = np.log(predicted / points.y) if relative else predicted - points.y
    weight = 1.0 if points.error is None else 1 / points.error
    weight = weight * points.y if relative and points.error is not None else weight
    place = np.log(x) - np.log(x).mean()
    curves = np.polynomial.legendre.legvander(2 * place / np.ptp(place), max(BENDS))
    known = _slopes(law, result, points) / (predicted[:, None] if relative else 1.0)
    known = _basis(np.atleast_2d((known.T * weight).T))
    extra = (curves[:, list(BENDS)].T * weight).T
    extra = _basis(extra - known @ (known.T @ extra))
    seen = residual * weight
    seen = seen - known @ (known.T @ seen)
    floor = weight / predicted if relative else weight * np.ones(len(x))
    freedom = len(x) - known.shape[1] - extra.shape[1]
    if freedom < LEAST or extra.shape[1] == 0:
        return None
    pattern = extra @ (extra.T @ seen)
    rest = float(np.sum((seen - pattern) ** 2)) / freedom
    ratio = float(np.sum(pattern**2)) / extra.shape[1] / rest if rest > 0 else np.inf
    probability = float(f_distribution.sf(ratio, extra.shape[1], freedom))
    order = np.argsort(x, kind="stable")
    if probability > CHANCE:
        probability, pattern = _alike(seen[order], known[order]), seen
        if probability > ALIKE:
            return None
    unit = 1.0 if relative else float(np.ptp(points.y))
    if np.abs(pattern / weight).max() < MATTERS * unit:
        return None
    worst = [part[np.argmax(np.abs(residual[part]))] for part in np.array_split(order, PARTS)]
    errors = np.expm1(residual[worst]) if relative else residual[worst]
    advice = _advice(result, seen, floor - known @ (known.T @ floor))
    return Bend(column, tuple(x[worst]), tuple(map(float, errors)), relative, probability, advice)


def _alike(residual: Array, known: Array) -> float:
    """Probability of neighbors as alike as these, of independent errors less what a law absorbs."""
    if len(residual) > MANY:
        ratio = float(np.sum(np.diff(residual) ** 2) / np.sum(residual**2))
        return float(norm.cdf((ratio - 2) * np.sqrt(len(residual)) / 2))
    drawn = np.random.default_rng(0).standard_normal((DRAWS, len(residual)))
    drawn -= drawn @ known @ known.T
    both = np.vstack([residual, drawn])
    ratio = np.sum(np.diff(both) ** 2, axis=1) / np.sum(both**2, axis=1)
    return float(np.mean(ratio[1:] <= ratio[0]))


def _slopes(law: Law, result: FitResult, points: Points) -> Array:
    """Derivatives of the law (n, p) by the parameters that moved in the fit."""
    p = {name: np.array([[value]]) for name, value in result.parameters.items()}
    gradient = law.gradient(p, {c: points.x[c] for c in law.columns})
    still = {*result.fixed, *result.certificate.at_bound}
    moved = [n for n in law.names if n not in still and result.parameters[n] != 0]
    rows = [np.broadcast_to(gradient[name], (1, len(points)))[0] for name in moved]
    return np.array(rows, dtype=float).reshape(len(moved), len(points)).T


def _basis(columns: Array) -> Array:
    """Orthonormal columns that span what these span, (n, rank)."""
    size = np.linalg.norm(columns, axis=0)
    kept = columns[:, size > 1e-9 * max(float(size.max(initial=0.0)), 1e-300)]
    left, singular, _ = np.linalg.svd(kept / np.linalg.norm(kept, axis=0), full_matrices=False)
    return np.asarray(left[:, singular > 1e-6 * singular.max(initial=0.0)])


def _advice(result: FitResult, seen: Array, floor: Array) -> str:
    """What to try, given residuals and the slope of a floor, both less what the law absorbs."""
    name = next((n for n in ("E", "d") if result.parameters.get(n) == 0), None)
    share = float(seen @ floor) / np.sqrt(float(seen @ seen) * float(floor @ floor) + 1e-300)
    if name and share > EXPLAINED:
        return (
            f"The floor {name} is at its bound 0 and the points fall ever faster: a floor below 0 "
            "would fit them; is something subtracted from the metric?"
        )
    return (
        "Compare shapes (compare --laws power_floor,shifted_power,broken_power), or fit a range "
        "(--where)"
    )


def _drift(over: str, along: str, points: Points, residual: Array) -> Drift | None:
    groups = _groups(points.x[over], points.x[along])
    freedom = sum(len(group) for group in groups) - 2 * len(groups)
    if len(groups) < LEAST or freedom < LEAST:
        return None
    x = [_centered(np.log(points.x[along][group])) for group in groups]
    r = [_centered(residual[group]) for group in groups]
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
    return Drift(over, value, along, ends, (first, last), probability)


def _groups(over: Array, along: Array) -> list[NDArray[np.intp]]:
    """Indices of the runs at each value of `over` that were made at three or more of `along`."""
    label = label_groups(over, SAME)
    groups = (np.flatnonzero(label == k) for k in range(label.max() + 1))
    return [group for group in groups if label_groups(along[group], SAME).max() + 1 >= LEAST]


def _centered(values: Array) -> Array:
    return values - float(np.mean(values))
