"""Which law, judged on runs it has not seen; and which run the answer hangs on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.diagnostics.scores import aicc
from analysis.fit import fit
from analysis.forecasting import Forecaster
from analysis.forecasting.answer import interval_score, rows_of
from analysis.forecasting.places import coordinates, make_ladder
from analysis.laws import get_law
from analysis.laws.law import Array
from analysis.refit import solve_again
from analysis.result import FitResult
from analysis.solver.global_fit import FitError, descend
from analysis.tables.files import map_letters
from analysis.tables.filters import final_runs
from analysis.tables.groups import label_groups
from analysis.tables.table import RunTable, TableError, as_table

HORIZONS = (2.0, 4.0, 10.0)  # times the compute cut
FORECAST = "forecast"
BACKTEST_REFITS = 200  # enough for the band of a new run, which noise makes wide
ONE_SIZE = 0.05  # relative: sizes this close are left out together


def compare(
    laws: Sequence[str],
    data: RunTable | pd.DataFrame,
    metric: str = "metric",
    columns: dict[str, str] | None = None,
    objective: str | None = None,
    delta: float = 1e-3,
    compute: str = "C",
    cut: float | None = None,
    seed: int = 0,
) -> pd.DataFrame:
    """Laws on equal terms: the same points, the same objective, the same held-out runs.

    Args:
        objective: one for all; default "log_least_squares", the only one all laws share.
        compute: column by which runs are held out.
        cut: largest compute fitted; default: the geometric middle between smallest and largest
            that leaves 10x beyond where possible.

    Returns:
        One row a law: parameters, objective, aicc (of log residuals), residual_sd,
        leave_one_size_out (RMS log error), error_2x, error_4x, error_10x (mean |log error| of runs
        up to that factor beyond the cut), n_beyond, refused.
    """
    table, letters = map_letters(data, columns)
    table = final_runs(table)
    rows = []
    for name in laws:
        law = get_law(name)
        row: dict[str, Any] = {"law": name, "k": len(law.parameters), "refused": None}
        rows.append(row)
        try:
            options: dict[str, Any] = {
                "metric": metric,
                "columns": letters,
                "delta": delta,
                "seed": seed,
                "objective": objective or "log_least_squares",
                "interval": "none",
            }
            whole = fit(law, table, **options)
            log_residuals = log_errors(whole)
            row |= {
                "objective": whole.objective,
                "aicc": aicc(log_residuals, len(law.parameters) - len(whole.fixed)),
                "residual_sd": float(np.std(log_residuals)),
                "leave_one_size_out": leave_one_size_out(whole),
            }
            row |= hold_out_by_compute(name, table, compute, cut, options)
        except (FitError, TableError) as reason:
            row["refused"] = str(reason)
    out = pd.DataFrame(rows)
    if "aicc" in out and out["aicc"].notna().any():
        out["delta_aicc"] = out["aicc"] - out["aicc"].min()
    return out


def log_errors(result: FitResult) -> Array:
    """log(value / prediction) of every fitted point."""
    fitted = result.fitted()
    x = {c: fitted[c].to_numpy(float) for c in result.model.columns}
    predicted = result.model.predict(x, result.parameters)
    return np.asarray(np.log(fitted["y"] / np.maximum(predicted, 1e-300)))


def hold_out_by_compute(
    law: str, table: RunTable, compute: str, cut: float | None, options: dict[str, Any]
) -> dict[str, Any]:
    """Train below a cut, score at 2x, 4x and 10x beyond it."""
    if compute not in table.frame:
        return {"cut": None}
    c = table.numbers(compute)
    if cut is None:
        low, high = float(np.min(c)), float(np.max(c))
        cut = max(high / HORIZONS[-1], float(np.sqrt(low * high)))
    beyond = c > cut * (1 + 1e-9)
    out: dict[str, Any] = {"cut": cut, "n_beyond": int(beyond.sum())}
    if not beyond.any() or beyond.all():
        return out
    below = fit(law, table.keep(~beyond, f"{compute} above the cut {cut:.3g}"), **options)
    outside = table.keep(beyond, f"{compute} below the cut {cut:.3g}")
    x = {k: outside.numbers(options["columns"].get(k, k)) for k in below.model.columns}
    error = np.abs(
        np.log(np.maximum(below.predict(x)["mean"].to_numpy(), 1e-300))
        - np.log(outside.numbers(options["metric"]))
    )
    for factor in HORIZONS:
        near = outside.numbers(compute) <= cut * factor * (1 + 1e-9)
        out[f"error_{factor:g}x"] = float(error[near].mean()) if near.any() else None
    return out


def rolling_origin(
    law: str,
    data: RunTable | pd.DataFrame,
    metric: str = "metric",
    compute: str = "C",
    origins: int = 4,
    bootstrap: int = BACKTEST_REFITS,
    level: float = 0.95,
    **options: Any,
) -> pd.DataFrame:
    """Backtest: fit below a rising cut of compute, predict everything above it.

    Args:
        law: a law's name, or FORECAST for the combination of laws that `forecast` makes.

    Returns:
        One row an origin: cut, n_fit, n_beyond, distance (of the farthest, times the cut), n_band
        (runs with a band for a new run), hits (those that lie in it), mean_error, signed_error
        (mean log(prediction/value): a law that bends shows a steady sign), interval_score (mean).
    """
    table = final_runs(as_table(data))
    c = table.numbers(compute)
    cuts = np.quantile(c, np.linspace(0.5, 0.9, origins), method="lower")
    out = []
    for cut in np.unique(cuts):
        beyond = c > cut
        row: dict[str, Any] = {
            "cut": float(cut),
            "n_fit": int((~beyond).sum()),
            "n_beyond": int(beyond.sum()),
        }
        out.append(row)
        if not beyond.any():
            continue
        try:
            if law == FORECAST:
                rows = _forecast_rows(table, metric, compute, beyond, level)
            else:
                found = fit(law, table, metric=metric, hold_out=beyond, bootstrap=bootstrap,
                            level=level, **options)  # fmt: skip
                assert found.held_out is not None
                rows = [r | {"low": r["low_new"], "high": r["high_new"]}
                        for r in found.held_out["rows"]]  # fmt: skip
        except (FitError, TableError) as reason:
            row["refused"] = str(reason)
            continue
        relative = np.array([r["relative_error"] for r in rows])
        banded = [r for r in rows if r["low"] is not None and r["low"] > 0]
        scored = [interval_score(r["value"], r["low"], r["high"], level) for r in banded]
        row |= {
            "distance": float(c.max() / cut),
            "n_band": len(banded),
            "hits": sum(r["low"] <= r["value"] <= r["high"] for r in banded),
            "mean_error": float(np.mean(np.abs(relative))),
            "signed_error": float(np.mean(np.log1p(relative))),
            "interval_score": float(np.mean(scored)) if scored else None,
        }
    return pd.DataFrame(out)


def _forecast_rows(
    table: RunTable, metric: str, compute: str, beyond: NDArray[np.bool_], level: float
) -> list[dict[str, Any]]:
    """Runs beyond a cut as `forecast` predicts them from those below."""
    letters = ("N", "D") if {"N", "D"} <= set(table.frame) else (compute,)
    table = table.with_frame(table.frame.assign(metric=table.numbers(metric)))
    below, above = (table.with_frame(table.frame[mask]) for mask in (~beyond, beyond))
    forecaster = Forecaster(make_ladder(below, letters, compute))
    x = coordinates({c: above.numbers(c) for c in letters}, letters)
    size = np.log(above.numbers(compute))
    return rows_of(forecaster, above.ids, x, size, above.numbers("metric"), level)


def leave_one_size_out(result: FitResult) -> float | None:
    """RMS log error when every value of the law's first column is left out in turn."""
    law, fitted = result.model, result.fitted()
    values = fitted[law.columns[0]].to_numpy(float)
    groups = label_groups(values, ONE_SIZE) if (values > 0).all() else values
    left_out = np.array([groups == g for g in np.unique(groups)])
    found = _without(result, left_out)
    if found is None:
        return None
    x = {c: fitted[c].to_numpy(float) for c in law.columns}
    value = np.asarray(law.value({k: v[:, None] for k, v in found.items()}, x), dtype=float)
    value = np.broadcast_to(value, left_out.shape)
    errors = np.log(fitted["y"].to_numpy(float)) - np.log(np.maximum(value, 1e-300))
    return float(np.sqrt(np.mean(errors[left_out] ** 2)))


