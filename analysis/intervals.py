"""Which interval a fit gets, and what a reader must be told of it."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from analysis.certificate import FitError, Optimum
from analysis.kernel import Problem
from analysis.laws import Law
from analysis.laws.law import Array
from analysis.points import Noise, Points
from analysis.profiles import delta_intervals, profile_intervals
from analysis.uncertainty import METHODS, Draws, choose_method, draw, enough, percentiles

INTERVALS = ("auto", *METHODS, "profile", "delta", "none")


def make_intervals(
    interval: str,
    problem: Problem,
    optimum: Optimum,
    points: Points,
    fixed: NDArray[np.bool_],
    noise: Noise | None,
    level: float,
    bootstrap: int,
    seed: int,
    warnings: list[str],
) -> tuple[
    dict[str, tuple[float | None, float | None]], dict[str, float | None], Draws | None, str
]:
    """Intervals by the asked method; refused (and said so) when noise cannot be known.

    Returns:
        Intervals and standard errors by name (of profile and delta), draws (of a bootstrap), and
        the method's name.
    """
    if interval not in INTERVALS:
        raise ValueError(f"interval={interval!r}: choose one of {', '.join(INTERVALS)}")
    names = problem.law.names
    empty: dict[str, tuple[float | None, float | None]] = {n: (None, None) for n in names}
    unknown: dict[str, float | None] = dict.fromkeys(names)
    if interval == "none" or (interval in ("auto", *METHODS) and bootstrap == 0):
        return empty, unknown, None, "none asked for"
    free = int((~fixed).sum())
    goal = problem.objective
    method = choose_method(points, free, goal) if interval == "auto" else interval
    try:
        if points.copies():
            raise FitError("copies of rows would count as runs of their own and make it too narrow")
        warnings += _few_units(points, method, enough(free, goal), free, noise)
        if method == "profile":
            return (*profile_intervals(problem, optimum, points, fixed, level), None, "profile")
        if method == "delta":
            return (*delta_intervals(problem, optimum, points, fixed, level), None, "delta method")
        found = draw(problem, optimum, points, method, bootstrap, seed, fixed, noise)
        return empty, unknown, found, method
    except FitError as refusal:
        warnings.append(f"no interval: {refusal}")
        return empty, unknown, None, "refused"


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
        few = count < least
        return (
            [
                f"only {count} {method} are redrawn for {free} parameters: these intervals are "
                "conservative (97 to 100 % where 95 % is meant); --interval parametric is not"
            ]
            if few
            else []
        )
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
) -> tuple[dict[str, tuple[float | None, float | None]], dict[str, float | None]]:
    """Percentile intervals, which hold the estimate, and standard errors of refits, by name."""
    intervals: dict[str, tuple[float | None, float | None]] = {}
    errors: dict[str, float | None] = {}
    for p, is_fixed in zip(law.parameters, fixed, strict=True):
        values = samples[p.name]
        if is_fixed:
            intervals[p.name], errors[p.name] = (None, None), None
            continue
        if np.ptp(values) == 0 and values[0] != 0:
            # Refits that never move it: the points do not know this parameter.
            intervals[p.name], errors[p.name] = (None, None), None
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
        intervals[p.name] = (
            None if open_low else low,
            None if open_high else high,
        )
    return intervals, errors
