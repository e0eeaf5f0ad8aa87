"""Which runs to train next, so that the interval of a forecast narrows most for their price.

V-optimal design: every law of the forecast is linearized at its fit, where one more run adds the
square of its gradient to the precision of the parameters. If one of the laws were true, the run
would also speak against the others; so each law in turn is taken for the truth, and what the
mixture would then say of the target is averaged over them. A run beyond the ladder puts both views
of it to the test, too.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
import pandas as pd

from analysis.forecasting import Forecaster, Ladder
from analysis.forecasting.combination import DISCOUNTS, GROWTH, SHALLOWEST
from analysis.forecasting.ladder import AHEAD
from analysis.forecasting.places import compute_of
from analysis.laws.law import Array
from analysis.optima.compute_optimal import ComputeRule

LEVELS = 12  # sizes or data budgets of a ladder that are taken as they are; of more, so many
BEYOND = 3  # steps above the ladder
STRETCH = 2.0  # times beyond the ladder's own range of tokens for a parameter
APART = 0.05  # of the logarithm: what is nearer is one level, and a run there is one again
WORTH = 0.01  # a run that narrows the interval by a smaller share is not worth it
NEARLY = 0.05  # a plan that ends with an interval wider by this share is as good, if it is cheaper
PRICE_POWERS = (1.0, 0.5, 0.0)  # plans tried: gain per FLOP, per its root, whatever it costs
MOST = 20  # runs


@dataclass(frozen=True)
class Pool:
    """C runs that could be trained."""

    x: Array  # (k, C) logarithms
    size: Array  # (C,) logarithm of compute


@dataclass(frozen=True)
class Trunks:
    """Trunks whose checkpoints a new run may start from.

    `saved` holds for each size (ln N) the data budgets at which the trunk can be branched.
    """

    cooldown: float = 0.0  # share of a run's budget that is its own
    saved: dict[float, tuple[float, ...]] = field(default_factory=dict)
    shared: bool = False  # False: every run is trained by itself

    def prices(self, pool: Pool) -> Array:
        """FLOPs that each run adds (C,)."""
        price = np.exp(pool.size)
        if not self.shared:
            return price
        for i, (n, log_d) in enumerate(pool.x.T):
            d = np.exp(log_d)
            usable = [s for s in self.saved.get(n, ()) if s <= d * (1 - self.cooldown) * 1.001]
            price[i] *= 1 - max(usable, default=0.0) / d
        return price

    def with_run(self, x: Array) -> Trunks:
        """After a run at ln N, ln D (2,): its trunk reaches as far as its branch point."""
        n = float(x[0])
        branch = float(np.exp(x[1])) * (1 - self.cooldown)
        return replace(self, saved={**self.saved, n: (*self.saved.get(n, ()), branch)})


def trunks_of(frame: pd.DataFrame) -> Trunks:
    """The trunks of a run store's table with columns N and D; of other tables: none."""
    if not {"trunk_id", "cooldown_steps", "n_steps"} <= set(frame):
        return Trunks()
    share = float((frame["cooldown_steps"] / frame["n_steps"]).median())
    if not share < 1:  # every run decays from its start, or nothing is known
        return Trunks()
    trunks = Trunks(share, {}, shared=True)
    for _, rows in frame.groupby("N"):
        longest = rows[rows["trunk_id"] == rows.sort_values("D")["trunk_id"].iloc[-1]]
        for n, d in np.log(longest[["N", "D"]].to_numpy(float)):
            trunks = trunks.with_run(np.array([n, d]))
    return trunks


def grid(values: Array) -> Array:
    """Logarithms on a ladder, between its levels, a step below and some beyond."""
    levels = np.sort(values[np.unique(np.round(values / APART), return_index=True)[1]])
    if len(levels) > LEVELS:
        even = np.linspace(levels[0], levels[-1], LEVELS)
        levels = np.unique(levels[np.abs(levels - even[:, None]).argmin(axis=1)])
    if len(levels) == 1:
        levels = np.r_[levels, levels + np.log(2)]
    step = float(np.median(np.diff(levels)))
    between = (levels[1:] + levels[:-1]) / 2
    beyond = levels[-1] + step * np.arange(1, BEYOND + 1)
    return np.sort(np.r_[levels[0] - step, levels, between, beyond])


