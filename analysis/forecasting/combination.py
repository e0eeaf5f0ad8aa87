"""One forecast from several laws, weighed by how well they foretold runs of the ladder itself.

Each law is fitted twice: to the whole ladder, every run alike, and to its top, where a run counts
less the further it lies below the largest. Within a view laws share by their evidence; the views by
the log score of forecasts from cuts within the ladder. Every component is widened, and the top's
lowered, by a misfit that grows with distance, in units of the law's own slope, as real ladders
taught (`prior.py`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from analysis.forecasting.ladder import FEWEST, Ladder, Mask
from analysis.forecasting.mixture import Mixture, log_student
from analysis.forecasting.posterior import Posterior, fit_shape
from analysis.forecasting.prior import Experience, experience
from analysis.forecasting.shapes import CURVES, SURFACES, Shape
from analysis.laws.law import Array
from analysis.tables.table import TableError

DISCOUNTS = (0.0, 2.0)  # power of compute by which a run's weight falls: the whole, and the top
VIEWS = len(DISCOUNTS)
GROWTH = 1.5  # power of the log distance with which the misfit grows: a wandering exponent's
SHALLOWEST = 1e-3  # slope of a law that has stopped falling, for the misfit's unit
STEP = 1e-3


@dataclass(frozen=True)
class Outlook:
    """What L laws in two views say of n runs; `combine` makes one distribution of it."""

    evidence: Array  # (L, V)
    slope: Array  # (L, V): fall of ln loss with ln compute at the best run
    noise: Array  # (L, V)
    center: Array  # (L, V, n): of the law
    spread: Array  # (L, V, n)
    distance: Array  # (n,): ln of compute over the largest seen, at least 0

    def unit(self) -> Array:
        """Of the misfit, (L, V, n)."""
        steepness = np.maximum(self.slope, SHALLOWEST)
        return np.asarray(steepness[..., None] * self.distance**GROWTH)

    def middle(self, learned: Experience) -> Array:
        """Of the distribution of a new run by law and view, (L, V, n)."""
        return self.center - learned.lowered()[:, None] * self.unit()

    def sd(self, learned: Experience) -> Array:
        """Standard deviation of the same."""
        noise = self.spread**2 + self.noise[..., None] ** 2
        misfit = learned.drift()[:, None] * self.unit()
        return np.sqrt(learned.widening**2 * noise + misfit**2)

    def shares(self, learned: Experience) -> Array:
        """Of each law within a view, (L, V)."""
        score = learned.temper() * self.evidence
        share = np.exp(score - score.max(axis=0))
        return np.asarray(share / share.sum(axis=0))

    def log_scores(self, y: Array, learned: Experience) -> Array:
        """Mean log density of true log losses (n,) in each view, (V,)."""
        shares = np.log(self.shares(learned) + 1e-12)[..., None]
        density = log_student(y, self.middle(learned), self.sd(learned), learned.freedom)
        return np.asarray(np.logaddexp.reduce(shares + density, axis=0).mean(axis=1))


@dataclass(frozen=True)
class Backtest:
    """An inner cut: what the runs below it said of those beyond, and what those were."""

    outlook: Outlook
    y: Array


def view_weights(backtests: list[Backtest], learned: Experience) -> Array:
    """Of the whole ladder and of its top, (V,)."""
    score = sum((b.outlook.log_scores(b.y, learned) for b in backtests), np.zeros(VIEWS))
    score = learned.log_odds() + learned.backtest_weight * score
    share = np.exp(score - score.max())
    return np.asarray(share / share.sum())


def combine(outlook: Outlook, backtests: list[Backtest], learned: Experience) -> Mixture:
    """The distribution of a new run at each of the outlook's n places."""
    weight = outlook.shares(learned) * view_weights(backtests, learned)
    n = len(outlook.distance)
    return Mixture(
        weight.ravel(),
        outlook.middle(learned).reshape(-1, n),
        outlook.sd(learned).reshape(-1, n),
        learned.freedom,
    )


