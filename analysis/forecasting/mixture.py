"""A predictive distribution: a mixture of Student components for each of n runs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import gammaln, stdtr

from analysis.laws.law import Array

NEGLIGIBLE = 1e-5  # weight of a component that no quantile notices
HALVINGS = 55


@dataclass(frozen=True)
class Mixture:
    """m components over n log losses."""

    weight: Array  # (m,), sums to 1
    center: Array  # (m, n)
    spread: Array  # (m, n)
    freedom: float

    def quantile(self, share: float) -> Array:
        """Log losses (n,) below which a share of the distribution lies, by bisection."""
        kept = self.weight > NEGLIGIBLE
        weight = self.weight[kept] / self.weight[kept].sum()
        center, spread = self.center[kept], self.spread[kept]
        low, high = np.min(center - 60 * spread, axis=0), np.max(center + 60 * spread, axis=0)
        for _ in range(HALVINGS):
            middle = 0.5 * (low + high)
            under = weight @ stdtr(self.freedom, (middle - center) / spread) < share
            low, high = np.where(under, middle, low), np.where(under, high, middle)
        return np.asarray(0.5 * (low + high))

    def interval(self, level: float) -> tuple[Array, Array]:
        return self.quantile(0.5 - level / 2), self.quantile(0.5 + level / 2)

    def log_density(self, y: Array) -> Array:
        """Of log losses (n,)."""
        with np.errstate(divide="ignore"):
            weight = np.log(self.weight)[:, None]
        density = log_student(y, self.center, self.spread, self.freedom)
        return np.asarray(np.logaddexp.reduce(weight + density, axis=0))


def log_student(y: Array, center: Array, spread: Array, freedom: float) -> Array:
    """Log density of Student's distribution with a place and a scale."""
    z = (y - center) / spread
    constant = gammaln((freedom + 1) / 2) - gammaln(freedom / 2) - 0.5 * np.log(freedom * np.pi)
    return np.asarray(constant - np.log(spread) - (freedom + 1) / 2 * np.log1p(z**2 / freedom))
