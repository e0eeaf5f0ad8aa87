"""Approach 2 of Hoffmann et al. 2022: the best size at each compute budget, then its power law.

A curve whose lowest point is its first or last size has no minimum to read: it is listed as not
bracketed and left out. A parabola in log N is biased when the grid of sizes is wide or off-centre
(the loss is not symmetric in log N); both are measured and warned about, and Akima interpolation
is offered beside it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import Akima1DInterpolator

from analysis.laws.law import Array
from analysis.tables.groups import label_groups
from analysis.tables.table import RunTable, TableError
from analysis.uncertainty.bootstrap import percentiles

METHODS = ("parabola", "akima")
WIDE = 1.5  # decades of N; beyond this the parabola's bias is no longer small
OFF_CENTRE = 0.25  # of the grid's width
ONE_SIZE = 0.01  # sizes this close are one: a curve through both would swing between them
MINIMUM_POINTS = {"parabola": 4, "akima": 5}


@dataclass(frozen=True)
class Minimum:
    """The optimum of one budget."""

    budget: float  # C, FLOPs
    n_points: int
    bracketed: bool
    n_opt: float | None  # parameters
    d_opt: float | None  # tokens or samples
    loss: float | None
    reason: str  # why it is excluded, or ""
    width: float  # decades of N covered
    off_centre: float | None  # |optimum - middle of the grid| over its width


@dataclass(frozen=True)
class PowerOfCompute:
    """y_opt = exp(log_coefficient) C^exponent."""

    exponent: float
    interval: tuple[float, float] | None
    log_coefficient: float

    @staticmethod
    def of(
        exponent: float, log_coefficient: float, draws: Array, level: float = 0.95
    ) -> PowerOfCompute:
        """With the interval of its exponent's draws (S,), where there are any."""
        low, high = map(float, percentiles(draws, level)) if len(draws) else (np.nan, np.nan)
        interval = (low, high) if len(draws) else None
        return PowerOfCompute(float(exponent), interval, float(log_coefficient))

    def at(self, c: float) -> float:
        return float(np.exp(self.log_coefficient + self.exponent * np.log(c)))

    def __str__(self) -> str:
        ends = "no interval" if self.interval is None else "{:.4f}, {:.4f}".format(*self.interval)
        return f"{self.exponent:.4f}  [{ends}]"


@dataclass(frozen=True)
class IsoFlop:
    """Minima of all budgets and the laws of N* and D*."""

    method: str
    minima: tuple[Minimum, ...]
    n_opt: PowerOfCompute | None
    d_opt: PowerOfCompute | None
    loss_noise: float | None  # standard deviation of the loss about its neighbours
    warnings: tuple[str, ...]
    curves: Mapping[float, tuple[Array, Array]]  # budget -> N, loss (means of repeats)

    def to_dict(self) -> dict[str, Any]:
        n, d = self.n_opt, self.d_opt
        return {
            "method": self.method,
            "n_opt": n and asdict(n),
            "d_opt": d and asdict(d),
            "a": n and n.exponent,
            "b": d and d.exponent,
            "minima": [asdict(m) for m in self.minima],
            "excluded": [asdict(m) for m in self.minima if m.reason],
            "loss_noise": self.loss_noise,
            "warnings": list(self.warnings),
        }


