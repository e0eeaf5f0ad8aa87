"""Which runs to train next for a law of any variables: V-optimal choice among given candidates.

The law is linearized at its fit, where a run adds the squares of its slopes to what is known of the
parameters; greedily, the run is taken that lowers the variance at the targets most for its price.
A few runs leave a law several optima that fit about alike; what a run is worth is averaged over
them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from analysis.laws.law import Array, Columns, Law
from analysis.solver.global_fit import FitError
from analysis.solver.newton import minimize
from analysis.solver.objectives import get_objective
from analysis.solver.problem import GeneralProblem, make_problem
from analysis.solver.starts import make_starts
from analysis.tables.points import Points

STARTS = 32
ROUNDS = (16, 8, 8, 4, 4)  # of 32 and more starts, how many go on after each round of steps
STEPS = 29  # Gauss-Newton steps of a round
LEAST = 1e-3  # of a value, where there is one run or all are alike
LARGEST = 1e100  # a slope beyond it is an overflow
UNLIKELY = 0.01  # an optimum of a smaller weight is left out
DOUBT = 4.0  # values that the guess at a law's error, their own variance, counts as
PRICE_POWER = 0.3  # of the price that a gain is divided by (Li et al. 2026, arXiv 2604.22753)


@dataclass(frozen=True)
class Fits:
    """Optima of one law, best first, in internal coordinates."""

    theta: Array  # (M, P)
    weight: Array  # (M,)
    noise: float  # variance of a value about the law
    prior: Array  # (P,) precision of what is known without data


@dataclass(frozen=True)
class Pool:
    """C candidates of R values each, and where the law is to predict."""

    x: Columns  # (C R,), a candidate's rows together
    price: Array  # (C,)
    targets: Columns  # (T,)


@dataclass(frozen=True)
class Choice:
    """Candidates in the order in which to train them."""

    runs: tuple[int, ...]
    spread: tuple[float, ...]  # root mean variance at the targets after each, in units of that now
    price: float
    reason: str  # why there is no further one


def fit_law(law: Law, x: Columns, y: Array, seed: int = 0, known: Array | None = None) -> Fits:
    """Least squares (of logarithms, for a law of positive values) from many starts.

    Args:
        known: optima (M, P) of an earlier fit, tried as well.
    """
    objective = get_objective("log_least_squares" if law.positive else "least_squares")
    size = len(law.parameters)
    points = Points(x, y, None, np.arange(len(y)), ())
    problem = make_problem(law, points, objective, np.zeros(size, dtype=bool))
    if isinstance(problem, GeneralProblem):  # its curvature costs a pass for each parameter
        problem = replace(problem, curvature=np.zeros((len(y), size, size)))
    starts = make_starts(problem, STARTS, seed)
    if known is not None:
        starts = np.concatenate([problem.to_working(known), starts])
    found = minimize(problem, starts, max_iterations=STEPS)
    for count in ROUNDS:
        best = np.argsort(found.objective)[:count]
        found = minimize(problem, found.working[best], max_iterations=STEPS)
    order = np.argsort(found.objective)
    squares = found.objective[order]
    # As many values as parameters leave no residual, and a law that is wrong may err elsewhere.
    doubt = max(np.var(problem.log_y), (LEAST * (1 if law.positive else np.mean(np.abs(y)))) ** 2)
    noise = float((squares[0] + DOUBT * doubt) / (len(y) + DOUBT))
    if not np.isfinite(noise):
        raise FitError(f"law {law.name}: no start gives it finite values at the runs")
    weight = np.exp(-(squares - squares[0]) / (2 * noise))
    kept = weight > UNLIKELY
    ranges = law.guesses(x, y)
    ends = np.array([ranges[p.name] for p in law.parameters])  # (P, 2)
    positive = np.array([p.positive for p in law.parameters])
    ends[positive] = np.log(ends[positive])
    return Fits(
        problem.from_working(found.working[order[kept]]), weight[kept] / weight[kept].sum(), noise,
        16 / np.ptp(ends, axis=1) ** 2,
    )  # fmt: skip


class Mode:
    """One optimum of the law, linearized: what is known there, and what each candidate adds."""

    def __init__(self, law: Law, fits: Fits, optimum: int, seen: Columns, pool: Pool) -> None:
        def slopes(x: Columns) -> Array:  # by parameters in units of what is known without data
            return _slopes(law, fits.theta[optimum], x) / np.sqrt(fits.prior)

        known, self.noise = slopes(seen), fits.noise
        self.information = np.eye(known.shape[1]) + known.T @ known / self.noise
        self.at_targets = slopes(pool.targets)  # (T, P)
        self.at_runs = slopes(pool.x).reshape(len(pool.price), -1, known.shape[1])  # (C, R, P)
        self._spread()

    def _spread(self) -> None:
        size, axes = np.linalg.eigh(self.information)
        root = axes / np.sqrt(np.maximum(size, 1.0))  # of the covariance
        runs, targets = self.at_runs @ root, self.at_targets @ root
        self.variance = float(np.sum(targets**2))  # at all targets together
        self.own = runs @ runs.mT + self.noise * np.eye(runs.shape[1])  # (C, R, R)
        self.shared = runs @ targets.T  # (C, R, T) covariance with the targets

    def gains(self) -> Array:
        """Variance at all targets together that each candidate would take away (C,)."""
        return np.asarray(np.sum(np.linalg.solve(self.own, self.shared) * self.shared, axis=(1, 2)))

    def take(self, run: int) -> None:
        """Go on as if a candidate were trained."""
        rows = self.at_runs[run]
        self.information = self.information + rows.T @ rows / self.noise
        self._spread()


def _slopes(law: Law, theta: Array, x: Columns) -> Array:
    """Derivatives (n, P) of the values, or of their logarithms where the law is positive."""
    with np.errstate(all="ignore"):
        value, jac = law.jacobian(theta[None], x)
        slopes = (jac / value[..., None] if law.positive else jac)[0]
        return np.where(np.abs(slopes) < LARGEST, slopes, 0.0)


def choose_runs(
    law: Law, fits: Fits, seen: Columns, pool: Pool, budget: float,
    free: NDArray[np.bool_] | None = None, worth: float = 0.0, most: int = 20,
) -> Choice:  # fmt: skip
    """Greedily the candidates that take most variance from the targets for their price.

    Args:
        fits: of the law to the runs there are, whose columns are `seen` (n,).
        budget: that all new runs together may cost.
        free: candidates that may be chosen (C,); default: all.
        worth: share by which a run must narrow the spread.
        most: runs; what they show changes what is best next.
    """
    modes = [Mode(law, fits, i, seen, pool) for i in range(len(fits.theta))]
    free = np.ones(len(pool.price), dtype=bool) if free is None else free.copy()
    left, runs, spread = budget, list[int](), list[float]()
    first = now = fits.weight @ [mode.variance for mode in modes]
    while len(runs) < most:
        able = free & (pool.price <= left)
        reason = "no further candidate fits into the budget"
        if able.any():
            gain = fits.weight @ [mode.gains() for mode in modes]
            able &= gain >= now * (1 - (1 - worth) ** 2)
            reason = f"no affordable candidate narrows the spread by {worth:.0%} or more"
        if not able.any():
            return Choice(tuple(runs), tuple(spread), budget - left, reason)
        best = int(np.argmax(np.where(able, gain / pool.price**PRICE_POWER, -np.inf)))
        for mode in modes:
            mode.take(best)
        now = fits.weight @ [mode.variance for mode in modes]
        runs.append(best)
        spread.append(float(np.sqrt(now / first)))
        left, free[best] = left - pool.price[best], False
    reason = f"{most} runs are as far as a plan looks ahead"
    return Choice(tuple(runs), tuple(spread), budget - left, reason)
