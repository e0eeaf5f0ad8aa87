"""One global fit and the evidence that it is one.

Published laws were wrong because an optimizer stopped where it was started. A fit here is many
starts, a polish to rounding, and a certificate of both; it is an error when nothing moved or when
too few starts agree on the answer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linprog

from analysis.laws.law import Array
from analysis.solver.newton import MAX_ITERATIONS, ROUNDING, Minimum, minimize
from analysis.solver.problem import Problem
from analysis.solver.starts import make_starts

STARTS = 32
FEWEST_STARTS = 8
POLISHED = 4  # end points of the smoothed absolute objective that are polished
LARGEST_RATIO = 1e300
AGREE = 1e-6  # relative: two minima with objectives this close are one


class FitError(ValueError):
    """The fit cannot be trusted or cannot be made; the message says what would help."""


@dataclass(frozen=True)
class SolverOptions:
    """How an optimum is looked for."""

    start: Sequence[Mapping[str, float]] = ()  # the user's, tried as well as our own
    starts: int = STARTS  # how many of our own
    strict: bool = True  # raise when the optimum is not certain; otherwise warn

    def __post_init__(self) -> None:
        if self.starts < FEWEST_STARTS:
            raise ValueError(
                f"starts={self.starts}: at least {FEWEST_STARTS}, so that two can agree"
            )


@dataclass(frozen=True)
class Certificate:
    """How the optimum was reached."""

    starts: int  # starts polished to convergence
    share_at_best: float  # of those, the share that reached the best objective
    runner_up: float | None  # best objective among the other end points
    gradient_norm: float  # largest component per unit of working coordinate, over max(objective)
    condition_number: float  # of the Hessian in working coordinates
    moved: float  # distance from the best start to the optimum, working coordinates
    improvement: float  # objective at the best start minus objective at the optimum
    iterations: int
    converged: bool
    at_bound: tuple[str, ...]  # parameters held by a bound

    def to_dict(self) -> dict[str, Any]:
        return {**asdict(self), "at_bound": list(self.at_bound)}

    @staticmethod
    def from_dict(d: dict[str, Any]) -> Certificate:
        return Certificate(**{**d, "at_bound": tuple(d["at_bound"])})

    def describe(self) -> str:
        held = f", at a bound: {', '.join(self.at_bound)}" if self.at_bound else ""
        return (
            f"{self.share_at_best:.0%} of {self.starts} starts reach the best objective, "
            f"gradient {self.gradient_norm:.1e}, condition {self.condition_number:.1e}{held}"
        )


@dataclass(frozen=True)
class Optimum:
    working: Array  # (P,)
    objective: float
    hessian: Array  # (P, P), working coordinates
    certificate: Certificate


def continuation(problem: Problem, working: Array) -> list[float]:
    """Huber widths to pass through: a narrow Huber has no curvature far from its optimum."""
    delta = problem.objective.delta
    if not np.isfinite(delta):
        return []
    widths = []
    width = max(float(np.median(np.abs(problem.residuals(working[:1])))), delta)
    while width > 3 * delta:
        widths.append(width)
        width /= 6
    return widths


def descend(
    problem: Problem,
    starts: Array,
    rows: NDArray[np.intp],
    fixed: NDArray[np.bool_],
    tolerance: float = 1e-10,
    widths: list[float] | None = None,
    max_iterations: int = MAX_ITERATIONS,
) -> Minimum:
    """Minimise through a sequence of softer objectives, then the one that was asked for."""
    working = starts
    for width in continuation(problem, starts) if widths is None else widths:
        soft = replace(problem, objective=problem.objective.softened(width))
        working = minimize(soft, working, rows, fixed, max_iterations=40, tolerance=1e-4).working
    return minimize(problem, working, rows, fixed, max_iterations, tolerance)


def polish_absolute(problem: Problem, working: Array, free: NDArray[np.bool_]) -> Array:
    """Exact least absolute deviations: linear programmes around the smoothed optimum.

    min sum w |r + J d| over a shrinking box; the optimum interpolates as many points as there are
    free parameters, so the sequence ends at a vertex to rounding.
    """
    index = np.flatnonzero(free)
    k, n = index.size, problem.scale.size
    low, high = problem.bounds()
    w = problem.weights
    best = working.copy()
    best_value = float(np.sum(w * np.abs(problem.residuals(best[None])[0])))
    radius = 0.1
    for _ in range(40):
        r = problem.residuals(best[None])[0]
        jac = problem.residual_jacobian(best[None])[0][:, index]
        # variables: step d (k), overshoot u, undershoot v >= 0 with r + J d = u - v
        equality = np.hstack([jac, -np.eye(n), np.eye(n)])
        box = [(max(-radius, low[j] - best[j]), min(radius, high[j] - best[j])) for j in index]
        box += [(0.0, np.inf)] * (2 * n)
        cost = np.concatenate([np.zeros(k), w, w])
        answer = linprog(cost, A_eq=equality, b_eq=-r, bounds=box, method="highs")
        if not answer.success:
            break
        trial = best.copy()
        trial[index] += answer.x[:k]
        value = float(np.sum(w * np.abs(problem.residuals(trial[None])[0])))
        step = float(np.max(np.abs(answer.x[:k])))
        if value < best_value:
            best, best_value = trial, value
        else:
            radius = min(radius, step) / 4
        if step < 1e-12 or radius < 1e-13:
            break
    return best


def polish_several(
    problem: Problem, found: Minimum, fixed: NDArray[np.bool_]
) -> tuple[Array, float, float]:
    """Least absolute deviations from the best few end points of the smoothed objective.

    Returns:
        The optimum, its objective, and the highest smoothed objective that led there.
    """
    order = np.argsort(found.objective, kind="stable")
    spread = [order[0]]
    for k in order[1:]:  # end points that are not the same one
        if found.objective[k] > found.objective[spread[-1]] * (1 + AGREE):
            spread.append(k)
    ends, values = [], []
    for k in spread[:POLISHED]:
        ends.append(polish_absolute(problem, found.working[k], ~(found.at_bound[k] | fixed)))
        values.append(float(problem.value(ends[-1][None], np.zeros(1, dtype=np.intp))[0]))
    best = int(np.argmin(values))
    same = [k for k, v in zip(spread, values, strict=False) if v <= values[best] * (1 + AGREE)]
    return ends[best], values[best], float(found.objective[same].max())


def subgradient(problem: Problem, working: Array, free: NDArray[np.bool_]) -> tuple[Array, Array]:
    """Smallest subgradient (P,) of the sum of |r| at a vertex, zero at an optimum, and J'J.

    Points on the law may take any slope between -1 and 1 (Koenker 2005, Sec. 2.2.2).
    """
    residual = problem.residuals(working[None])[0]
    jac = problem.residual_jacobian(working[None])[0]
    jac[:, ~free] = 0.0
    on = np.abs(residual) < 1e-9 * max(float(np.max(np.abs(residual))), 1e-6)
    outer = (problem.weights * np.sign(residual))[~on] @ jac[~on]
    inner = jac[on] * problem.weights[on, None]
    slope = np.linalg.lstsq(inner.T, -outer, rcond=None)[0] if on.any() else np.zeros(0)
    return outer + np.clip(slope, -1, 1) @ inner, jac.T @ jac


def pick_best(found: Minimum) -> int:
    """The end point to report: among those equal but for rounding, the one with least gradient."""
    lowest = float(found.objective.min())
    equal = np.flatnonzero(found.objective <= lowest + ROUNDING * abs(lowest))
    done = equal[found.converged[equal]]
    among = done if done.size else equal
    return int(among[np.argmin(np.abs(found.gradient[among]).max(axis=1))])


def optimize(
    problem: Problem,
    seed: int,
    given: Array | None,
    fixed: NDArray[np.bool_],
    fixed_values: Array,
    starts: int = STARTS,
) -> Optimum:
    """Global fit of one problem (one row of weights and values).

    Args:
        given: user's starts in working coordinates (m, P), tried as well as our own.
        fixed, fixed_values: coordinates that keep a given value (P,), working coordinates.
    """
    points = make_starts(problem, starts, seed)
    if given is not None:
        points = np.vstack([given, points])
    points = np.where(fixed, fixed_values, points)
    rows = np.zeros(len(points), dtype=np.intp)
    initial = problem.value(points, rows)
    usable = np.isfinite(initial)
    if not usable.any():
        raise FitError(
            f"law {problem.law.name}: no start gives a finite objective; check the units of the "
            "columns or give a start"
        )
    points, rows, initial = points[usable], rows[usable], initial[usable]
    found = descend(problem, points, rows, fixed)
    best = pick_best(found)
    working, objective = found.working[best], float(found.objective[best])
    free = ~(found.at_bound[best] | fixed)
    reached, gradient = objective, found.gradient[best]
    curvature = found.hessian[best]
    if problem.objective.is_absolute:
        working, objective, reached = polish_several(problem, found, fixed)
        low, high = problem.bounds()
        free = (working > low) & (working < high) & ~fixed
        gradient, curvature = subgradient(problem, working, free)
    scale = max(abs(objective), 1e-300)
    # On noise-free data every minimum is rounding: compare with the start's objective as well.
    close = AGREE * scale + 1e-12 * float(np.median(initial)) / max(problem.scale.size, 1)
    # Starts end on the smoothed objective; `reached` is the highest from which polish leads to
    # the optimum.
    at_best = found.objective <= max(reached, objective) + close
    others = found.objective[~at_best]
    curvature = curvature[np.ix_(free, free)] if free.any() else np.eye(1)
    eigenvalues = np.abs(np.linalg.eigvalsh(curvature))
    largest, smallest = float(eigenvalues.max()), float(eigenvalues.min())
    diagonal = float(np.max(np.abs(np.diag(curvature)))) if free.any() else 1.0
    distance = np.abs(points - working).max(axis=1)
    nearest = int(np.argmin(initial))
    certificate = Certificate(
        starts=len(points),
        share_at_best=float(np.mean(at_best)),
        runner_up=float(others.min()) if others.size else None,
        gradient_norm=float(np.max(np.abs(gradient))) / max(scale, 1e-16 * diagonal),
        condition_number=largest / smallest if smallest > largest * 1e-300 else LARGEST_RATIO,
        moved=float(distance[nearest]),
        improvement=float(initial[nearest] - objective),
        iterations=found.iterations,
        converged=bool(found.converged[best]) or problem.objective.is_absolute,
        at_bound=tuple(
            n for n, b in zip(problem.law.names, found.at_bound[best], strict=True) if b
        ),
    )
    return Optimum(working, objective, found.hessian[best], certificate)


def certify(certificate: Certificate, law_name: str) -> list[str]:
    """Warnings of a certificate; raises when the optimum cannot be trusted."""
    problems = []
    if not certificate.converged:
        raise FitError(
            f"law {law_name}: the optimizer did not converge ({certificate.describe()}); "
            "use a law with fewer parameters or fix one (--fix)"
        )
    reached = round(certificate.share_at_best * certificate.starts)
    if reached < 2 and certificate.starts > 2:
        raise FitError(
            f"law {law_name}: only one of {certificate.starts} starts reached the best objective "
            f"(next best {certificate.runner_up}); the optimum is not certain. More starts "
            "(--starts), a simpler law or more sizes would settle it"
        )
    if certificate.share_at_best < 0.2:
        problems.append(
            f"only {certificate.share_at_best:.0%} of the starts reach the best objective: "
            "several local optima"
        )
    if certificate.condition_number > 1e10:
        problems.append(
            f"condition number {certificate.condition_number:.0e}: some combination of parameters "
            "is not determined by these points"
        )
    return problems