def fit_isoflop(
    table: RunTable,
    metric: str = "metric",
    method: str = "parabola",
    bootstrap: int = 400,
    seed: int = 0,
    tolerance: float = 0.05,
) -> IsoFlop:
    """Minima of each budget and the exponents of N*(C) and D*(C).

    Args:
        table: columns N, C, metric; D when it is known (else D = C / (6 N)).
        method: "parabola" (loss quadratic in log N) or "akima".
        bootstrap: redraws of loss noise, which is measured by `differences` in each budget and
            pooled.
        tolerance: relative; budgets this close are one.
    """
    if method not in METHODS:
        raise ValueError(f"method={method!r}: choose one of {', '.join(METHODS)}")
    c = table.numbers("C")
    n, loss = table.numbers("N"), table.numbers(metric)
    d = table.numbers("D") if "D" in table.frame else c / (6 * n)
    groups = budget_groups(c, tolerance)
    curves: dict[float, tuple[Array, Array]] = {}
    log_nd: dict[float, tuple[float, float]] = {}
    minima: list[Minimum] = []
    warnings: list[str] = []
    rng = np.random.default_rng(seed)
    squares, freedom, merged = 0.0, 0, 0
    for at in groups:
        budget = float(np.exp(np.mean(np.log(c[at]))))
        sizes, means = mean_by_size(n[at], loss[at])
        merged += len(np.unique(n[at])) - len(sizes)
        curves[budget] = (sizes, means)
        if len(sizes) >= 2:
            slope, offset = np.polyfit(np.log(n[at]), np.log(d[at]), 1)
            log_nd[budget] = (float(slope), float(offset))
        apart = differences(np.log(sizes), means)
        squares, freedom = squares + float(apart @ apart), freedom + len(apart)
        minima.append(_minimum(budget, sizes, means, method, log_nd.get(budget)))
    noise = float(np.sqrt(squares / freedom)) if freedom > 0 else None
    used = [m for m in minima if not m.reason]
    if merged:
        warnings.append(
            f"{merged} sizes lie within {ONE_SIZE:.0%} of another of their budget: they are "
            "averaged, as repeats are"
        )
    warnings += [f"budget {m.budget:.3g}: excluded, {m.reason}" for m in minima if m.reason]
    wide = [m for m in used if m.width > WIDE]
    if wide and method == "parabola":
        warnings.append(
            f"{len(wide)} of {len(used)} budgets span more than {WIDE:g} decades of N: a parabola "
            "in log N is biased there; compare --method akima"
        )
    off = [m for m in used if m.off_centre is not None and m.off_centre > OFF_CENTRE]
    if off:
        warnings.append(
            f"{len(off)} of {len(used)} minima lie far from the middle of their sizes: exponents "
            "lean towards the side that was sampled"
        )
    if len(used) < 2:
        warnings.append(f"{len(used)} bracketed budgets: no exponent (two are needed)")
        return IsoFlop(method, tuple(minima), None, None, noise, tuple(warnings), curves)
    if len(used) == 2:
        warnings.append("two bracketed budgets: the exponents have no check of their own")
    draws = np.empty((0, 2))
    if noise is not None and bootstrap > 0:
        draws = _redraw(used, curves, log_nd, method, noise, bootstrap, rng)
        if len(draws) < bootstrap:
            warnings.append(
                f"{bootstrap - len(draws)} of {bootstrap} redraws lost most brackets: the "
                "intervals leave them out"
            )
    elif noise is None:
        warnings.append("no interval: too few sizes per budget to measure the noise of the loss")
    log_c = np.log([m.budget for m in used])
    laws = []
    for k, values in enumerate(zip(*((m.n_opt, m.d_opt) for m in used), strict=True)):
        slope, offset = np.polyfit(log_c, np.log(np.array(values, dtype=float)), 1)
        known = draws[:, k] if len(draws) >= 40 else draws[:0, k]
        laws.append(PowerOfCompute.of(slope, offset, known))
    return IsoFlop(method, tuple(minima), laws[0], laws[1], noise, tuple(warnings), curves)


def budget_groups(c: Array, tolerance: float) -> list[NDArray[np.intp]]:
    """Rows of each budget, ascending; values within a relative tolerance are one budget."""
    if len(c) == 0:
        raise TableError("no row has a budget")
    label = label_groups(c, tolerance)
    return [np.flatnonzero(label == k) for k in range(label.max() + 1)]


def mean_by_size(n: Array, loss: Array) -> tuple[Array, Array]:
    """Distinct sizes, ascending, and the mean loss at each; sizes within 1 % are repeats."""
    label = label_groups(n, ONE_SIZE)
    count = np.bincount(label)
    first = np.full(len(count), np.inf)
    np.minimum.at(first, label, n)
    above = np.bincount(label, weights=n / first[label] - 1) / count
    return first * (1 + above), np.bincount(label, weights=loss) / count


def differences(u: Array, y: Array) -> Array:
    """Each inner point against the cubic through two neighbours on either side, (n - 4,), scaled to
    the standard deviation of the noise (Gasser, Sroka & Jennen-Steinmetz 1986, to third order).

    One polynomial over all sizes would take its own lack of fit on a wide grid for noise.
    """
    out = []
    for k in range(2, len(u) - 2):
        near = [k - 2, k - 1, k + 1, k + 2]
        weights = [np.prod([(u[k] - u[m]) / (u[i] - u[m]) for m in near if m != i]) for i in near]
        out.append((y[k] - np.dot(weights, y[near])) / np.sqrt(1 + np.dot(weights, weights)))
    return np.array(out)


