"""How good a fit is: scatter, information criterion, error on runs it has not seen."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from analysis.json_values import finite
from analysis.laws.law import Array
from analysis.tables.points import Points

if TYPE_CHECKING:
    from analysis.result import FitResult


def residual_sd(residuals: Array, free: int) -> float | None:
    """Standard deviation of residuals after `free` parameters; None without freedom."""
    freedom = residuals.size - free
    return float(np.sqrt(np.sum(residuals**2) / freedom)) if freedom > 0 else None


def aicc(residuals: Array, parameters: int) -> float | None:
    """Corrected Akaike criterion of Gaussian residuals (Hurvich & Tsai 1989).

    Counts the noise scale as a parameter. None when there are too few points to correct.
    """
    n, k = residuals.size, parameters + 1
    if n - k - 1 <= 0:
        return None
    rss = max(float(np.sum(residuals**2)), 1e-300)
    return float(n * np.log(rss / n) + 2 * k + 2 * k * (k + 1) / (n - k - 1))


def score_held_out(result: FitResult, points: Points) -> dict[str, Any]:
    """Predictions of held-out runs beside what they measured.

    `error` is prediction - value, `relative_error` that over the value; `covered` says whether the
    value lies in the band for a new run.
    """
    band = result.predict(points.x)
    mean = band["mean"].to_numpy()
    times = distances(result, points.x)
    rows: list[dict[str, Any]] = []
    for i, name in enumerate(points.ids):
        low, high = band["low_new"].iloc[i], band["high_new"].iloc[i]
        known = np.isfinite(low) and np.isfinite(high)
        rows.append(
            {
                "id": name,
                **{k: float(v[i]) for k, v in points.x.items()},
                "value": float(points.y[i]),
                "predicted": float(mean[i]),
                "low": finite(band["low"].iloc[i]),
                "high": finite(band["high"].iloc[i]),
                "low_new": finite(low),
                "high_new": finite(high),
                "error": float(mean[i] - points.y[i]),
                "relative_error": float(mean[i] / points.y[i] - 1) if points.y[i] else None,
                "covered": bool(low <= points.y[i] <= high) if known else None,
                "distance": None if times is None else float(times[i]),
            }
        )
    relative = np.array([abs(r["relative_error"]) for r in rows if r["relative_error"] is not None])
    covered = [r["covered"] for r in rows if r["covered"] is not None]
    return {
        "n": len(rows),
        "mean_absolute_relative_error": float(relative.mean()) if relative.size else None,
        "max_absolute_relative_error": float(relative.max()) if relative.size else None,
        "rmse": float(np.sqrt(np.mean((mean - points.y) ** 2))),
        "coverage_new": float(np.mean(covered)) if covered else None,
        "decades_beyond": decades_beyond(result, points),
        "rows": rows,
    }


def decades_beyond(result: FitResult, points: Points) -> dict[str, float]:
    """How far, in decades, the points lie above the fitted range of each column."""
    largest = {column: high for column, (_, high) in result.ranges().items()}
    return {
        column: float(max(np.log10(np.max(values) / largest[column]), 0.0))
        for column, values in points.x.items()
        if largest[column] > 0 and np.all(values > 0)
    }


def distances(result: FitResult, columns: Mapping[str, Array]) -> Array | None:
    """How many times the largest fitted run each row is: in N D, or in the law's one variable.

    None where a law has no such measure: of a link from loss to metric, or with values below zero.
    """
    letters = set(result.model.columns)
    of = ("N", "D") if {"N", "D"} <= letters else tuple(letters - {"L"})
    if len(of) != 1 and of != ("N", "D"):
        return None
    fitted = result.fitted()
    largest = float(np.prod([fitted[c].to_numpy(float) for c in of], axis=0).max())
    if largest <= 0:
        return None
    return np.asarray(np.prod([np.asarray(columns[c], dtype=float) for c in of], axis=0) / largest)
