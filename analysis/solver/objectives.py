"""What is minimised: a residual (raw or logarithmic) and a loss of the residual, by name.

Hoffmann et al. 2022 use Huber(1e-3) on log residuals, in log-sum-exp form; on a sum of positive
terms that is the same number as Huber on log(prediction) - log(observation). Objectives are sums
over points; `mean` only divides what is reported, so it cannot change where the optimiser stops.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from analysis.laws.law import Array


@dataclass(frozen=True)
class Objective:
    """A loss rho(r) of residuals r; r = log prediction - log value, or prediction - value."""

    name: str
    log: bool  # logarithmic residuals
    delta: float  # Huber: 0.5 r^2 inside, linear outside; inf: r^2
    unit_slope: bool = False  # divide by delta: |r| in the limit delta -> 0
    above: float = 1.0  # factor on residuals > 0 (prediction too high); 1 is symmetric
    reduction: str = "sum"

    def rho(self, r: Array) -> Array:
        if not np.isfinite(self.delta):
            out = r * r  # plain squares, so that the sum is the familiar RSS
        else:
            a = np.abs(r)
            inner = np.minimum(a, self.delta)
            out = 0.5 * inner * inner + self.delta * (a - inner)
            if self.unit_slope:
                out /= self.delta
        if self.above != 1.0:
            out = np.where(r > 0, self.above * out, out)
        return out

    def derivatives(self, r: Array) -> tuple[Array, Array]:
        """First and second derivative of rho."""
        if not np.isfinite(self.delta):
            first, second = 2.0 * r, np.full_like(r, 2.0)
        else:
            first = np.clip(r, -self.delta, self.delta)
            second = (first == r).astype(float)
            if self.unit_slope:
                first /= self.delta
                second /= self.delta
        if self.above != 1.0:
            factor = np.where(r > 0, self.above, 1.0)
            first, second = first * factor, second * factor
        return first, second

    @property
    def is_absolute(self) -> bool:
        return self.unit_slope

    def softened(self, delta: float) -> Objective:
        return replace(self, delta=delta)

    def describe(self) -> str:
        space = "log residuals" if self.log else "raw residuals"
        if self.is_absolute:
            text = f"least absolute deviations on {space}"
        elif np.isfinite(self.delta):
            text = f"Huber(delta={self.delta:g}) on {space}"
        else:
            text = f"least squares on {space}"
        if self.above != 1.0:
            text += f", predictions that are too high weighted {self.above:g}"
        return f"{text}, {self.reduction} over points"


# |r| smoothed below this; the fit itself ends with an exact linear programme (global_fit.py).
ABSOLUTE_DELTA = 1e-7

OBJECTIVES = (
    "least_squares", "log_least_squares", "huber", "huber_raw", "absolute", "absolute_raw",
    "asymmetric",
)  # fmt: skip
ALIASES = {"huber_log": "huber", "lad": "absolute", "lsq": "least_squares"}


def get_objective(
    name: str, delta: float = 1e-3, above: float = 3.0, reduction: str = "sum"
) -> Objective:
    """The objective called `name`.

    Args:
        delta: Huber width, in nats of log residual (or units of the metric for huber_raw).
        above: only for `asymmetric`: factor on residuals whose prediction is too high.
        reduction: "sum" or "mean"; changes the reported number, never the optimum.
    """
    name = ALIASES.get(name, name)
    if name not in OBJECTIVES:
        raise ValueError(f"objective={name!r}: choose one of {', '.join(OBJECTIVES)}")
    if not delta > 0:
        raise ValueError(f"delta={delta}: the Huber width must be positive")
    if reduction not in ("sum", "mean"):
        raise ValueError(f"reduction={reduction!r}: choose sum or mean")
    log = name not in ("least_squares", "huber_raw", "absolute_raw")
    absolute = name.startswith("absolute")
    if name.endswith("least_squares"):
        delta = np.inf
    width = ABSOLUTE_DELTA if absolute else delta
    return Objective(name, log, width, absolute, above if name == "asymmetric" else 1.0, reduction)