class Forecaster:
    """Laws fitted to a ladder, ready to forecast any run.

    Args:
        ladder: its runs.
        learned: weights and widths; default: the stored ones.

    Raises:
        TableError: if there are too few runs to say anything.
    """

    def __init__(self, ladder: Ladder, learned: Experience | None = None) -> None:
        if len(ladder) < FEWEST[ladder.variables]:
            raise TableError(
                f"{len(ladder)} runs: a forecast needs at least {FEWEST[ladder.variables]}"
            )
        self.given = len(ladder)
        self.ladder = ladder = ladder.thinned()
        self.learned = learned or experience(ladder.variables)
        self.origin = ladder.x.mean(axis=1)
        self.shapes: tuple[Shape, ...] = SURFACES if ladder.variables == 2 else CURVES
        everything = np.ones(len(ladder), dtype=bool)
        self._seen = [everything, *ladder.cuts()]
        weights = np.array([ladder.closeness(s, g) for s in self._seen for g in DISCOUNTS])
        rows = np.repeat(np.array(self._seen), VIEWS, axis=0)
        inside = ladder.x - self.origin[:, None]
        self._fits = [fit_shape(shape, inside, ladder.y, weights, rows) for shape in self.shapes]
        self.backtests = [
            self._backtest(k, ladder.beyond(seen)) for k, seen in enumerate(self._seen) if k
        ]
        self.views = view_weights(self.backtests, self.learned)

    def posteriors(self) -> list[Posterior]:
        """Of each law, on all runs, in both views."""
        return [fit.take(slice(0, VIEWS)) for fit in self._fits]

    def outlook(self, x: Array, size: Array, cut: int = 0) -> Outlook:
        """What the laws say of runs at x (k, n) and size (n,), logarithms; cut 0: from all runs."""
        seen = self._seen[cut]
        best = np.flatnonzero(seen)[np.argmin(self.ladder.y[seen])]
        at_best = self.ladder.x[:, [best]] - self.origin[:, None]
        parts: list[tuple[Array, ...]] = []
        for fit in self._fits:
            view = fit.take(slice(cut * VIEWS, (cut + 1) * VIEWS))
            rise = view.predict(at_best + STEP)[0] - view.predict(at_best - STEP)[0]
            slope = -rise[:, 0] / (2 * STEP * len(self.origin))
            center, spread = view.predict(x - self.origin[:, None])
            parts.append((view.evidence, slope, view.noise, center, spread))
        distance = np.maximum(size - self.ladder.size[seen].max(), 0.0)
        evidence, slopes, noise, centers, spreads = map(np.array, zip(*parts, strict=True))
        return Outlook(evidence, slopes, noise, centers, spreads, distance)

    def at(self, x: Array, size: Array) -> Mixture:
        """Distribution of a new run at each place."""
        return combine(self.outlook(x, size), self.backtests, self.learned)

    def law_weights(self) -> dict[str, float]:
        """Share of each law in the forecast, both views together, largest first."""
        outlook = self.outlook(self.ladder.x[:, :1], self.ladder.size[:1])
        share = (outlook.shares(self.learned) * self.views).sum(axis=1)
        order = np.argsort(-share)
        return {self.shapes[k].name: float(share[k]) for k in order}

    def slope(self) -> float:
        """Fall of ln loss with ln compute at the best run, over laws and views."""
        outlook = self.outlook(self.ladder.x[:, :1], self.ladder.size[:1])
        weight = outlook.shares(self.learned) * self.views
        return float(np.sum(weight * np.maximum(outlook.slope, 0.0)))

    def _backtest(self, cut: int, ahead: Mask) -> Backtest:
        ladder = self.ladder
        outlook = self.outlook(ladder.x[:, ahead], ladder.size[ahead], cut)
        return Backtest(outlook, ladder.y[ahead])