def make_pool(ladder: Ladder, rule: ComputeRule | None, trunks: Trunks) -> Pool:
    """Places new to the ladder, with about as many tokens for a parameter as it has seen.

    Args:
        rule: how compute follows from N and D; None for a ladder of one variable.
        trunks: where they are shared, no budget is below the shortest, which sets the warm-up.
    """
    axes = [grid(values) for values in ladder.x]
    x = np.array([axis.ravel() for axis in np.meshgrid(*axes, indexing="ij")])
    near = np.abs(x[:, :, None] - ladder.x[:, None, :]).max(axis=0).min(axis=1) < APART
    if rule is None:
        return Pool(x[:, ~near], x[0, ~near])
    ratio, seen = x[1] - x[0], ladder.x[1] - ladder.x[0]
    usual = (ratio > seen.min() - np.log(STRETCH)) & (ratio < seen.max() + np.log(STRETCH))
    usual &= (x[1] > ladder.x[1].min() - APART) | (not trunks.shared)
    x = x[:, ~near & usual]
    return Pool(x, compute_of(rule, x))


@dataclass
class Component:
    """One law in one view of the ladder, linearized."""

    view: int
    temper: float
    drift: float  # misfit at a distance of 1
    noise: float  # variance of one run
    prior: Array  # (P, P) precision that data did not bring
    precision: Array  # (P, P)
    at_target: float
    target_slope: Array  # (P,)
    at_runs: Array  # (C,)
    slopes: Array  # (C, P)
    shift: Array  # (S, P) of the parameters if law s is true


@dataclass(frozen=True)
class Proposal:
    """One run of a plan."""

    x: Array  # (k,) logarithms
    size: float
    price: float  # FLOPs that it adds
    narrowing: float  # width of the interval after this run, in units of the width now


@dataclass(frozen=True)
class Plan:
    runs: tuple[Proposal, ...]
    reason: str  # why there is no further run

    @property
    def price(self) -> float:
        return sum(run.price for run in self.runs)

    @property
    def narrowing(self) -> float:
        return self.runs[-1].narrowing if self.runs else 1.0


