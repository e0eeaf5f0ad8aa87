"""Runs worth training next for a forecast at a target, with what each is expected to tell."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from analysis.forecasting import Forecaster
from analysis.forecasting.answer import rows_of
from analysis.forecasting.next_runs import APART, Plan, make_pool, plan_runs, trunks_of
from analysis.laws.law import Array
from analysis.optima.compute_optimal import ComputeRule
from analysis.tables.practice import practice_of
from analysis.tables.table import RunTable

SHARE = 0.1  # of the target's compute: what the runs may add where nobody names a budget


@dataclass(frozen=True)
class Proposals:
    """A plan in words and plain data."""

    target: dict[str, Any]  # predicted, low, high, distance of a run at the target, now
    runs: tuple[dict[str, Any], ...]  # sizes by letter, price, narrowing, low and high after it
    budget: float  # FLOPs
    price: float  # of all runs together
    reason: str  # why there is no further run
    commands: tuple[str, ...]  # what trains them; none where the table is no study

    def to_dict(self) -> dict[str, Any]:
        """The fields of `next --json`."""
        return {
            "target": self.target, "budget": self.budget, "price": self.price,
            "runs": list(self.runs), "reason": self.reason, "commands": list(self.commands),
        }  # fmt: skip

    def opening(self) -> str:
        """What the interval is now; where no run is worth it, why, in one line."""
        now = f"now ±{half_width(self.target):.1%}"
        if self.runs:
            return f"{now}; expected after each run, all before it included:"
        return f"no run within {self.budget:.3g} FLOPs is worth it ({now}): {self.reason}"

    def closing(self) -> str:
        """What the runs cost together, and why there is no further one."""
        return f"together they add {self.price:.3g} of {self.budget:.3g} FLOPs; then {self.reason}"

    def rows(self) -> list[dict[str, str]]:
        """The runs as a table of short texts."""
        return [
            {"run": str(i), **{k: f"{run[k]:.3g}" for k in ("N", "D", "x", "flops") if k in run},
             "adds": f"{run['price']:.3g}", "interval": f"±{half_width(run):.1%}",
             "of now": f"{run['narrowing']:.0%}"}
            for i, run in enumerate(self.runs, 1)
        ]  # fmt: skip


def propose(
    forecaster: Forecaster,
    rule: ComputeRule | None,
    table: RunTable,
    x: Array,
    size: Array,
    budget: float | None = None,
    level: float = 0.95,
) -> Proposals:
    """Plan runs that narrow the forecast at one target.

    Args:
        rule: compute of N and D; None for a ladder of one variable.
        table: the runs of the ladder, with mapped columns.
        x, size: logarithms of the target (k, 1) and (1,).
        budget: FLOPs that the runs may add; default: SHARE of the target's compute.
    """
    budget = SHARE * float(np.exp(size[0])) if budget is None else budget
    (row,) = rows_of(forecaster, ["target"], x, size, level=level)
    trunks = trunks_of(table.frame)
    pool = make_pool(forecaster.ladder, rule, trunks)
    plan = plan_runs(forecaster, x, size, pool, trunks, budget)
    runs = tuple(_run(plan, i, row, rule) for i in range(len(plan.runs)))
    return Proposals(row, runs, budget, float(plan.price), plan.reason, tuple(sweeps(table, runs)))


def half_width(row: dict[str, Any]) -> float:
    """Of an interval, relative to its middle."""
    return float(np.sqrt(row["high"] / row["low"]) - 1)


def _run(plan: Plan, i: int, row: dict[str, Any], rule: ComputeRule | None) -> dict[str, Any]:
    """One run with the interval of the target to be expected after it."""
    chosen = plan.runs[i]
    letters = ("x",) if rule is None else ("N", "D")
    out = {k: float(v) for k, v in zip(letters, np.exp(chosen.x), strict=True)}
    if rule is not None:
        out["flops"] = float(np.exp(chosen.size))
    ends = np.log([row["low"], row["high"]])
    middle = np.log(row["predicted"])
    low, high = np.exp(middle + chosen.narrowing * (ends - middle))
    return out | {
        "price": float(chosen.price), "narrowing": chosen.narrowing,
        "low": float(low), "high": float(high),
    }  # fmt: skip


def sweeps(table: RunTable, runs: Sequence[dict[str, Any]]) -> list[str]:
    """The Hydra command of each size, where the runs are of one study of a run store.

    A size's shortest budget so far is named again: it sets the warm-up and thereby the trunk.
    """
    frame, practice = table.frame, practice_of(table)
    if practice is None or "trunk_id" not in frame:
        return []
    budgets: dict[float, list[int]] = {}
    for run in runs:
        budgets.setdefault(run["N"], []).append(round(run["D"]))
    out = []
    for n, wanted in budgets.items():
        same = frame[np.isclose(frame["N"], n, rtol=1e-9)]
        wanted += [] if same.empty else [round(same["D"].min())]
        seed = (same if len(same) else frame).sort_values("D")["seed"].iloc[-1]
        near = practice.nearest(n)
        known = near is not None and abs(np.log(practice.sizes[near] / n)) < APART
        remarks = [] if known else [f"MODEL: one of about {n:.3g} parameters"]
        size = near if known and near else "MODEL"
        out.append(practice.branches(size, wanted, round(seed), remarks))
    return out
