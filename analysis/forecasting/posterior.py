"""Maximum a posteriori fits of one shape to many weightings of one ladder, all at once.

Residuals are Student's, so a badly tuned run counts little. A row of weight w enters the likelihood
to the power w (a coarsened posterior, Miller and Dunson 2019): rows that the question is far from
move the answer less, and widen it instead of bending it. Levenberg and Marquardt's method runs on
all weightings and starts together.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from analysis.forecasting.shapes import Shape
from analysis.laws.law import Array

FREEDOM = 5.0  # of the residuals
NOISE, NOISE_ROWS = 0.003, 2.0  # a priori standard deviation of a run's log loss, worth these rows
STEPS = 60
LONGEST = 1.5  # step in a coordinate


@dataclass(frozen=True)
class Posterior:
    """Gaussian approximations for B weightings."""

    shape: Shape
    theta: Array  # (B, P)
    covariance: Array  # (B, P, P)
    noise: Array  # (B,) standard deviation of one run, log units
    evidence: Array  # (B,) log marginal likelihood, up to a constant that shapes share
    lowest: Array  # (B,)

    def take(self, rows: slice) -> Posterior:
        arrays = (self.theta, self.covariance, self.noise, self.evidence, self.lowest)
        return Posterior(self.shape, *(a[rows] for a in arrays))

    def predict(self, x: Array) -> tuple[Array, Array]:
        """Log loss at coordinates (k, n) and the standard deviation of the law there, (B, n)."""
        value, slope = self.shape.value(self.theta, x, self.lowest)
        variance = np.sum((slope @ self.covariance) * slope, axis=2)
        return value, np.sqrt(np.maximum(variance, 0.0))


def fit_shape(shape: Shape, x: Array, y: Array, weights: Array, rows: Array) -> Posterior:
    """Fit a shape to log losses.

    Args:
        x: coordinates (k, n).
        y: log losses (n,).
        weights: (B, n), zero for a row that a weighting must not see.
        rows: (B, n) true where a row is seen at all; sets the scale of the prior.
    """
    loss = np.exp(y)
    lowest = np.array([loss[r].min() for r in rows])
    mean = np.array([loss[r].mean() for r in rows])
    starts = shape.starts(mean)  # (B, S, P)
    b, s, p = starts.shape
    theta = starts.reshape(b * s, p)
    middle, width = shape.prior(mean)
    middle, precision = np.repeat(middle, s, axis=0), 1 / width**2
    w, low = np.repeat(weights, s, axis=0), np.repeat(lowest, s)
    total = w.sum(axis=1)

    def look(theta: Array) -> tuple[Array, Array]:
        value, slope = shape.value(theta, x, low)
        return y - value, slope

    def scale(r: Array, variance: Array) -> Array:
        counted = np.sum(w * _trust(r, variance) * r**2, axis=1) + NOISE_ROWS * NOISE**2
        return np.asarray(counted / (np.maximum(total - 0.6 * p, 0.4 * total) + NOISE_ROWS))

    def loss_of(r: Array, theta: Array, variance: Array) -> Array:
        tails = np.log1p(r**2 / (FREEDOM * variance[:, None]))
        fit = 0.5 * (FREEDOM + 1) * np.sum(w * tails, axis=1) + 0.5 * total * np.log(variance)
        return np.asarray(fit + 0.5 * np.sum(precision * (theta - middle) ** 2, axis=1))

    def curvature(r: Array, slope: Array, variance: Array) -> tuple[Array, Array]:
        weighted = slope * (w * _trust(r, variance) / variance[:, None])[..., None]
        hessian = np.swapaxes(weighted, 1, 2) @ slope
        hessian[:, range(p), range(p)] += precision
        return hessian, np.einsum("bnp,bn->bp", weighted, r) - precision * (theta - middle)

    level = np.sum(w * look(theta)[0], axis=1) / total
    for j, name in enumerate(shape.priors):
        if name in ("A", "B"):
            theta[:, j] += level
    r, slope = look(theta)
    variance = np.maximum(np.sum(w * r**2, axis=1) / total, 1e-4)
    damping = np.full(b * s, 1e-2)
    for step in range(STEPS):
        variance = scale(r, scale(r, variance))
        before = loss_of(r, theta, variance)
        hessian, downhill = curvature(r, slope, variance)
        hessian[:, range(p), range(p)] *= (1 + damping)[:, None]
        move = np.linalg.solve(hessian, downhill[..., None])[..., 0]
        trial = theta + np.clip(move, -LONGEST, LONGEST)
        r_trial, slope_trial = look(trial)
        after = loss_of(r_trial, trial, variance)
        better = after <= before + 1e-12
        theta = np.where(better[:, None], trial, theta)
        r = np.where(better[:, None], r_trial, r)
        slope = np.where(better[:, None, None], slope_trial, slope)
        damping = np.where(better, np.maximum(0.2 * damping, 1e-6), np.minimum(6 * damping, 1e8))
        if step > 5 and np.all((better & (before - after < 1e-6)) | (damping > 1e7)):
            break
    variance = scale(r, scale(r, variance))
    final = loss_of(r, theta, variance)
    hessian, _ = curvature(r, slope, variance)
    evidence = 0.5 * (np.log(precision).sum() - np.linalg.slogdet(hessian)[1]) - final
    best = np.argmin(final.reshape(b, s), axis=1) + np.arange(b) * s
    return Posterior(
        shape,
        theta[best],
        np.linalg.inv(hessian[best]),
        np.sqrt(variance[best]),
        evidence[best],
        lowest,
    )


def _trust(r: Array, variance: Array) -> Array:
    """How much of a row Student's likelihood believes: 1.2 near zero, little far out."""
    return np.asarray((FREEDOM + 1) / (FREEDOM + r**2 / variance[:, None]))
