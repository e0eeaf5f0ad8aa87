"""How much of the noise is common to one trunk, and how large it is, when neither is known.

Branches of one trunk share an error that a law fitted to few trunks partly absorbs. Its share of
the variance is drawn from its posterior (restricted likelihood, flat prior), not assumed, so an
interval is as wide as what these runs know about it (Patterson & Thompson 1971).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from analysis.laws.law import Array

SHARES = np.linspace(0.0, 0.98, 50)


@dataclass(frozen=True)
class StrataDraws:
    """Noise of S redrawn data sets."""

    sigma: Array  # (S, 1) standard deviation of one point
    share: Array  # (S, 1) of the variance, common to a cluster
    low: float  # 80 % range of the share
    high: float


def draw_strata(
    residual: Array,
    jacobian: Array,
    cluster: NDArray[np.intp],
    count: int,
    rng: np.random.Generator,
    known: tuple[float, float] | None = None,
    share: float | None = None,
) -> StrataDraws:
    """Draw (sigma, share) from their posterior given the residuals of a fit.

    Args:
        residual: (n,) of the fit.
        jacobian: (n, p) of the residuals by the free parameters: what the law can absorb.
        cluster: (n,) 0..m-1.
        known: standard deviation of a repeated run and its degrees of freedom.
        share: estimate of the share from the same repeats.
    """
    size = np.bincount(cluster).astype(float)
    n, p = jacobian.shape
    log_density = np.empty(len(SHARES))
    squares, freedom = np.empty(len(SHARES)), np.empty(len(SHARES))
    typical = n / len(size)
    for k, rho in enumerate(SHARES):
        between = 1 - rho + rho * size  # variance of a cluster's mean times its size
        shrink = 1 - np.sqrt((1 - rho) / between)
        white = np.column_stack([residual, jacobian])
        means = np.zeros((len(size), p + 1))
        np.add.at(means, cluster, white)
        means /= size[:, None]
        white = (white - (shrink[:, None] * means)[cluster]) / np.sqrt(1 - rho)
        q, r = np.linalg.qr(white[:, 1:])
        left = white[:, 0] - q @ (q.T @ white[:, 0])
        squares[k], freedom[k] = float(left @ left), float(n - p)
        log_v = float(np.sum((size - 1) * np.log(1 - rho) + np.log(between)))
        log_density[k] = -0.5 * log_v - float(np.sum(np.log(np.abs(np.diag(r)) + 1e-300)))
        if known is not None:
            # Correlated repeats hold less information about their own scatter.
            more = known[1] / (1 + (typical - 1) * rho**2)
            squares[k] += more * known[0] ** 2
            freedom[k] += more
        log_density[k] -= 0.5 * float(n - p) * np.log(max(squares[k] / freedom[k], 1e-300))
    if known is not None and share is not None:
        log_density += _log_share(share, typical, known[1])
    weight = np.exp(log_density - log_density.max())
    weight /= weight.sum()
    picked = rng.choice(len(SHARES), size=count, p=weight)
    sigma = np.sqrt(squares[picked] / rng.chisquare(freedom[picked]))
    low, high = np.quantile(SHARES[picked], [0.1, 0.9])
    return StrataDraws(sigma[:, None], SHARES[picked][:, None], float(low), float(high))


def _log_share(measured: float, size: float, freedom: float) -> Array:
    """Log likelihood of a share measured on repeats (Fisher 1925: its large-sample variance)."""
    clusters = max(freedom / size, 1.0)
    spread = (1 - SHARES) * (1 + (size - 1) * SHARES)
    spread *= np.sqrt(2 / (size * max(size - 1, 1.0) * clusters))
    return np.asarray(-0.5 * ((SHARES - measured) / spread) ** 2 - np.log(spread))
