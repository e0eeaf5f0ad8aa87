"""Which interval a fit gets, and what a reader must know of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from analysis.laws import Law
from analysis.laws.law import Array
from analysis.solver.global_fit import FitError, Optimum
from analysis.solver.problem import Problem
from analysis.tables.points import Noise, Points
from analysis.uncertainty.bootstrap import (
    METHODS,
    choose_method,
    draw,
    enough,
    percentiles,
    widened_level,
)
from analysis.uncertainty.profile_likelihood import Interval, delta_intervals, profile_intervals

INTERVALS = ("auto", *METHODS, "profile", "delta", "none")
FEWEST_REFITS = 20  # fewer say nothing about a 95 % interval


@dataclass(frozen=True)
class IntervalOptions:
    """Which intervals a fit is to have."""

    interval: str = "auto"  # one of INTERVALS
    bootstrap: int = 2000  # refits
    level: float = 0.95
    # Seed noise known from elsewhere, which the intervals then build on as well. Repeats among the
    # points need no mention: the residuals hold their scatter.
    noise: Noise | None = None

    def __post_init__(self) -> None:
        if not 0 < self.level < 1:
            raise ValueError(f"level={self.level}: between 0 and 1")
        if self.bootstrap != 0 and self.bootstrap < FEWEST_REFITS:
            raise ValueError(
                f"bootstrap={self.bootstrap}: 0 for none, or at least {FEWEST_REFITS} refits"
            )
        if self.interval not in INTERVALS:
            raise ValueError(f"interval={self.interval!r}: choose one of {', '.join(INTERVALS)}")


@dataclass(frozen=True)
class Uncertainty:
    """What is known of the parameters in addition to their estimates, by name."""

    intervals: dict[str, Interval]
    errors: dict[str, float | None]  # standard errors
    method: str
    samples: dict[str, Array] = field(default_factory=dict)  # refits (S,); none without a bootstrap
    widened: float | None = None  # two-sided level whose percentiles cover the asked one
    warnings: tuple[str, ...] = ()


def make_intervals(
    problem: Problem,
    optimum: Optimum,
    estimate: Mapping[str, float],
    points: Points,
    fixed: NDArray[np.bool_],
    options: IntervalOptions,
    seed: int,
) -> Uncertainty:
    """Intervals by the asked method; refused (and said so) when noise cannot be known."""
    names, goal, level = problem.law.names, problem.objective, options.level
    none = Uncertainty(dict.fromkeys(names, (None, None)), dict.fromkeys(names), "none asked for")
    free = int((~fixed).sum())
    if not free:
        return replace(none, method="none, every parameter is fixed")
    method = options.interval
    if method == "none" or (method in ("auto", *METHODS) and options.bootstrap == 0):
        return none
    if method == "auto":
        method = choose_method(points, free, goal)
    told: list[str] = []
    try:
        if points.copies():
            raise FitError("copies of rows would count as runs of their own and make it too narrow")
        told = _few_units(points, method, enough(free, goal), free, options.noise)
        if method == "profile":
            pair = profile_intervals(problem, optimum, points, fixed, level)
            return Uncertainty(*pair, "profile", warnings=tuple(told))
        if method == "delta":
            pair = delta_intervals(problem, optimum, points, fixed, level)
            return Uncertainty(*pair, "delta method", warnings=tuple(told))
        draws = draw(
            problem, optimum, points, method, options.bootstrap, seed, fixed, options.noise
        )
    except FitError as refusal:
        return replace(none, method="refused", warnings=(*told, f"no interval: {refusal}"))
    if draws.failed:
        told.append(f"{draws.failed} bootstrap refits did not converge and are left out")
    if draws.agreement < 0.95:
        told.append(
            f"{1 - draws.agreement:.0%} of the checked refits have a better optimum elsewhere: "
            "intervals are approximate"
        )
    samples = problem.natural(draws.working, fixed)
    widened = widened_level(level, draws.units, free, draws.scale)
    pair = from_samples(problem.law, samples, estimate, widened or level, fixed)
    return Uncertainty(*pair, draws.description, samples, widened, tuple(told))


def _few_units(
    points: Points, method: str, least: int, free: int, noise: Noise | None
) -> list[str]:
    """What a reader must know of intervals that rest on few independent units."""
    units = points.clusters
    if units == 1 and len(points) > 1:
        return [
            f"all {len(points)} points come from one trunk or run: intervals are about that one. "
            "Another seed's curve may lie elsewhere; two more would tell by how much"
        ]
    if method in ("rows", "clusters"):
        count = len(points) if method == "rows" else units
        if count >= least:
            return []
        return [
            f"only {count} {method} are redrawn for {free} parameters: these intervals are "
            "conservative (97 to 100 % where 95 % is meant); --interval parametric is not"
        ]
    known = (noise is not None and noise.shared is not None) or points.has_repeats()
    if method == "parametric" and units < len(points) and not known:
        return [
            f"{len(points)} points come from {units} trunks or runs, whose common error only "
            "their scatter about the law tells: intervals are as wide as that makes them. Two "
            "more seeds of a few sizes would measure it"
        ]
    return []


def from_samples(
    law: Law,
    samples: Mapping[str, Array],
    estimate: Mapping[str, float],
    level: float,
    fixed: NDArray[np.bool_],
) -> tuple[dict[str, Interval], dict[str, float | None]]:
    """Percentile intervals, which hold the estimate, and standard errors of refits, by name."""
    intervals: dict[str, Interval] = dict.fromkeys(law.names, (None, None))
    errors: dict[str, float | None] = dict.fromkeys(law.names)
    for p, is_fixed in zip(law.parameters, fixed, strict=True):
        values = samples[p.name]
        # Refits that never move it: the points do not know this parameter.
        if is_fixed or (np.ptp(values) == 0 and values[0] != 0):
            continue
        middle = estimate[p.name]
        ends = percentiles(values, level)
        low, high = min(float(ends[0]), middle), max(float(ends[1]), middle)
        errors[p.name] = float(np.std(values))
        # An end that lies on a search bound is not an end: the data leave it open.
        natural_low = 0.0 if p.positive or p.bounds[0] == 0 else -np.inf
        lowest, highest = p.bounds
        open_low = lowest > natural_low and low <= lowest + 1e-9 * abs(lowest)
        open_high = bool(np.isfinite(highest)) and high >= highest - 1e-9 * abs(highest)
        intervals[p.name] = None if open_low else low, None if open_high else high
    return intervals, errors