class Design:
    """The forecast's variance at one target, now and after more runs of a pool.

    Args:
        x, size: logarithms of the target (k, 1) and (1,).
    """

    def __init__(self, forecaster: Forecaster, x: Array, size: Array, pool: Pool) -> None:
        learned, outlook = forecaster.learned, forecaster.outlook(x, size)
        self.pool, self.target = pool, float(size[0])
        self.top = forecaster.ladder.top
        self.views, self.widening = forecaster.views, learned.widening
        share = (outlook.shares(learned) * forecaster.views).ravel()
        self.truths = share / share.sum()  # (S,)
        with np.errstate(divide="ignore"):
            self.log_weight = np.tile(np.log(self.truths), (len(share), 1))  # (S, K)
        self.log_view = np.tile(np.log(forecaster.views), (len(share), 1))  # (S, V)
        self.backtest_weight = learned.backtest_weight
        places = np.concatenate([x, pool.x], axis=1) - forecaster.origin[:, None]
        self.parts = []
        for law, fit in enumerate(forecaster.posteriors()):
            values, slopes = fit.shape.value(fit.theta, places, fit.lowest)
            prior = np.diag(1 / fit.shape.prior(np.ones(1))[1] ** 2)
            for view in range(len(DISCOUNTS)):
                self.parts.append(
                    Component(
                        view, learned.temper()[view],
                        learned.drift()[view] * max(outlook.slope[law, view], SHALLOWEST),
                        fit.noise[view] ** 2, prior, np.linalg.inv(fit.covariance[view]),
                        values[view, 0], slopes[view, 0], values[view, 1:], slopes[view, 1:],
                        np.zeros((len(share), len(prior))),
                    )
                )  # fmt: skip

    def width(self) -> float:
        """Standard deviation of a new run at the target now, averaged over what may be true."""
        spread = [p.target_slope @ np.linalg.solve(p.precision, p.target_slope) for p in self.parts]
        center = np.array([p.at_target + p.shift @ p.target_slope for p in self.parts])  # (K, S)
        own = self._own(np.array(spread)[:, None], np.array([self.top]))[..., 0]  # (K,)
        weight = self._weights(self.log_weight.T[..., None], self.log_view.T[..., None])
        return float(self._mixed(weight, center[..., None], own[:, None])[0])

    def after_each(self) -> Array:
        """The same after each run of the pool alone (C,)."""
        weight, center, spread = [], [], []
        for k, p in enumerate(self.parts):
            target = np.linalg.solve(self._precisions(p), p.target_slope[:, None])[..., 0]
            pull = np.sum(target * p.slopes, axis=1) * self._ahead(p) / p.noise
            spread.append(target @ p.target_slope)
            center.append((p.at_target + p.shift @ p.target_slope)[:, None]
                          + self._told(k)[0] * pull)  # fmt: skip
            weight.append(self._judged(k))
        own = self._own(np.array(spread), np.maximum(self.top, self.pool.size))
        weights = self._weights(np.array(weight), self._foretold())
        return self._mixed(weights, np.array(center), own[:, None])

    def take(self, run: int) -> None:
        """Go on as if a run of the pool were made."""
        log_view = self._foretold()[..., run].T
        log_weight = np.array([self._judged(k)[:, run] for k in range(len(self.parts))]).T
        for k, p in enumerate(self.parts):
            precision = self._precisions(p)[run]
            pull = np.linalg.solve(precision, p.slopes[run]) * self._ahead(p)[run] / p.noise
            p.shift = p.shift + self._told(k)[0][:, [run]] * pull
            p.precision = precision
        self.log_view, self.log_weight = log_view, log_weight
        self.top = max(self.top, float(self.pool.size[run]))

    def _told(self, k: int) -> tuple[Array, Array]:
        """Errors (S, C) that a law makes in each run if law s is true, its variance there (C,)."""
        p = self.parts[k]
        truth = np.array([part.at_runs for part in self.parts])
        known = np.sum(np.linalg.solve(p.precision, p.slopes.T).T * p.slopes, axis=1)
        return truth - p.at_runs - p.shift @ p.slopes.T, known + p.noise

    def _ahead(self, p: Component) -> Array:
        """What each run counts in a law's view (C,): less, the further it lies below the top."""
        return np.exp(-DISCOUNTS[p.view] * np.maximum(self.top - self.pool.size, 0.0))

    def _judged(self, k: int) -> Array:
        """Log weight (S, C) of a law within its view after each run if law s is true."""
        p = self.parts[k]
        error, variance = self._told(k)
        density = -0.5 * (error**2 / variance + np.log(variance))
        return np.asarray(self.log_weight[:, [k]] + p.temper * self._ahead(p) * density)

    def _precisions(self, p: Component) -> Array:
        """Of a law's parameters after each run (C, P, P); a new largest run dims the others."""
        dim = np.exp(-DISCOUNTS[p.view] * np.maximum(self.pool.size - self.top, 0.0))
        square = p.slopes[:, :, None] * p.slopes[:, None, :]
        dimmed = p.prior + dim[:, None, None] * (p.precision - p.prior)
        return np.asarray(dimmed + (self._ahead(p) / p.noise)[:, None, None] * square)

    def _own(self, spread: Array, top: Array) -> Array:
        """Variance of a new run within each law (K, C), from that of the law and the top (C,)."""
        distance = np.maximum(self.target - top, 0.0) ** GROWTH
        noise, drift = np.array([[p.noise, p.drift] for p in self.parts]).T[..., None]
        return np.asarray(self.widening**2 * (spread + noise) + (drift * distance) ** 2)

    def _foretold(self) -> Array:
        """Log weights of the views (V, S, C) after runs, which those beyond the top put to test."""
        told = [self._told(k) for k in range(len(self.parts))]
        error, variance = np.array([t[0] for t in told]), np.array([t[1] for t in told])
        noise, drift = np.array([[p.noise, p.drift] for p in self.parts]).T[..., None]
        reach = np.maximum(self.pool.size - self.top, 0.0)
        own = (self.widening**2 * variance + (drift * reach**GROWTH) ** 2)[:, None]
        density = -0.5 * ((error**2 + noise[:, None]) / own + np.log(own))
        view = np.array([p.view for p in self.parts])
        out = np.repeat(self.log_view.T[..., None], len(reach), axis=2)
        for v in range(len(out)):
            law = self.log_weight.T[view == v]
            law = law - np.logaddexp.reduce(law, axis=0)
            score = np.logaddexp.reduce(law[..., None] + density[view == v], axis=0)
            out[v] += self.backtest_weight * score * (reach > np.log(AHEAD))
        return np.asarray(out)

    def _weights(self, log_weight: Array, log_view: Array) -> Array:
        """Shares of the parts (K, S, C) from log weights within views and of views (V, S, C)."""
        view = np.array([p.view for p in self.parts])
        share = np.exp(log_view - log_view.max(axis=0))
        share /= share.sum(axis=0)
        weight = np.empty_like(log_weight)
        for v in range(len(share)):
            part = log_weight[view == v]
            part = np.exp(part - part.max(axis=0))
            weight[view == v] = share[v] * part / part.sum(axis=0)
        return weight

    def _mixed(self, weight: Array, center: Array, own: Array) -> Array:
        """Standard deviation of the mixture (C,), within laws and between, averaged over truths.

        Args:
            weight, center: (K, S, C).
            own: (K, 1, C).
        """
        mean = np.sum(weight * center, axis=0)
        total = np.sum(weight * (own + (center - mean) ** 2), axis=0)
        return np.asarray(self.truths @ np.sqrt(total))


