"""What a reader asks of a forecast: rows with intervals, a verdict, the laws that share it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from analysis.forecasting.combination import Forecaster
from analysis.laws.law import Array

HALF = 0.5  # level of the second interval
SMALL, LARGE = 0.02, 0.1  # half widths of log loss that are precise, or useless, by themselves
CLEAR, LOST = 0.5, 1.0  # the same in units of the fall that the laws expect over the distance
FAR = 30.0  # times the ladder's largest compute, beyond which few real forecasts were checked
NEAREST = 2.0


def rows_of(
    forecaster: Forecaster,
    ids: Sequence[str],
    x: Array,
    size: Array,
    values: Array | None = None,
    level: float = 0.95,
) -> list[dict[str, Any]]:
    """One row a run: predicted median, its interval at the level and at one half, distance.

    Args:
        x, size: logarithms (k, n) and (n,).
        values: what was measured (n,), where it is known.
    """
    mixture = forecaster.at(x, size)
    columns = {"predicted": mixture.quantile(0.5)}
    columns["low"], columns["high"] = mixture.interval(level)
    columns["low50"], columns["high50"] = mixture.interval(HALF)
    rows = []
    for i, name in enumerate(ids):
        row: dict[str, Any] = {"id": name}
        if values is not None:
            row["value"] = float(values[i])
        row |= {key: float(np.exp(column[i])) for key, column in columns.items()}
        row["distance"] = float(np.exp(size[i] - forecaster.ladder.top))
        if values is not None:
            row["covered"] = bool(row["low"] <= row["value"] <= row["high"])
            row["relative_error"] = row["predicted"] / row["value"] - 1
            row["interval_score"] = interval_score(row["value"], row["low"], row["high"], level)
        rows.append(row)
    return rows


def interval_score(value: float, low: float, high: float, level: float) -> float:
    """Width of an interval in log units, and what it missed by times 2 / (1 - level).

    Gneiting & Raftery 2007, Eq. 43.
    """
    y, a, b = math.log(value), math.log(low), math.log(high)
    return b - a + 2 / (1 - level) * (max(a - y, 0.0) + max(y - b, 0.0))


def verdict(forecaster: Forecaster, x: Array, size: Array) -> tuple[str, str]:
    """`determined`, `uncertain` or `not determined` for the farthest run asked, and why."""
    farthest = int(np.argmax(size))
    low, high = forecaster.at(x[:, [farthest]], size[[farthest]]).interval(0.95)
    half = float(high[0] - low[0]) / 2
    distance = float(np.exp(size[farthest] - forecaster.ladder.top))
    fall = forecaster.slope() * np.log(max(distance, NEAREST))
    reason = (
        f"at {distance:.3g} times the largest run the interval is ±{np.expm1(half):.1%}, "
        f"the fall that the laws expect over that distance {-np.expm1(-fall):.1%}"
    )
    if half <= max(SMALL, CLEAR * fall):
        if forecaster.backtests:
            return "determined", reason
        return "uncertain", f"{reason}, but no forecast within the ladder could be checked"
    if half > max(LARGE, LOST * fall):
        return "not determined", reason
    return "uncertain", reason


def shared_laws(forecaster: Forecaster) -> list[dict[str, Any]]:
    """The laws by their share in the forecast."""
    formulas = {shape.name: shape.formula for shape in forecaster.shapes}
    weights = forecaster.law_weights()
    return [{"law": k, "weight": v, "formula": formulas[k]} for k, v in weights.items()]


def cautions(forecaster: Forecaster, size: Array) -> list[str]:
    """What a reader of the interval must know, each once."""
    out = []
    if forecaster.given > len(forecaster.ladder):
        out.append(
            f"of {forecaster.given} rows {len(forecaster.ladder)} are fitted, evenly spread in size"
        )
    if not forecaster.backtests:
        out.append(
            "no cut within the ladder leaves enough runs to check a forecast: widths come from "
            "other ladders alone"
        )
    if np.exp(size.max() - forecaster.ladder.top) > FAR:
        out.append(
            f"more than {FAR:g} times the largest run: few forecasts were ever checked that far"
        )
    return out


def summary(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """How held-out runs compare with their forecasts."""
    return {
        "rows": list(rows),
        "n": len(rows),
        "covered": sum(row["covered"] for row in rows),
        "covered50": sum(row["low50"] <= row["value"] <= row["high50"] for row in rows),
        "median_error": float(np.median([abs(row["relative_error"]) for row in rows])),
        "interval_score": float(np.mean([row["interval_score"] for row in rows])),
    }
