"""How large the noise common to one trunk is, and the noise of a single point, drawn together.

Branches of one trunk share an error that a law fitted to few trunks partly absorbs. What the
residuals show between trunks and within them are two independent chi-squares, so both variances
are drawn from generalized pivotal quantities (Weerahandi 1991): on balanced designs and linear
laws an interval is Student's, with the degrees of freedom of the stratum that a parameter lives
in, whatever the common share is.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from analysis.laws.law import Array
from analysis.solver.global_fit import FitError
from analysis.tables.points import Noise

EMPTY = 1e-8  # squared share of a trunk left when the law has absorbed the rest
CLEAR = 0.1  # a direction with less than this share of a trunk says little of what trunks share
HALVINGS = 60


@dataclass(frozen=True)
class ComponentDraws:
    """Noise of S redrawn data sets."""

    own: Array  # (S,) variance of one point given its trunk
    common: Array  # (S,) variance common to a trunk; negative when trunks agree too well
    between: float  # degrees of freedom between trunks
    within: float

    def errors(self, cluster: NDArray[np.intp], rng: np.random.Generator) -> Array:
        """Redrawn errors (S, n); a trunk's mean is drawn with its own variance."""
        size = np.bincount(cluster).astype(float)
        own = np.sqrt(self.own)[:, None] * rng.standard_normal((len(self.own), cluster.size))
        mean = np.stack([own[:, cluster == k].mean(axis=1) for k in range(size.size)], axis=1)
        variance = np.maximum(self.own[:, None] / size + self.common[:, None], 0.0)
        redrawn = np.sqrt(variance) * rng.standard_normal(mean.shape)
        return np.asarray(own + (redrawn - mean)[:, cluster])


def split(
    residual: Array, jacobian: Array, cluster: NDArray[np.intp]
) -> tuple[Array, Array, float, float]:
    """Residuals apart: what lies between trunks and what lies within them.

    Returns:
        Squares (b,) of the residual in the directions that trunks span and the law leaves, how
        often a trunk's variance counts in each (b,), the sum of squares of the rest, its freedom.
    """
    n, p = jacobian.shape
    members = np.zeros((n, int(cluster.max()) + 1))
    members[np.arange(n), cluster] = 1.0
    absorbed = np.linalg.qr(jacobian)[0]
    left = members - absorbed @ (absorbed.T @ members)
    directions, size, _ = np.linalg.svd(left, full_matrices=False)
    seen = size**2 > EMPTY * n
    clean = residual - absorbed @ (absorbed.T @ residual)
    square = (directions[:, seen].T @ clean) ** 2
    rest = max(float(clean @ clean) - float(square.sum()), 0.0)
    return square, size[seen] ** 2, rest, float(n - p - seen.sum())


def satterthwaite(
    residual: Array, jacobian: Array, cluster: NDArray[np.intp]
) -> tuple[Array, Array]:
    """Covariance (p, p) of a linear fit with noise common to trunks, and freedom of each (p,).

    Variances by analysis of variance; degrees of freedom by Satterthwaite (1946), which are those
    of a parameter's own stratum when the design is balanced.

    Raises:
        FitError: when the law absorbs whatever trunks have in common.
    """
    square, weight, rest, within = split(residual, jacobian, cluster)
    clear = weight > CLEAR * len(cluster) / (int(cluster.max()) + 1)
    square, weight = square[clear], weight[clear]
    if square.size < 1 or within < 1:
        raise FitError(_absorbed(len(cluster), int(cluster.max()) + 1))
    typical = float(weight.mean())
    ms_between, ms_within = float(square.mean()), rest / within
    rows = np.linalg.pinv(jacobian)  # (p, n): what a parameter makes of an error
    sums = np.zeros((rows.shape[0], int(cluster.max()) + 1))
    np.add.at(sums.T, cluster, rows.T)
    common = sums @ sums.T / typical
    own = rows @ rows.T - common
    covariance = ms_within * own + ms_between * common
    inner = ms_within * np.maximum(np.diag(own), 0.0)
    outer = ms_between * np.maximum(np.diag(common), 0.0)
    total = np.maximum(inner + outer, 1e-300)
    freedom = total**2 / (inner**2 / within + outer**2 / square.size)
    np.fill_diagonal(covariance, total)
    return covariance, freedom


def _absorbed(points: int, trunks: int) -> str:
    return (
        f"{points} points come from {trunks} trunks or runs, and the law absorbs whatever those "
        "have in common: their noise cannot be known. Add seeds or sizes, or fix a parameter"
    )


def draw_components(
    residual: Array,
    jacobian: Array,
    cluster: NDArray[np.intp],
    count: int,
    rng: np.random.Generator,
    noise: Noise | None = None,
) -> ComponentDraws:
    """Draw both variances given the residuals of a fit.

    Args:
        residual: (n,) of the fit.
        jacobian: (n, p) of the residuals by the free parameters: what the law can absorb.
        cluster: (n,) 0..m-1.
        noise: repeats whose share common to a trunk is known; they add degrees of freedom.

    Raises:
        FitError: when the law absorbs whatever trunks have in common and no repeats tell it.
    """
    square, weight, rest, within = split(residual, jacobian, cluster)
    n, trunks = len(cluster), int(cluster.max()) + 1
    between = float(square.size)
    if noise is not None and noise.shared is not None:
        typical = n / trunks
        more = noise.freedom / typical  # trunks beyond the first of each place
        own, common = noise.sigma**2 * (1 - noise.shared), noise.sigma**2 * noise.shared
        square = np.append(square, more * (own + typical * common))
        weight = np.append(weight, typical)
        between += more
        rest += (noise.freedom - more) * own
        within += noise.freedom - more
    if weight.sum() < 0.5 * n / trunks or within < 1:
        raise FitError(_absorbed(n, trunks))
    if between < 2 and within < 2:
        # Two variances of one degree each: what depends on both would be covered in 99 of 100.
        raise FitError(
            f"{n} points of {trunks} trunks or runs leave one degree of freedom between them and "
            "one within: too few to tell two variances. Add seeds or budgets, or, if the runs "
            "share nothing, say --cluster none"
        )
    own_drawn = rest / rng.chisquare(within, count)
    target = rng.chisquare(between, count)
    # Solve sum square / (own + weight common) = target: it falls from infinity to zero.
    low = -own_drawn / weight.max()
    high = np.full(count, float(square.sum()) / max(float(target.min()), 1e-300))
    for _ in range(HALVINGS):
        middle = 0.5 * (low + high)
        value = (square / (own_drawn[:, None] + weight * middle[:, None])).sum(axis=1)
        low, high = np.where(value > target, middle, low), np.where(value > target, high, middle)
    return ComponentDraws(own_drawn, 0.5 * (low + high), between, within)
