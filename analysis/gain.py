"""How many times the compute of one recipe reaches the loss of another: by rung, and at a target.

Each recipe is a ladder of runs along its own frontier, with a power law above a floor,
L = E + A C^-alpha. The gain of `other` over `base` at a compute C is C' / C where base needs C' to
reach what other reaches with C; at a rung both have measured it is
((L_base - E) / (L_other - E))^(1 / alpha). Its interval inverts the F test of the hypothesis that
the gain is g (Fieller's interval where the laws are linear in their parameters), so it holds where
the gain is a ratio that a symmetric interval would misstate, and is open where the runs do not say.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.optimize import brentq, least_squares
from scipy.stats import f as f_distribution
from scipy.stats import t as t_distribution

from analysis.laws.law import Array
from analysis.tables.table import TableError

FLOORS = ("shared", "free")  # one for both recipes; one each. A number pins it.
FLOOR_STARTS = (0.0, 0.5, 0.8, 0.95)  # shares of the lowest loss
FARTHEST = math.log(1e6)  # a gain beyond a million times is none that runs can tell
SAME_GAIN = math.log(1.05)  # gains this close do not change with scale
SAME_RUNG = math.log(1.05)  # computes this close are one rung


@dataclass(frozen=True)
class Ladder:
    """Runs of one recipe, ascending in compute."""

    name: str
    compute: Array  # (n,) FLOPs
    loss: Array  # (n,)
    throughput: Array | None = None  # (n,) units a second, of the same hardware

    def __post_init__(self) -> None:
        if len(self.compute) < 2 or not (np.all(self.compute > 0) and np.all(self.loss > 0)):
            raise TableError(
                f"ladder {self.name}: {len(self.compute)} runs; a gain needs at least 2, with "
                "compute and loss above 0"
            )


@dataclass(frozen=True)
class Gain:
    """The answer; a gain above 1 says that `other` needs less compute than `base`."""

    base: str
    other: str
    rungs: tuple[dict[str, float | None], ...]  # compute, base, other, gain, hours
    target: float
    at_target: float
    low: float | None  # None: the runs do not bound it, or there are too few
    high: float | None
    hours: float | None  # at the target, with the throughputs of the largest rung
    at_first: float  # by the laws, at the smallest rung of both
    level: float
    laws: dict[str, dict[str, float]]  # recipe -> E, A, alpha
    residual: float  # of log loss
    degrees: int
    verdict: str  # adopt, reject, not yet
    reason: str
    next_run: dict[str, Any] | None  # which pair of runs would decide

    def by_laws(self, compute: float) -> float:
        """The gain at a compute, by both laws; infinite beyond what base can reach."""
        base, other = (self.laws[name] for name in (self.base, self.other))
        above = other["E"] + other["A"] * compute ** -other["alpha"] - base["E"]
        share = base["A"] / above if above > 0 else math.inf
        return float(share ** (1 / base["alpha"]) / compute)

    def to_dict(self) -> dict[str, Any]:
        """All of it, for JSON."""
        return {**self.__dict__, "rungs": list(self.rungs)}


@dataclass(frozen=True)
class _Laws:
    """Both laws as functions of one vector of free parameters."""

    ladders: tuple[Ladder, Ladder]
    floor: float | str
    alpha: tuple[float, float] | None
    at: float  # log compute of the target

    @property
    def n_floors(self) -> int:
        return {"shared": 1, "free": 2}.get(str(self.floor), 0)

    def split(self, p: Array) -> list[tuple[float, float, float]]:
        """(log A at the target, alpha, E) of base and other."""
        slopes = self.alpha or (p[2], p[3])
        floors = p[len(p) - self.n_floors :] if self.n_floors else [float(self.floor)]
        return [(p[i], slopes[i], floors[min(i, len(floors) - 1)]) for i in range(2)]

    def predict(self, p: Array, which: int, log_compute: Array) -> Array:
        a, alpha, floor = self.split(p)[which]
        out: Array = floor + np.exp(a - alpha * (log_compute - self.at))
        return out

    def residuals(self, p: Array) -> Array:
        predicted = [self.predict(p, i, np.log(one.compute)) for i, one in enumerate(self.ladders)]
        measured = [one.loss for one in self.ladders]
        out: Array = np.log(np.concatenate(predicted) / np.concatenate(measured))
        return out

    def log_gain(self, p: Array, log_compute: float) -> float:
        """log(C' / C) at a compute; infinite where base's floor lies above what other reaches."""
        a, alpha, floor = self.split(p)[0]
        above = float(self.predict(p, 1, np.array(log_compute))) - floor
        if above <= 0:
            return math.inf
        return (a - math.log(above)) / alpha + self.at - log_compute

    def with_gain(self, p: Array, log_gain: float) -> Array | None:
        """The parameters with other's amplitude such that the gain at the target is this one."""
        (a, alpha, floor), (_, _, other_floor) = self.split(p)
        above = floor + math.exp(min(a - alpha * log_gain, 700.0)) - other_floor
        if above <= 0:
            return None
        out = p.copy()
        out[1] = math.log(above)
        return out

    def fit(self, log_gain: float | None = None, start: Array | None = None) -> tuple[Array, float]:
        """Parameters of least squares in log loss and their sum, with the gain held or free."""

        def residuals(p: Array) -> Array:
            held = p if log_gain is None else self.with_gain(p, log_gain)
            if held is None:
                return np.full(sum(len(one.loss) for one in self.ladders), 1e3)
            return self.residuals(held)

        n_slopes = 0 if self.alpha else 2
        lows = [-700.0, -700.0, *[1e-4] * n_slopes, *[0.0] * self.n_floors]
        tops = [700.0, 700.0, *[5.0] * n_slopes, *self._floor_bounds()]
        shares = FLOOR_STARTS if self.n_floors else (0.0,)
        starts = [self._start(share) for share in shares] if start is None else [start]
        found = [
            least_squares(
                residuals, np.clip(p, lows, tops), bounds=(lows, tops), x_scale="jac", xtol=1e-10,
                ftol=1e-10, gtol=1e-10, max_nfev=300,
            )
            for p in starts
        ]  # fmt: skip
        best = min(found, key=lambda one: float(one.cost))
        p = best.x if log_gain is None else self.with_gain(best.x, log_gain)
        return (best.x if p is None else p), 2 * float(best.cost)

    def _floor_bounds(self) -> list[float]:
        lowest = [float(ladder.loss.min()) * (1 - 1e-6) for ladder in self.ladders]
        return {1: [min(lowest)], 2: lowest}.get(self.n_floors, [])

    def _start(self, share: float) -> Array:
        floors = [share * bound for bound in self._floor_bounds()]
        amplitudes, slopes = [], []
        for i, ladder in enumerate(self.ladders):
            floor = floors[min(i, len(floors) - 1)] if floors else float(self.floor)
            x, y = np.log(ladder.compute) - self.at, np.log(ladder.loss - floor)
            slope = self.alpha[i] if self.alpha else -float(np.polyfit(x, y, 1)[0])
            slopes.append(slope)
            amplitudes.append(float(np.mean(y + slope * x)))
        return np.array([*amplitudes, *([] if self.alpha else slopes), *floors])


def gain(
    base: Ladder,
    other: Ladder,
    *,
    target: float | None = None,
    floor: float | str = "shared",
    alpha: float | tuple[float, float] | None = None,
    level: float = 0.95,
) -> Gain:
    """Compare two recipes.

    Args:
        base, other: what is used today, and what is proposed.
        target: FLOPs of the decision; None: those of the largest rung of both.
        floor: of the loss: a number pins it, "shared" fits one, "free" one for each recipe.
        alpha: pins the exponent of both, or of base and other; None: each recipe has its own.

    Raises:
        TableError: for options out of range, or a pinned floor that a loss lies below.
    """
    _check(base, other, floor, level, target)
    if isinstance(alpha, (int, float)):
        alpha = (float(alpha), float(alpha))
    last = min(base.compute.max(), other.compute.max())
    target = float(last if target is None else target)
    laws = _Laws((base, other), floor, alpha, math.log(target))
    best, total = laws.fit()
    n = len(base.loss) + len(other.loss)
    degrees = n - len(best)
    variance = total / degrees if degrees > 0 else math.nan
    center = laws.log_gain(best, laws.at)
    low = high = None
    if degrees > 0 and math.isfinite(center):
        low, high = _interval(laws, best, total, center, variance, degrees, level)
    rungs = tuple(_rungs(laws, best, base, other))
    first = max(base.compute.min(), other.compute.min())
    at_first = math.exp(laws.log_gain(best, math.log(first)))
    verdict, reason = _verdict(low, high, math.exp(center), at_first, first, target, degrees)
    ratio = next((r["speed"] for r in reversed(rungs) if r["speed"] is not None), None)
    return Gain(
        base=base.name,
        other=other.name,
        rungs=rungs,
        target=target,
        at_target=math.exp(center),
        low=low,
        high=high,
        hours=None if ratio is None else math.exp(center) * ratio,
        at_first=at_first,
        level=level,
        laws={
            ladder.name: {"E": e, "A": math.exp(a + s * laws.at), "alpha": s}
            for ladder, (a, s, e) in zip((base, other), laws.split(best), strict=True)
        },
        residual=math.sqrt(variance) if degrees > 0 else math.nan,
        degrees=degrees,
        verdict=verdict,
        reason=reason,
        next_run=(
            _next_run(laws, best, center, variance, degrees, level, last)
            if verdict == "not yet" and degrees > 0 and math.isfinite(center)
            else None
        ),
    )


def _check(
    base: Ladder, other: Ladder, floor: float | str, level: float, target: float | None
) -> None:
    if base.name == other.name:
        raise TableError(f"both ladders are called {base.name!r}: compare two recipes")
    if isinstance(floor, str) and floor not in FLOORS:
        raise TableError(f"floor={floor!r}: a number, or one of {', '.join(FLOORS)}")
    lowest = min(base.loss.min(), other.loss.min())
    if not isinstance(floor, str) and not 0 <= floor < lowest:
        raise TableError(f"floor={floor:g} must be at least 0 and below every loss ({lowest:g})")
    if not 0 < level < 1:
        raise TableError(f"level={level:g} must be between 0 and 1")
    if target is not None and target <= 0:
        raise TableError(f"target={target:g} must be positive")


def _interval(
    laws: _Laws, best: Array, total: float, center: float, variance: float, degrees: int,
    level: float,
) -> tuple[float | None, float | None]:  # fmt: skip
    """Gains that an F test does not reject, by following the profile to both sides."""
    bound = variance * float(f_distribution.ppf(level, 1, degrees))
    spread = _spread(laws, best, [])
    step = max(math.sqrt(variance) * spread, 1e-6)

    def side(sign: int) -> float | None:
        warm = best

        def excess(distance: float) -> float:
            nonlocal warm
            found = [laws.fit(center + sign * distance, p) for p in (best, warm)]
            warm, held = min(found, key=lambda one: one[1])
            return held - total - bound

        inner, outer = 0.0, step
        while excess(outer) < 0:
            inner, outer = outer, 2 * outer
            if outer > FARTHEST:
                return None
        return math.exp(center + sign * brentq(excess, inner, outer, xtol=1e-3 * step))

    return side(-1), side(1)


def _spread(laws: _Laws, best: Array, more: Sequence[tuple[int, float]]) -> float:
    """Standard error of the log gain at the target for a residual of 1, with further runs.

    Args:
        more: (0 for base or 1 for other, log compute) of each further run.
    """

    def logarithms(p: Array) -> Array:
        further = [laws.predict(p, which, np.array([x])) for which, x in more]
        return np.concatenate([laws.residuals(p), *map(np.log, further)])

    jacobian = _slopes(logarithms, best)
    gradient = _slopes(lambda p: np.array([laws.log_gain(p, laws.at)]), best)[0]
    return float(np.sqrt(gradient @ np.linalg.pinv(jacobian.T @ jacobian) @ gradient))


def _slopes(function: Callable[[Array], Array], p: Array) -> Array:
    """Central differences, (outputs, parameters)."""
    steps = 1e-5 * np.maximum(np.abs(p), 1e-2)
    shifts = zip(steps, np.diag(steps), strict=True)
    return np.stack([(function(p + h) - function(p - h)) / (2 * s) for s, h in shifts], 1)


def _rungs(laws: _Laws, best: Array, base: Ladder, other: Ladder) -> list[dict[str, float | None]]:
    """The gain at each rung of `other` that base has measured as well, from the two losses."""
    _, slope, floor = laws.split(best)[0]
    rows: list[dict[str, float | None]] = []
    for i, (compute, loss) in enumerate(zip(other.compute, other.loss, strict=True)):
        apart = np.abs(np.log(base.compute / compute))
        j = int(np.argmin(apart))
        if apart[j] > SAME_RUNG:
            continue
        share = (base.loss[j] - floor) / (loss - floor) if loss > floor else math.inf
        found = base.compute[j] / compute * share ** (1 / slope)
        speed = None
        if base.throughput is not None and other.throughput is not None:
            speed = float(other.throughput[i] / base.throughput[j])
        rows.append(
            {
                "compute": float(compute),
                "base": float(base.loss[j]),
                "other": float(loss),
                "gain": float(found),
                "speed": speed,
                "hours": None if speed is None else float(found) * speed,
            }
        )
    return rows


def _verdict(
    low: float | None, high: float | None, center: float, at_first: float, first: float,
    target: float, degrees: int,
) -> tuple[str, str]:  # fmt: skip
    trend = ""
    if (change := center / at_first) and abs(math.log(change)) > SAME_GAIN:
        verb = "shrinks" if change < 1 else "grows"
        trend = f"; the gain {verb} with scale, from {at_first:.2f}x at {first:.3g} FLOPs"
    if degrees < 1:
        return "not yet", "there are no more runs than parameters, so nothing says how sure it is"
    if low is not None and low > 1:
        return "adopt", f"the whole interval at {target:.3g} FLOPs lies above 1{trend}"
    if high is not None and high < 1:
        return "reject", f"the whole interval at {target:.3g} FLOPs lies below 1{trend}"
    return "not yet", f"the interval at {target:.3g} FLOPs holds 1{trend}"


def _next_run(
    laws: _Laws, best: Array, center: float, variance: float, degrees: int, level: float,
    last: float,
) -> dict[str, Any]:  # fmt: skip
    """The cheapest pair of runs, one of each recipe, after which the interval would exclude 1 if
    the gain stays what it is; the target's own pair where no smaller one does."""
    rate = math.sqrt(variance) * float(t_distribution.ppf(0.5 + level / 2, degrees + 2))
    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        x = math.log(last) + share * (laws.at - math.log(last))
        half = rate * _spread(laws, best, [(0, x), (1, x)])
        decides = half < abs(center)
        if decides:
            break
    low, high = math.exp(center - half), math.exp(center + half)
    return {"compute": math.exp(x), "low": low, "high": high, "decides": decides}
