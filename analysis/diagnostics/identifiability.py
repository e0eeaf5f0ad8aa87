"""What these runs cannot tell, in plain words, and which run would cure it."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from scipy.stats import spearmanr

from analysis.diagnostics.lack_of_fit import find_bend, find_drift
from analysis.laws import Law, SumLaw
from analysis.laws.law import Array, Columns
from analysis.solver.global_fit import FitError
from analysis.solver.problem import Problem
from analysis.tables.groups import label_groups
from analysis.tables.points import Points

if TYPE_CHECKING:
    from analysis.result import FitResult

COLLINEAR = 0.95
RISING = 0.5  # rank correlation of metric and column from which a falling law is the wrong one
VAGUE = 0.1  # relative standard error from which a confounded amplitude misleads
NEAR_END = 0.05  # of a metric's range
SAME_VALUE = 1e-12  # relative: a metric that varies by less is constant
SAME_LINE = 0.9999  # correlation of two columns from which their terms may change places
FLAT = 1e-6  # smallest over largest singular value of the slopes from which a direction is free
INVOLVED = 1e-3  # share of a free direction from which a parameter is part of it
NOTHING = 1e-9  # largest change of a residual, in units of its scale, that is none
DISTINCT = 0.05  # sizes closer than 5 % are one size


def distinct(values: NDArray[np.float64]) -> int:
    """Number of values that differ by more than 5 %."""
    positive = values[values > 0]
    if positive.size == 0:
        return len(np.unique(values))
    return 1 + int(label_groups(positive, DISTINCT).max())


def refuse_single_values(law: Law, points: Points, fixed: NDArray[np.bool_]) -> None:
    """A law needs two values of its metric, a joint law two of its size and of its data.

    Raises:
        FitError: if the metric takes one value, or N, D or S does and no parameter was fixed.
    """
    if len(points) > 1 and np.ptp(points.y) <= SAME_VALUE * np.max(np.abs(points.y)):
        raise FitError(
            f"the metric takes one value only ({points.y[0]:g}): there is nothing to fit. Name "
            "another column (--metric), or keep rows where it varies (--where)"
        )
    if len(law.columns) == 1 or fixed.any():
        return
    for letter in law.columns:
        if letter != "U" and distinct(points.x[letter]) < 2:
            raise FitError(
                f"law {law.name}: {letter} takes one value only, so its exponent is unknown. "
                f"Add a run at another {letter} (10x away), fix its term (--fix), or fit a law of "
                "the other variable"
            )


def before(law: Law, points: Points, fixed: NDArray[np.bool_]) -> list[str]:
    """Warnings that follow from the design alone."""
    out = []
    logs = {}
    free = int((~fixed).sum())
    for letter in law.columns:
        values = points.x[letter]
        # A loss spans little of itself: for a link every value counts.
        sizes = len(np.unique(values)) if letter == "L" else distinct(values)
        need = 3 if len(law.columns) > 1 else min(free, 3)
        if sizes < 2:
            out.append(
                f"{letter} takes one value only: its exponent is not determined. A run at another "
                f"{letter} (10x away) would cure it"
            )
        elif sizes < need:
            out.append(
                f"{letter} takes {sizes} distinct values; {need} are needed to tell exponent from "
                f"floor. Add a run between or beyond them"
            )
        if np.all(values > 0) and sizes > 1:
            logs[letter] = np.log(values)
            span = float(np.ptp(logs[letter]) / np.log(10))
            if span < 1 and letter != "L":
                out.append(
                    f"{letter} spans {span:.1f} decades: exponents from less than one decade are "
                    "fragile. Runs further apart would cure it"
                )
        varied = sizes > 1 and np.ptp(points.y) > 0 and len(points) > 3
        if isinstance(law, SumLaw) and not law.signed_exponents and varied:
            trend = float(spearmanr(values, points.y).statistic)
            if trend > RISING:
                out.append(
                    f"the metric rises with {letter} and every term of {law.name} falls: fit what "
                    "is left of it, for example --metric '1 - accuracy', or a law that may rise "
                    "(power, log_linear)"
                )
    for a, b in combinations(logs, 2):
        r = float(np.corrcoef(logs[a], logs[b])[0, 1])
        if abs(r) > COLLINEAR:
            out.append(
                f"log {a} and log {b} are collinear (r = {r:.3f}): their exponents cannot be "
                f"separated. A run with large {a} and small {b} (or the reverse) would cure it"
            )
    return out


def vanished(law: Law, jacobian: Array, estimate: Mapping[str, float]) -> list[str]:
    """Positive parameters that went to nothing: e times as much of one changes no residual.

    Args:
        jacobian: of the residuals at the optimum by working coordinates, (n, P).
    """
    reach = np.max(np.abs(jacobian), axis=0)
    return [
        p.name
        for p, r in zip(law.parameters, reach, strict=True)
        if p.positive and estimate[p.name] != 0 and r < NOTHING
    ]


def traded(problem: Problem, working: Array, fixed: NDArray[np.bool_]) -> list[str]:
    """Parameters that make up for each other: along a direction of theirs no residual changes."""
    law, jacobian = problem.law, problem.residual_jacobian(working[None])[0]
    low, high = problem.bounds()
    size = np.linalg.norm(jacobian, axis=0)
    moves = ~fixed & (working > low) & (working < high) & (size > NOTHING)
    _, singular, directions = np.linalg.svd(jacobian[:, moves] / size[moves], full_matrices=False)
    null = directions[singular < FLAT * singular.max(initial=0.0)] / size[moves]
    along = np.zeros((len(null), len(working)))
    along[:, moves] = null
    found = np.abs(problem.from_working(along)) * size > INVOLVED
    names = {n for n, f in zip(law.names, found.any(axis=0), strict=True) if f}
    if isinstance(law, SumLaw):
        names |= _exchangeable(law, problem.x, set(np.array(law.names)[~fixed]))
    return [n for n in law.names if n in names]


def _exchangeable(law: SumLaw, x: Columns, free: set[str]) -> set[str]:
    """Free parameters of two power terms whose columns are one: nothing says which is which."""
    inputs = law.inputs(x)
    out: set[str] = set()
    for a, b in combinations([t for t in law.terms if t.column], 2):
        own = {str(n) for n in (a.amplitude, a.exponent, b.amplitude, b.exponent)}
        columns = [np.log(inputs[str(t.column)]) for t in (a, b)]
        line = all(np.ptp(c) > 0 for c in columns) and abs(np.corrcoef(columns)[0, 1]) > SAME_LINE
        if line and len(own) == 4 and own <= free:
            out |= own
    return out


def after(law: Law, result: FitResult, points: Points) -> list[str]:
    """Warnings that need the fit: open intervals, confounded parameters, lack of fit."""
    out = []
    for p in law.parameters:
        if p.name in result.fixed:
            continue
        value = result.parameters[p.name]
        low, high = result.intervals[p.name]
        if p.positive and value == 0:
            out.append(f"{p.name} is at its bound 0: these points show no such term")
            continue
        if p.name in result.certificate.at_bound:
            lowest, highest = p.bounds
            end = lowest if abs(value - lowest) < abs(value - highest) else highest
            out.append(
                f"{p.name} is at its bound {end:g}: the best value may lie beyond it; "
                f"--bounds {p.name}=LOW:HIGH sets others"
            )
        draws = result.samples.get(p.name)
        if draws is not None and np.ptp(draws) == 0 and result.residual_sd != 0:
            out.append(
                f"{p.name} is not identified: no value of it changes the fit of these points"
            )
        if p.meaning in ("floor", "irreducible loss") or p.name == "E":
            lowest = float(np.min(points.y))
            if low is not None and high is not None and low < 0.02 * high:
                out.append(
                    f"the floor {p.name} is not identified (95 % from {low:.2g} to {high:.2g}, "
                    f"lowest value {lowest:.3g}): larger runs, closer to the floor, would cure it"
                )
        if result.interval_method == "profile" and (low is None or high is None):
            side = "above" if low is not None else "below" if high is not None else "both sides"
            out.append(f"the interval of {p.name} is open {side}: the data do not bound it")
    found = find_drift(law, result, points) or find_bend(law, result, points)
    if found is not None:
        out.append(str(found))
    noise = result.noise
    repeats = noise is not None and noise.origin == "repeats"
    if noise and repeats and noise.log == result.residual_log and result.residual_sd is not None:
        ratio = result.residual_sd / noise.sigma if noise.sigma > 0 else np.inf
        if ratio > 2:
            out.append(
                f"residuals are {ratio:.1f} times the seed noise: the law misses something other "
                "than chance (wrong form, or runs that are not equally well tuned)"
            )
    if result.bounds is not None:
        lowest, highest = result.bounds
        outside = int(np.sum((points.y < lowest) | (points.y > highest)))
        if outside:
            out.append(f"{outside} values lie outside the metric's range [{lowest:g}, {highest:g}]")
        edge = NEAR_END * (highest - lowest)
        near = int(np.sum((points.y < lowest + edge) | (points.y > highest - edge))) - outside
        if near > 0 and law.columns != ("L",):
            out.append(
                f"{near} values lie within {NEAR_END:.0%} of an end of [{lowest:g}, {highest:g}], "
                f"where a metric levels off and law {law.name} does not: leave them out (--where), "
                "or fit the loss and a link (sigmoid_link, exp_link)"
            )
    return out


def confounded(law: Law, result: FitResult) -> list[str]:
    """Parameters whose refits move together: true of most power laws, whose amplitudes refer to
    x = 1, far from the data; for the fit card."""
    columns = {}
    for p in law.parameters:
        values = result.samples.get(p.name)
        if values is None or np.std(values) == 0 or p.name in result.fixed:
            continue
        if not p.positive:
            columns[p.name] = values
        elif np.all(values > 0):
            columns[p.name] = np.log(values)
    out = []
    for a, b in combinations(columns, 2):
        vague = max(float(np.std(columns[name])) for name in (a, b)) > VAGUE
        with np.errstate(invalid="ignore", divide="ignore"):  # NaN: refits that do not differ
            correlation = float(np.corrcoef(columns[a], columns[b])[0, 1])
        if vague and abs(correlation) > 0.995:
            out.append(
                f"{a} and {b} are confounded (correlation {correlation:+.3f}): quote them "
                "together, not apart; a wider range would separate them"
            )
    return out