def plan_runs(
    forecaster: Forecaster, x: Array, size: Array, pool: Pool, trunks: Trunks, budget: float
) -> Plan:
    """The cheapest of several greedy plans among those that end with about the narrowest interval.

    Args:
        x, size: logarithms of the target (k, 1) and (1,).
        budget: FLOPs that all runs together may add.
    """
    plans = [
        _greedy(Design(forecaster, x, size, pool), trunks, budget, power)
        for power in PRICE_POWERS
    ]  # fmt: skip
    narrowest = min(plan.narrowing for plan in plans)
    good = [plan for plan in plans if plan.narrowing <= narrowest * (1 + NEARLY)]
    return min(good, key=lambda plan: plan.price)


def _greedy(design: Design, trunks: Trunks, budget: float, power: float) -> Plan:
    pool, left = design.pool, budget
    before = now = design.width()
    free = np.ones(len(pool.size), dtype=bool)
    chosen: list[Proposal] = []
    while len(chosen) < MOST:
        prices = trunks.prices(pool)
        able = free & (prices <= left)
        if not able.any():
            return Plan(tuple(chosen), "no further run fits into the budget")
        width = design.after_each()
        gain = 1 - width / now
        able &= gain >= WORTH
        if not able.any():
            return Plan(
                tuple(chosen), f"no affordable run narrows the interval by {WORTH:.0%} or more"
            )
        best = int(np.argmax(np.where(able, gain / prices**power, -np.inf)))
        design.take(best)
        now, left = width[best], left - prices[best]
        free[best] = False
        trunks = trunks.with_run(pool.x[:, best]) if trunks.shared else trunks
        chosen.append(Proposal(pool.x[:, best], pool.size[best], prices[best], float(now / before)))
    return Plan(tuple(chosen), f"{MOST} runs are as far as a plan looks ahead")