def _minimum(
    budget: float, sizes: Array, loss: Array, method: str, log_nd: tuple[float, float] | None
) -> Minimum:
    width = float(np.log10(sizes[-1] / sizes[0]))

    def excluded(reason: str) -> Minimum:
        return Minimum(budget, len(sizes), False, None, None, None, reason, width, None)

    need, best = MINIMUM_POINTS[method], int(np.argmin(loss))
    if len(sizes) < need:
        return excluded(f"{len(sizes)} distinct sizes, {need} are needed")
    if best in (0, len(sizes) - 1):
        side = "smallest" if best == 0 else "largest"
        return excluded(f"not bracketed: the lowest loss is at the {side} size")
    u = np.log(sizes)
    place, value = _vertex(u, loss, method)
    if place is None or not u[0] < place < u[-1]:
        return excluded(f"not bracketed: the {method}'s minimum lies outside the sizes")
    if value is not None and value < loss[best] - np.ptp(loss):
        return excluded(f"the {method}'s minimum lies far below every measured loss")
    slope, offset = log_nd if log_nd is not None else (-1.0, np.log(budget / 6))
    d_opt = float(np.exp(offset + slope * place))
    off = abs(place - 0.5 * (u[0] + u[-1])) / (u[-1] - u[0])
    return Minimum(
        budget, len(sizes), True, float(np.exp(place)), d_opt, value, "", width, float(off)
    )


def _vertex(u: Array, loss: Array, method: str) -> tuple[float | None, float | None]:
    """Place and value of the minimum over u = log N; None when there is none inside."""
    if method == "parabola":
        centre, width = float(u.mean()), float(np.ptp(u))
        a, b, c = np.polyfit((u - centre) / width, loss, 2)
        if a <= 0:
            return None, None
        z = -b / (2 * a)
        return centre + width * float(z), float(c - b * b / (4 * a))
    place, value = (float(v[0]) for v in akima_minima(u, loss[:, None]))
    return (None, None) if np.isnan(place) else (place, value)


def akima_minima(u: Array, losses: Array) -> tuple[Array, Array]:
    """Lowest points (S,) of Akima curves through losses (n, S), and the losses there.

    Every piece is a cubic, whose minimum is known; NaN where an end of the curve is lower.
    """
    a, b, c, d = Akima1DInterpolator(u, losses).c  # each (n - 1, S)
    with np.errstate(divide="ignore", invalid="ignore"):
        root = np.sqrt(b * b - 3 * a * c)
        t = np.where(b > 0, -c / (b + root), (root - b) / (3 * a))
        inside = (t >= 0) & (t <= np.diff(u)[:, None])
        values = np.where(inside, ((a * t + b) * t + c) * t + d, np.inf)
    piece, curve = np.argmin(values, axis=0), np.arange(losses.shape[1])
    value = values[piece, curve]
    within = value < np.minimum(losses[0], losses[-1])
    place = np.where(within, u[piece] + t[piece, curve], np.nan)
    return place, np.where(within, value, np.nan)


def _redraw(
    used: list[Minimum],
    curves: Mapping[float, tuple[Array, Array]],
    log_nd: Mapping[float, tuple[float, float]],
    method: str,
    noise: float,
    count: int,
    rng: np.random.Generator,
) -> Array:
    """Exponents of N* and D* on redrawn losses, (count, 2).

    A redraw that loses the bracket of a budget continues without it, as a real repetition
    would; one that keeps fewer than two, or than half of them, is left out.
    """
    log_c = np.log([m.budget for m in used])
    places = np.full((count, len(used)), np.nan)
    for k, m in enumerate(used):
        sizes, loss = curves[m.budget]
        u = np.log(sizes)
        moved = loss + noise * rng.standard_normal((count, len(loss)))
        if method == "parabola":
            centre, width = float(u.mean()), float(np.ptp(u))
            a, b, _ = np.polyfit((u - centre) / width, moved.T, 2)
            with np.errstate(divide="ignore", invalid="ignore"):
                places[:, k] = np.where(a > 0, centre - width * b / (2 * a), np.nan)
        else:
            places[:, k], _ = akima_minima(u, moved.T)
        outside = (places[:, k] <= u[0]) | (places[:, k] >= u[-1])
        places[outside, k] = np.nan
    kept = ~np.isnan(places)
    good = kept.sum(axis=1) >= max(2, len(used) / 2)
    places, kept = places[good], kept[good]
    slope = np.array([log_nd.get(m.budget, (-1.0, 0.0))[0] for m in used])
    offset = np.array([log_nd.get(m.budget, (-1.0, np.log(m.budget / 6)))[1] for m in used])
    return np.column_stack(
        [masked_slope(log_c, places, kept), masked_slope(log_c, offset + slope * places, kept)]
    )


def masked_slope(x: Array, y: Array, kept: NDArray[np.bool_]) -> Array:
    """Least-squares slope of each row of y (S, k) on x (k,), over the entries kept."""
    weight = kept.astype(float)
    total = weight.sum(axis=1, keepdims=True)
    value = np.where(kept, y, 0.0)
    dx = x - (weight * x).sum(axis=1, keepdims=True) / total
    dy = value - value.sum(axis=1, keepdims=True) / total
    return np.asarray((weight * dx * dy).sum(axis=1) / (weight * dx * dx).sum(axis=1))
