"""Intervals without resampling: the delta method and profiles, which may be open on a side.

A profile fixes one parameter, refits the others and asks how far the objective may rise. When it
never rises enough, the data do not bound the parameter on that side, and the interval says so
instead of inventing an end.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm, t

from analysis.laws.law import Array
from analysis.solver.global_fit import FitError, Optimum, descend
from analysis.solver.problem import Problem, SumProblem
from analysis.tables.points import Points
from analysis.uncertainty.variance_components import satterthwaite

Interval = tuple[float | None, float | None]  # None is an open (or unknown) end
Intervals = dict[str, Interval]
GRID = 24
REACH = 60.0  # standard errors; a profile flat that far out is open


@dataclass(frozen=True)
class Profile:
    """Objective minimised over all parameters but one."""

    name: str
    values: Array  # natural units, ascending
    objective: Array
    threshold: float  # objective at the ends of the interval
    interval: Interval


def slopes(problem: Problem, residuals: Array, free: int) -> tuple[float, float]:
    """Mean psi^2 (per degree of freedom) and mean psi' of the residuals at the optimum.

    A narrow Huber has few points inside its quadratic part: then mean psi' is the density of
    residuals at zero, by a Gaussian kernel with Silverman's width (Koenker 2005, Sec. 3.4).
    """
    first, second = problem.objective.derivatives(residuals)
    n = residuals.size
    spread = float(np.sum(first**2)) / max(n - free, 1)
    width = 0.9 * min(np.std(residuals), np.subtract(*np.percentile(residuals, [75, 25])) / 1.34)
    width = float(width) * n**-0.2
    delta = problem.objective.delta
    if np.isfinite(delta) and delta < width:
        density = float(np.mean(norm.pdf(residuals / width)) / width)
        unit = 1.0 if problem.objective.unit_slope else delta
        return spread, 2 * density * unit
    return spread, float(np.mean(second))


def uncentred(problem: Problem, optimum: Optimum) -> tuple[Problem, Array]:
    """The same problem in coordinates where every natural parameter is one coordinate."""
    theta = problem.from_working(optimum.working[None])[0]
    if isinstance(problem, SumProblem):
        return replace(problem, uncentred=problem.law.names), theta
    return problem, theta


def covariance(
    problem: Problem, optimum: Optimum, points: Points, fixed: NDArray[np.bool_]
) -> tuple[Array, NDArray[np.intp], Array]:
    """Covariance of the free internal coordinates, their indices and degrees of freedom (p,).

    Independent rows: scale^2 (J'J)^-1. Clusters: two components of variance, because a sandwich
    of few clusters is too narrow (of thirty, still by a tenth).
    """
    plain, theta = uncentred(problem, optimum)
    low, high = problem.bounds()
    index = np.flatnonzero(~fixed & (optimum.working > low) & (optimum.working < high))
    n = len(points)
    free = index.size
    if n - free <= 0:
        raise FitError(f"{n} points, {free} free parameters: no noise estimate, no interval")
    r = problem.residuals(optimum.working[None])[0]
    spread, slope = slopes(problem, r, free)
    jac = plain.residual_jacobian(theta[None])[0][:, index]
    gram = jac.T @ jac
    try:
        inverse = np.linalg.inv(gram)
    except np.linalg.LinAlgError as error:
        raise FitError("a combination of parameters is not determined: no interval") from error
    if points.clusters in (1, n):  # of one trunk: about that trunk, its error is not seen
        return inverse * spread / slope**2, index, np.full(free, float(n - free))
    first, _ = problem.objective.derivatives(r)
    cov, freedom = satterthwaite(first / slope, jac, points.cluster)
    return cov, index, freedom


def delta_intervals(
    problem: Problem, optimum: Optimum, points: Points, fixed: NDArray[np.bool_], level: float
) -> tuple[Intervals, dict[str, float | None]]:
    """Intervals of a quadratic approximation; positive parameters in their logarithm."""
    cov, index, freedom = covariance(problem, optimum, points, fixed)
    theta = problem.from_working(optimum.working[None])[0]
    quantiles = t.ppf(0.5 + level / 2, freedom)
    intervals: Intervals = dict.fromkeys(problem.law.names, (None, None))
    errors: dict[str, float | None] = dict.fromkeys(problem.law.names)
    for position, j in enumerate(index):
        p = problem.law.parameters[j]
        se, quantile = float(np.sqrt(cov[position, position])), float(quantiles[position])
        low, high = theta[j] - quantile * se, theta[j] + quantile * se
        with np.errstate(over="ignore"):
            if p.positive:
                if quantile * se <= 50:  # an interval wider than e^50 each way bounds nothing
                    intervals[p.name] = float(np.exp(low)), float(np.exp(high))
                errors[p.name] = float(np.exp(theta[j]) * se)
            else:
                intervals[p.name], errors[p.name] = (float(low), float(high)), se
    return intervals, errors


def profile_intervals(
    problem: Problem, optimum: Optimum, points: Points, fixed: NDArray[np.bool_], level: float
) -> tuple[Intervals, dict[str, float | None]]:
    intervals: Intervals = dict.fromkeys(problem.law.names, (None, None))
    errors: dict[str, float | None] = dict.fromkeys(problem.law.names)
    for j, name in enumerate(problem.law.names):
        if not fixed[j]:
            low, high = profile(problem, optimum, name, fixed, level, points).interval
            intervals[name] = low, high
            if low is not None and high is not None:
                errors[name] = float((high - low) / (2 * norm.ppf(0.5 + level / 2)))
    return intervals, errors


def profile(
    problem: Problem,
    optimum: Optimum,
    name: str,
    fixed: NDArray[np.bool_],
    level: float,
    points: Points,
) -> Profile:
    """Profile of one parameter and the interval where it stays below the threshold.

    The threshold is the objective plus 0.5 c t^2, with c the ratio of mean psi^2 to mean psi' (for
    least squares: the residual variance) and t Student's quantile, exact for linear laws. Where
    `points` come in clusters, c is scaled by what they add to the parameter's variance (Chandler &
    Bate 2007) and t has its degrees of freedom.
    """
    law = problem.law
    j = law.names.index(name)
    plain, theta = uncentred(problem, optimum)
    n, free = problem.scale.size, int((~fixed).sum())
    if n - free <= 0:
        raise FitError(f"{n} points, {free} free parameters: no noise estimate, no profile")
    residuals = problem.residuals(optimum.working[None])[0]
    spread, slope = slopes(problem, residuals, free)
    quantile = float(t.ppf(0.5 + level / 2, n - free))
    best = optimum.objective
    rise = spread / slope * quantile**2
    if 1 < points.clusters < n:
        cov, index, freedom = covariance(problem, optimum, points, fixed)
        alone = covariance(problem, optimum, points.independent(), fixed)[0]
        if j in index:
            k = int(np.flatnonzero(index == j)[0])
            quantile = float(t.ppf(0.5 + level / 2, freedom[k]))
            rise = spread / slope * quantile**2 * float(cov[k, k] / alone[k, k])
    threshold = best + 0.5 * rise
    jac = plain.residual_jacobian(theta[None])[0][:, ~fixed]
    curvature = np.linalg.pinv(jac.T @ jac) * spread / slope**2
    position = int((~fixed[:j]).sum())
    variance = max(curvature[position, position], 1e-300)
    column, se = curvature[:, position] / variance, float(np.sqrt(variance))
    low, high = plain.bounds()
    pinned = fixed.copy()
    pinned[j] = True
    smooth = plain
    if plain.objective.is_absolute:
        smooth = replace(plain, objective=plain.objective.softened(1e-5))

    def refit(values: Array) -> Array:
        starts = np.repeat(theta[None], len(values), axis=0)
        # Move along the valley first: the others follow linearly near the optimum.
        shift = np.clip(values - theta[j], -3 * se, 3 * se)
        starts[:, ~fixed] += shift[:, None] * column
        starts[:, j] = values
        starts = np.where(pinned, starts, np.clip(starts, low, high))
        rows = np.zeros(len(values), dtype=np.intp)
        found = descend(smooth, starts, rows, pinned, tolerance=1e-8, widths=[])
        return found.objective

    values, heights = [np.array([theta[j]])], [np.array([best])]
    ends: list[float | None] = []
    for side in (-1.0, 1.0):
        limit = low[j] if side < 0 else high[j]
        reach = min(REACH * se, abs(limit - theta[j]))
        if reach <= 0:
            ends.append(None)
            continue
        inner, outer = 0.0, None
        offsets = reach * np.geomspace(min(0.2 * se / reach, 0.5), 1.0, GRID)
        for _ in range(3):
            values.append(theta[j] + side * offsets)
            heights.append(refit(values[-1]))
            above = np.flatnonzero(heights[-1] > threshold)
            if above.size == 0:
                break
            k = int(above[0])
            outer = float(offsets[k])
            inner = float(offsets[k - 1]) if k > 0 else inner
            offsets = np.linspace(inner, outer, GRID)
        if outer is None:
            ends.append(None)
        else:
            end = theta[j] + side * 0.5 * (inner + outer)
            ends.append(float(np.exp(end)) if law.parameters[j].positive else float(end))
    grid = np.concatenate(values)
    order = np.argsort(grid)
    shown = np.exp(grid[order]) if law.parameters[j].positive else grid[order]
    return Profile(name, shown, np.concatenate(heights)[order], threshold, (ends[0], ends[1]))
