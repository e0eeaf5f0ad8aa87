"""Which size and data to train with a budget, under all laws of a forecast together."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize_scalar

from analysis.forecasting.combination import GROWTH, Forecaster
from analysis.forecasting.places import compute_of
from analysis.laws.law import Array
from analysis.optima.compute_optimal import ComputeRule
from analysis.solver.global_fit import FitError

GRID = 241  # sizes tried
REACH = 3.0  # decades tried below and above sizes in proportion to those of the ladder
DRAWS = 600
NEEDED = 61  # budgets tried for a target loss
FARTHEST = 1e6  # times the largest compute


@dataclass(frozen=True)
class Optimum:
    """N*, D* and the intervals that the laws' uncertainty leaves them."""

    n: float
    d: float
    n_interval: tuple[float, float]
    d_interval: tuple[float, float]
    at_edge: bool  # more than a share 1 - level of the draws have no optimum in reach


def allocations(forecaster: Forecaster, flops: float, rule: ComputeRule) -> Array:
    """ln N and ln D (2, GRID) that spend the budget."""
    n = forecaster.ladder.x[0]
    growth = max(np.log(flops / rule.k) / 2 - forecaster.ladder.x.sum(axis=0).max() / 2, 0.0)
    reach = REACH * np.log(10)
    top = min(n.max() + growth + reach, np.log(rule.largest(flops)) - 1e-9)
    log_n = np.linspace(n.min() - reach, top, GRID)
    return np.array([log_n, np.log(rule.data(flops, np.exp(log_n)))])


def best_allocation(
    forecaster: Forecaster, flops: float, rule: ComputeRule, level: float = 0.95, seed: int = 0
) -> Optimum:
    """The allocation whose expected log loss is lowest, with an interval over laws and draws."""
    x = allocations(forecaster, flops, rule)
    outlook = forecaster.outlook(x, compute_of(rule, x))
    share = outlook.shares(forecaster.learned) * forecaster.views
    expected = np.einsum("lv,lvn->n", share, outlook.center)
    best = int(np.argmin(expected))
    tilt = (
        GROWTH * outlook.slope * forecaster.learned.drift() * outlook.distance[best] ** (GROWTH - 1)
    )
    rng = np.random.default_rng(seed)
    counts = rng.multinomial(DRAWS, share.ravel() / share.sum()).reshape(share.shape)
    places = []
    for law, posterior in enumerate(forecaster.posteriors()):
        for view, count in enumerate(counts[law]):
            covariance = forecaster.learned.widening**2 * posterior.covariance[view]
            theta = rng.multivariate_normal(posterior.theta[view], covariance, size=count)
            lowest = np.full(count, posterior.lowest[view])
            loss, _ = posterior.shape.value(theta, x - forecaster.origin[:, None], lowest)
            # The misfit may lean to size or to data as much as it grows with distance.
            lean = tilt[law, view] * rng.standard_normal((count, 1))
            places.append((loss + lean * (x[0] - x[0, best])).argmin(axis=1))
    found = np.concatenate(places)
    low, high = np.quantile(found, [0.5 - level / 2, 0.5 + level / 2]).round().astype(int)
    low, high = min(low, best), max(high, best)
    edge = np.mean((found == 0) | (found == GRID - 1)) > 1 - level
    fine = minimize_scalar(
        lambda u: _expected(forecaster, _place(rule, flops, u), rule)[0],
        bounds=(x[0, max(best - 1, 0)], x[0, min(best + 1, GRID - 1)]),
        method="bounded",
        options={"xatol": 1e-9},
    )
    n, d = np.exp(x)
    n_best, d_best = np.exp(_place(rule, flops, fine.x)[:, 0])
    return Optimum(
        float(n_best), float(d_best),
        (float(min(n[low], n_best)), float(max(n[high], n_best))),
        (float(min(d[high], d_best)), float(max(d[low], d_best))), bool(edge),
    )  # fmt: skip


def _place(rule: ComputeRule, flops: float, log_n: float) -> Array:
    """ln N and ln D (2, 1) that spend the budget."""
    return np.array([[log_n], [np.log(rule.data(flops, np.exp(log_n)))]])


def _expected(forecaster: Forecaster, x: Array, rule: ComputeRule) -> Array:
    """Expected log loss (n,) at places (2, n), over laws and views."""
    outlook = forecaster.outlook(x, compute_of(rule, x))
    share = outlook.shares(forecaster.learned) * forecaster.views
    return np.asarray(np.einsum("lv,lvn->n", share, outlook.center))


def compute_needed(
    forecaster: Forecaster, loss: float, rule: ComputeRule | None, level: float = 0.95
) -> tuple[float, tuple[float | None, float | None]]:
    """Compute at which a new run, best allocated, has a median loss as wanted, and its interval.

    Args:
        rule: how compute follows from N and D; None for a ladder of one variable.

    Raises:
        FitError: if no compute within reach gets there.
    """
    top = forecaster.ladder.top
    size = np.linspace(forecaster.ladder.size.min(), top + np.log(FARTHEST), NEEDED)
    if rule is None:
        x = size[None]
    else:
        best = [best_place(forecaster, float(np.exp(s)), rule) for s in size]
        x = np.array(best).T
    mixture = forecaster.at(x, size)
    low, high = mixture.interval(level)
    middle = _crossing(size, mixture.quantile(0.5), np.log(loss))
    if middle is None:
        raise FitError(
            f"loss {loss:g} is not expected within {FARTHEST:g} times the largest compute of "
            "the ladder: it lies near or below what the laws take for their floors"
        )
    ends = (_crossing(size, low, np.log(loss)), _crossing(size, high, np.log(loss)))
    return float(np.exp(middle)), tuple(None if e is None else float(np.exp(e)) for e in ends)  # type: ignore[return-value]


def best_place(forecaster: Forecaster, flops: float, rule: ComputeRule) -> Array:
    """ln N, ln D (2,) of lowest expected log loss."""
    x = allocations(forecaster, flops, rule)
    return np.asarray(x[:, int(np.argmin(_expected(forecaster, x, rule)))])


def _crossing(size: Array, y: Array, target: float) -> float | None:
    """Where a falling curve first meets the target, linear between points; None if never."""
    reached = np.flatnonzero(y <= target)
    if not reached.size:
        return None
    k = int(reached[0])
    if k == 0:
        return float(size[0])
    share = (y[k - 1] - target) / (y[k - 1] - y[k])
    return float(size[k - 1] + share * (size[k] - size[k - 1]))
