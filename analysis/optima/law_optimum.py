"""What to train with a budget: N*, D*, loss with interval, and how far to believe it.

The fan shows the same question answered by other forms, objectives and conventions on the same
runs: a spread wider than the interval means the choice of form matters more than noise.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from analysis.json_values import finite
from analysis.laws import standard_laws
from analysis.laws.law import Array
from analysis.optima.compute_optimal import ComputeRule, compute_rule, optimum
from analysis.refit import refit
from analysis.result import FitResult
from analysis.solver.global_fit import FitError
from analysis.tables.table import TableError
from analysis.uncertainty.bootstrap import percentiles

FAR = 1.0  # decades beyond the largest compute: warn
FAN_OBJECTIVES = ("huber", "log_least_squares", "absolute")


@dataclass(frozen=True)
class Budget:
    """Training FLOPs and, when they were bought by the hour, how."""

    flops: float
    gpu_hours: float | None = None
    dollars: float | None = None


def budget_from_hours(
    hours: float, peak_flops: float, utilization: float, price: float | None = None
) -> Budget:
    """FLOPs of `hours` accelerator-hours at a share `utilization` of `peak_flops` per second."""
    if not (hours > 0 and peak_flops > 0 and 0 < utilization <= 1):
        raise ValueError(
            f"hours={hours}, peak={peak_flops}, utilization={utilization}: all positive, "
            "utilization at most 1"
        )
    dollars = None if price is None else hours * price
    return Budget(hours * 3600 * peak_flops * utilization, hours, dollars)


def forecast(
    result: FitResult,
    budget: Budget | float,
    rule: ComputeRule | None = None,
    fan: bool = True,
    level: float = 0.95,
) -> dict[str, Any]:
    """Best size, data and loss for a budget.

    Args:
        rule: how compute follows from N and D; default: measured from the fitted runs when they
            carry C, else 6 N D.
    """
    spent = budget if isinstance(budget, Budget) else Budget(float(budget))
    if not (np.isfinite(spent.flops) and spent.flops > 0):
        raise ValueError(f"flops={spent.flops}: a positive number of training FLOPs")
    out: dict[str, Any] = {
        "law": result.law,
        "formula": result.formula(),
        "flops": spent.flops,
        "gpu_hours": spent.gpu_hours,
        "dollars": spent.dollars,
        "level": level,
        "interval_method": result.interval_method,
        "warnings": [],
    }
    letters = set(result.model.columns)
    if {"N", "D"} <= letters:
        rule = rule or stored_rule(result)
        found = optimum(result, spent.flops, rule)
        names = (("n_opt", "N"), ("d_opt", "D"), ("loss", "loss"))
        wanted = result.effective_level(level)
        # Where a term of the law is zero, the best size is none or without end.
        there = bool(np.isfinite(found["N"][0]) and found["N"][0] > 0)
        for name, key in names:
            out[name] = finite(found[key][0]) if there else None
            ends = _interval(found[key][1:], wanted, found[key][0]) if there else None
            out[f"{name}_interval"] = ends
        out["tokens_per_parameter"] = finite(found["D"][0] / found["N"][0]) if there else None
        out["compute_rule"] = rule.origin
        out["new_run_interval"] = _new_run(result, found["loss"], wanted) if there else None
        fitted = result.fitted()
        largest = float(np.max(rule.k * fitted["N"] ** rule.p * fitted["D"] ** rule.q))
        beyond = float(np.log10(spent.flops / largest))
        if not there:
            out["warnings"].append("a term of the law is zero: no finite optimum")
    elif result.columns.get(next(iter(letters))) == "C" or letters == {"x"}:
        band = result.predict({"x": [spent.flops]}, level)
        out["loss"] = finite(band["mean"].iloc[0])
        out["loss_interval"] = _pair(band["low"].iloc[0], band["high"].iloc[0])
        out["new_run_interval"] = _pair(band["low_new"].iloc[0], band["high_new"].iloc[0])
        out["n_opt"] = out["d_opt"] = None
        out["warnings"].append(
            f"law {result.law} is of one variable ({result.columns['x']}, taken as FLOPs): it says "
            "nothing about size and data"
        )
        beyond = float(np.log10(spent.flops / result.ranges()["x"][1]))
    else:
        raise ValueError(f"law {result.law} of {', '.join(sorted(letters))} cannot use a budget")
    out["decades_beyond"] = max(beyond, 0.0)
    if beyond > FAR:
        out["warnings"].append(
            f"{beyond:.1f} decades beyond the largest compute fitted: intervals know noise, not "
            "whether the law still holds there"
        )
    if fan and {"N", "D"} <= letters:
        out["fan"] = make_fan(result, spent.flops)
        spread = [row["loss"] for row in out["fan"] if row.get("loss") is not None]
        if len(spread) > 1:
            out["fan_loss"] = [min(spread), max(spread)]
    return out


def target_loss(
    result: FitResult, loss: float, rule: ComputeRule | None = None, level: float = 0.95
) -> dict[str, Any]:
    """Compute needed to reach a loss, by bisection over log C; open when the floor forbids it."""
    rule = rule or stored_rule(result)
    alone = result.replace(samples={})
    log_low, log_high = np.log(1e3), np.log(1e40)
    for _ in range(80):
        middle = 0.5 * (log_low + log_high)
        if optimum(alone, float(np.exp(middle)), rule)["loss"][0] > loss:
            log_low = middle
        else:
            log_high = middle
    needed = float(np.exp(log_high))
    if needed > 1e39:
        raise FitError(
            f"loss {loss} is not reached by {result.formula()}: it lies at or below the floor"
        )
    log_c = np.linspace(np.log(needed) - 12, np.log(needed) + 12, 97)
    losses = np.array([optimum(result, c, rule)["loss"][1:] for c in np.exp(log_c)])  # (G, S)
    flops_interval: list[float | None] | None = None
    if losses.size:
        ends = np.array([_crossing(log_c, column, loss) for column in losses.T])
        low, high = percentiles(ends, result.effective_level(level))
        flops_interval = [
            float(np.exp(v)) if log_c[0] <= v <= log_c[-1] else None for v in (low, high)
        ]
    return {"target_loss": loss, "flops": needed, "flops_interval": flops_interval}


def _crossing(log_c: Array, losses: Array, loss: float) -> float:
    """log C where a falling curve meets a loss; beyond every grid when it does not."""
    reached = losses <= loss
    if not reached.any():
        return float(np.finfo(float).max)  # finite, so that quantiles of others survive
    k = int(np.argmax(reached))
    if k == 0:
        return float(np.finfo(float).min)
    share = (losses[k - 1] - loss) / (losses[k - 1] - losses[k])
    return float(log_c[k - 1] + share * (log_c[k] - log_c[k - 1]))


def make_fan(result: FitResult, flops: float) -> list[dict[str, Any]]:
    """The same runs under other forms; the fitted law under other objectives, cuts, conventions."""
    frame = result.fitted()
    rows = [
        _answer(f"form: {law}", result, frame, flops, law=None if law == result.law else law)
        for law in dict.fromkeys((result.law, *standard_laws("N", "D")))
    ]
    for objective in FAN_OBJECTIVES:
        rows.append(_answer(f"objective: {objective}", result, frame, flops, objective=objective))
    for count in (1, 3):
        if len(frame) > count + 6:
            kept = frame.sort_values("y").iloc[:-count]
            rows.append(_answer(f"without the {count} highest", result, kept, flops))
    for letter, name, values in result.other_conventions():
        other = frame.assign(**{letter: values})
        rows.append(_answer(f"convention: {letter} = {name}", result, other, flops))
    return rows


def _answer(
    name: str, result: FitResult, frame: pd.DataFrame, flops: float, **options: Any
) -> dict[str, Any]:
    try:
        again = refit(result, frame, **options)
    except (FitError, TableError) as reason:
        return {"variant": name, "refused": str(reason)}
    found = optimum(again, flops, _rule_of(frame))
    places = {"n_opt": "N", "d_opt": "D", "loss": "loss"}
    return {"variant": name, **{k: finite(found[key][0]) for k, key in places.items()}}


def stored_rule(result: FitResult) -> ComputeRule:
    """C of N and D as the fitted runs have it."""
    return _rule_of(result.fitted())


def _rule_of(frame: pd.DataFrame) -> ComputeRule:
    if "C" not in frame:
        return ComputeRule()
    return compute_rule(*(frame[c].to_numpy(float) for c in ("N", "D", "C")))


def _new_run(result: FitResult, losses: Array, level: float) -> list[float] | None:
    """Of one more run: losses are the estimate and its draws."""
    sigma, draws = result.new_run_sd(), losses[1:]
    draws = draws[np.isfinite(draws)]
    if sigma is None or draws.size == 0:
        return None
    scatter = sigma * np.random.default_rng(result.seed).standard_normal(draws.size)
    new = draws * np.exp(scatter) if result.residual_log else draws + scatter
    return _interval(new, level, losses[0])


def _interval(draws: Array, level: float, estimate: float) -> list[float] | None:
    """Percentiles of the draws, widened to the estimate if they miss it."""
    draws = draws[np.isfinite(draws)]
    if draws.size == 0 or not np.isfinite(estimate):
        return None
    low, high = percentiles(draws, level)
    return [min(float(low), float(estimate)), max(float(high), float(estimate))]


def _pair(low: float, high: float) -> list[float] | None:
    return [float(low), float(high)] if np.isfinite(low) and np.isfinite(high) else None