def influence(result: FitResult) -> pd.DataFrame:
    """How each run moves the parameters: refits without it, all at once.

    Returns:
        One row a run: id, its residual, the change of each parameter, and `reach`, the largest
        change in units of that parameter's standard error (where known).
    """
    fitted = result.fitted()
    n = len(fitted)
    found = _without(result, np.eye(n, dtype=bool))
    if found is None:
        raise FitError("influence needs at least one point more than free parameters")
    out = pd.DataFrame({"id": fitted["id"], "residual": log_errors(result)})
    reach = np.zeros(n)
    for name, value in result.parameters.items():
        change = found[name] - value
        out[f"d_{name}"] = change
        error = result.standard_errors.get(name)
        if error:
            reach = np.maximum(reach, np.abs(change) / error)
    out["reach"] = reach
    return out.sort_values("reach", ascending=False, ignore_index=True)


def _without(result: FitResult, left_out: NDArray[np.bool_]) -> dict[str, Array] | None:
    """Parameters (S,) without the points of each row of `left_out` (S, n), warm from the optimum.

    None where no point is more than there are parameters.
    """
    law = result.model
    if left_out.shape[1] <= len(law.parameters):
        return None
    problem, best, _, fixed = solve_again(result)
    found = descend(
        replace(problem, weights=(~left_out).astype(float)),
        np.repeat(problem.lift(best.working)[None], len(left_out), axis=0),
        np.arange(len(left_out)),
        fixed,
        tolerance=1e-8,
        widths=[],
    )
    return law.decode(problem.from_working(found.working))
