"""Intervals from refits: which points are redrawn, and how wide 95 % really is.

Thousands of refits run side by side from the optimum (newton.py). Resampled percentiles are too
narrow by the factor an ML variance is, so their level is widened (Hesterberg 2015, Sec. 5.2);
with few points the parametric bootstrap draws its scale as well, which gives Student's t exactly
on linear laws.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.stats import f as f_distribution
from scipy.stats import norm, t

from analysis.laws.law import Array
from analysis.solver.global_fit import FitError, Optimum, continuation, descend
from analysis.solver.newton import MAX_ITERATIONS
from analysis.solver.objectives import Objective
from analysis.solver.problem import Problem
from analysis.solver.starts import make_starts
from analysis.tables.points import FEW, FEW_EACH, FEW_EACH_ROBUST, Noise, Points
from analysis.uncertainty.variance_components import draw_components

METHODS = ("rows", "clusters", "residual", "parametric")
CHECKED = 20  # refits repeated from other starts, to see whether warm starts find the optimum
OTHER_STARTS = 4
CHECK_ITERATIONS = 20  # of these: what is better by a thousandth shows long before convergence
LARGEST_LOG = 600.0  # a redrawn value beyond e^600 is as useless as infinity, and quieter


@dataclass(frozen=True)
class Draws:
    """Refitted parameters, in working coordinates, and how they were drawn."""

    working: Array  # (S, P)
    description: str
    units: int  # independent units redrawn
    scale: str  # of the draws' spread: "ml" and "unbiased" need a wider level, "drawn" does not
    failed: int  # refits that did not converge, left out
    agreement: float  # share of checked refits for which other starts find nothing better


def enough(parameters: int, objective: Objective) -> int:
    """Units from which redrawing them gives intervals that cover what they say.

    Absolute deviations need more: redrawn, they vary too much, and the excess falls only with the
    fourth root of the number of points (Hall & Martin 1988, Probab. Theory Rel. Fields 80, 261).
    """
    each = FEW_EACH_ROBUST if np.isfinite(objective.delta) else FEW_EACH
    return max(FEW, each * parameters)


def choose_method(points: Points, parameters: int, objective: Objective) -> str:
    """Redraw clusters or rows when there are enough of them; else draw noise from a model."""
    units = points.clusters
    if units >= enough(parameters, objective):
        return "clusters" if units < len(points) else "rows"
    return "parametric"


def resample_weights(points: Points, method: str, count: int, seed: int) -> Array:
    """How often each point occurs in each resample, (S, n).

    The generator is numpy's legacy one because its stream is frozen for all time: published
    bootstraps that used it are then reproduced draw by draw.
    """
    units = len(points) if method == "rows" else points.clusters
    drawn = np.random.RandomState(seed).choice(units, size=(count, units), replace=True)
    weights = np.zeros((count, units))
    np.add.at(weights, (np.arange(count)[:, None], drawn), 1.0)
    return weights if method == "rows" else weights[:, points.cluster]


def draw(
    problem: Problem,
    optimum: Optimum,
    points: Points,
    method: str,
    count: int,
    seed: int,
    fixed: NDArray[np.bool_],
    noise: Noise | None = None,
) -> Draws:
    """Refit `count` redrawn data sets.

    Args:
        method: "rows", "clusters" (rows that travel together), "residual" (residuals redrawn,
            inflated for the parameters spent) or "parametric" (Gaussian noise whose scale is
            drawn from its own sampling distribution).
        noise: seed noise; with "parametric" it is used when the residuals do not exceed it.
    """
    n = len(points)
    free = int((~fixed).sum())
    freedom = n - free
    if freedom <= 0 and not (method == "parametric" and _usable(problem, noise)):
        raise FitError(
            f"{n} points and {free} free parameters leave nothing to estimate noise from: no "
            "interval (no noise estimate). Add runs, or fix a parameter"
        )
    if method in ("rows", "clusters"):
        units = n if method == "rows" else points.clusters
        if units <= free:
            raise FitError(
                f"{units} {method} for {free} free parameters: too few to redraw; use --interval "
                "parametric or profile"
            )
        redrawn = replace(problem, weights=resample_weights(points, method, count, seed))
        text, scale = f"bootstrap over {units} {method}", "ml"
    elif method in ("residual", "parametric"):
        units, scale = n, "drawn"
        relative = problem.residuals(optimum.working[None])[0]
        rng = np.random.default_rng(seed)
        if method == "residual":
            centred = (relative - relative.mean()) * np.sqrt(n / freedom)
            moved = rng.choice(centred, size=(count, n))
            text = f"bootstrap over residuals (inflated by sqrt(n/(n-p)), n-p = {freedom})"
            scale = "unbiased"
        elif 1 < points.clusters < n and freedom > 0:
            moved, text = clustered_noise(
                problem, optimum, points, relative, fixed, noise, count, rng
            )
        else:
            sigma, nu, text = noise_scale(problem, relative, freedom, noise)
            spread = sigma * np.sqrt(nu / rng.chisquare(nu, size=(count, 1)))
            moved = spread * rng.standard_normal((count, n))
        values = problem.log_y + relative * problem.scale + moved * problem.scale
        if problem.objective.log:
            values = np.exp(np.minimum(values, LARGEST_LOG))
        redrawn = replace(problem, y=values)
    else:
        raise ValueError(f"interval method {method!r}: choose one of {', '.join(METHODS)}")
    rows = np.arange(count)
    starts = np.repeat(problem.lift(optimum.working)[None], count, axis=0)
    widths = [] if scale == "ml" else continuation(problem, starts[:1])
    found = descend(redrawn.near(starts[0]), starts, rows, fixed, tolerance=1e-8, widths=widths)
    agreement = _check(problem, redrawn, found.objective, seed, fixed, optimum)
    good = found.converged
    if good.mean() < 0.9:
        raise FitError(
            f"only {good.mean():.0%} of the refits converged in {MAX_ITERATIONS} iterations: "
            "fix a parameter (--fix), use a law with fewer, or add runs"
        )
    text = f"{text}, {int(good.sum())} refits"
    return Draws(found.working[good], text, units, scale, int((~good).sum()), agreement)


def noise_scale(
    problem: Problem, relative: Array, freedom: int, noise: Noise | None
) -> tuple[float, float, str]:
    """Standard deviation of a point's error, its degrees of freedom, and where it comes from.

    The root mean square serves robust objectives too: a narrow Huber passes through some points,
    so a median of residuals would be too small.
    """
    if freedom <= 0:
        assert noise is not None
        return noise.sigma, noise.freedom, f"parametric bootstrap, noise from {noise.origin} alone"
    sigma = float(np.sqrt(np.sum(relative**2) / freedom))
    text = f"parametric bootstrap, noise from residuals ({freedom} degrees of freedom)"
    if noise is None or not _usable(problem, noise):
        return sigma, freedom, text
    if _exceeds(sigma, freedom, noise):
        return sigma, freedom, f"{text}, which exceed the noise from {noise.origin}"
    total = freedom + noise.freedom
    sigma = float(np.sqrt((freedom * sigma**2 + noise.freedom * noise.sigma**2) / total))
    text = f"noise from residuals and {noise.origin} ({total} degrees of freedom)"
    return sigma, total, f"parametric bootstrap, {text}"


def _exceeds(sigma: float, freedom: int, noise: Noise) -> bool:
    """Residuals larger than repeats explain: the law misses something, and repeats do not know."""
    return bool(sigma**2 > noise.sigma**2 * f_distribution.ppf(0.95, freedom, noise.freedom))


def clustered_noise(
    problem: Problem,
    optimum: Optimum,
    points: Points,
    relative: Array,
    fixed: NDArray[np.bool_],
    noise: Noise | None,
    count: int,
    rng: np.random.Generator,
) -> tuple[Array, str]:
    """Errors (count, n) of which a part is common to a cluster; how large is drawn, not assumed."""
    low, high = problem.bounds()
    moves = (optimum.working > low) & (optimum.working < high) & ~fixed
    jacobian = problem.residual_jacobian(optimum.working[None])[0][:, moves]
    freedom = len(points) - int(moves.sum())
    text = "noise from residuals"
    known = None
    # Repeats among the fitted points speak through their residuals already.
    if noise is not None and _usable(problem, noise) and not points.has_repeats():
        sigma = float(np.sqrt(np.sum(relative**2) / max(freedom, 1)))
        if _exceeds(sigma, freedom, noise):
            text += f", which exceed the noise from {noise.origin}"
        elif noise.shared is not None:
            known = noise
            text = f"noise from residuals and {noise.origin}"
    drawn = draw_components(relative, jacobian, points.cluster, count, rng, known)
    return drawn.errors(points.cluster, rng), (
        f"parametric bootstrap, {text} ({drawn.between:.3g} degrees of freedom between trunks or "
        f"runs, {drawn.within:.3g} within)"
    )


def _usable(problem: Problem, noise: Noise | None) -> bool:
    """Seed noise speaks of these residuals: same space, no weights."""
    same_space = noise is not None and noise.log == problem.objective.log
    return same_space and bool(np.all(problem.scale == 1))


def _check(
    problem: Problem,
    redrawn: Problem,
    reached: Array,
    seed: int,
    fixed: NDArray[np.bool_],
    optimum: Optimum,
) -> float:
    """Share of a few refits for which other starts find nothing better than the warm start did."""
    rng = np.random.default_rng(seed + 1)
    picked = rng.choice(len(reached), size=min(CHECKED, len(reached)), replace=False)
    starts = np.where(fixed, optimum.working, make_starts(problem, OTHER_STARTS, seed))
    found = descend(
        redrawn,
        np.tile(starts, (len(picked), 1)),
        np.repeat(picked, len(starts)),
        fixed,
        tolerance=1e-8,
        widths=continuation(problem, optimum.working[None]),
        max_iterations=CHECK_ITERATIONS,
    )
    best = found.objective.reshape(len(picked), len(starts)).min(axis=1)
    return float(np.mean(reached[picked] <= best * (1 + 1e-3) + 1e-15))


def widened_level(level: float, units: int, parameters: int, scale: str = "ml") -> float | None:
    """Two-sided level whose percentile interval has coverage `level` (Hesterberg 2015).

    Args:
        scale: what the draws' spread is: "ml", too narrow by sqrt((n - p)/n); "unbiased", already
            inflated, so that only Student's tails are missing; "drawn": nothing is missing (None).
    """
    if scale == "drawn":
        return None
    freedom = units - parameters
    z = t.ppf(0.5 + level / 2, freedom) * (np.sqrt(units / freedom) if scale == "ml" else 1.0)
    return float(2 * norm.cdf(z) - 1)


def percentiles(values: Array, level: float) -> tuple[Array, Array]:
    """Lower and upper ends along axis 0."""
    tail = 0.5 * (1 - level)
    # Hyndman & Fan's sixth definition: k of S draws cover k/(S + 1), however few they are.
    low, high = np.quantile(values, [tail, 1 - tail], axis=0, method="weibull")
    return low, high
