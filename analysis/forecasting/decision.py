"""What to train with a budget: one answer, in the words in which every screen and page give it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from analysis.forecasting import Forecaster
from analysis.forecasting.answer import cautions, rows_of, verdict
from analysis.forecasting.optimum import best_allocation, best_place
from analysis.forecasting.places import compute_of, ladder_rule, make_ladder
from analysis.forecasting.proposals import Proposals, propose
from analysis.optima.compute_optimal import ComputeRule
from analysis.optima.law_optimum import Budget
from analysis.tables.files import map_columns
from analysis.tables.filters import positive_values
from analysis.tables.pooling import check_agreement
from analysis.tables.practice import Practice, practice_of
from analysis.tables.table import RunTable

AHEAD = 10.0  # times the largest compute, where nobody names a target
BEHIND = 4.0  # how far below the largest run its band begins
ALONG = 33  # places along a ladder at which its forecast is drawn
MOST_PLANNED = 2000  # runs of a study that is told which run next
LETTERS = ("N", "D")
REPEATED = "D* repeats the data: the laws take what is read again to be as good as new"


@dataclass(frozen=True)
class Decision:
    """N*, D* and the loss that a budget buys, and whether the ladder determines them."""

    budget: Budget
    n: float
    d: float
    n_interval: tuple[float, float] | None  # None: no optimum in reach
    d_interval: tuple[float, float] | None
    loss: dict[str, Any]  # predicted, low, high, low50, high50, distance
    rule: ComputeRule
    level: float
    metric: str
    verdict: str
    reason: str
    cautions: tuple[str, ...]
    practice: Practice | None
    nearest: dict[str, Any] | None  # model, n, d, command and the row of its loss

    def lines(self) -> list[str]:
        """The answer first; what it rests on after it."""
        unit = f" {self.practice.unit}" if self.practice else ""
        n = f"N* = {self.n:.2g} {range_text(self.n_interval)}"
        d = f"D* = {self.d:.2g} {range_text(self.d_interval)}{unit}"
        lost = self.verdict == "not determined"
        out = [
            *([f"not determined: {self.reason}"] if lost else []),
            f"{'at best a guess: ' if lost else ''}train {n} on {d}",
            f"  expected {self.metric} {told(self.loss)} for a new run ({self.level:.0%})",
            f"  {self.price()}",
        ]
        if self.nearest:
            out.append(
                f"  nearest size {self.nearest['model']}: N = {self.nearest['n']:.3g}, "
                f"D = {self.nearest['d']:.3g}, {self.metric} {told(self.nearest['loss'])}"
            )
            out.append(f"  {self.nearest['command']}")
        return out if lost else [*out, f"  {self.verdict}: {self.reason}"]

    def headline(self) -> str:
        """The verdict in a few words."""
        return f"{self.verdict} at {self.loss['distance']:.3g} times the largest run"

    def price(self) -> str:
        """Compute, passes over the data, hours and dollars, as far as they are known."""
        passes = self.practice and self.practice.passes(self.d)
        hours, dollars = self.budget.gpu_hours, self.budget.dollars
        measured = self.practice.hours(self.budget.flops) if self.practice else None
        parts = [
            f"{self.budget.flops:.3g} FLOPs, {self.loss['distance']:.3g} times the largest run",
            None if not passes else f"{short(passes)} passes over the data",
            None if hours is None else f"{duration(hours)} of accelerator time",
            None if dollars is None else f"${dollars:,.2f}",
            None if measured is None or hours is not None
            else f"{duration(measured)} at the largest run's speed",
        ]  # fmt: skip
        return ", ".join(part for part in parts if part)

    def to_dict(self) -> dict[str, Any]:
        """As plain data; the fields of `forecast --json`."""
        practice = self.practice
        return {
            "flops": self.budget.flops, "gpu_hours": self.budget.gpu_hours,
            "dollars": self.budget.dollars,
            "n_opt": self.n, "n_opt_interval": _pair(self.n_interval),
            "d_opt": self.d, "d_opt_interval": _pair(self.d_interval),
            "tokens_per_parameter": self.d / self.n, "compute_rule": self.rule.origin,
            "loss": self.loss["predicted"],
            "loss_interval": [self.loss["low"], self.loss["high"]],
            "loss_interval50": [self.loss["low50"], self.loss["high50"]],
            "distance": self.loss["distance"],
            "passes": practice and practice.passes(self.d),
            "measured_hours": practice and practice.hours(self.budget.flops),
            "nearest": self.nearest, "warnings": list(self.cautions),
        }  # fmt: skip


def decide(
    forecaster: Forecaster,
    rule: ComputeRule,
    budget: Budget,
    level: float = 0.95,
    metric: str = "loss",
    practice: Practice | None = None,
) -> Decision:
    """What to train with a budget, by a ladder of N and D.

    Args:
        rule: how compute follows from N and D.
        metric: what the ladder's loss is called.
        practice: of the study, for sizes, data, speed and command.

    Raises:
        ValueError: if the budget is not a positive number of FLOPs.
    """
    if not (np.isfinite(budget.flops) and budget.flops > 0):
        raise ValueError(f"flops={budget.flops}: a positive number of training FLOPs")
    found = best_allocation(forecaster, budget.flops, rule, level)
    places = [(found.n, found.d)]
    name = practice.nearest(found.n) if practice else None
    if practice and name is not None:
        n = practice.sizes[name]
        places.append((n, float(rule.data(budget.flops, n))))
    x = np.log(np.array(places)).T
    size = compute_of(rule, x)
    rows = rows_of(forecaster, ["target", "nearest"][: len(places)], x, size, level=level)
    word, reason = verdict(forecaster, x[:, :1], size[:1])
    nearest = None
    if practice and name is not None:
        n, d = places[1]
        nearest = {"model": name, "n": n, "d": d, "loss": rows[1]}
        nearest["command"] = practice.command(name, d)
    passes = practice and practice.passes(found.d)
    again = [REPEATED] if passes and passes > 1 else []
    return Decision(
        budget, found.n, found.d,
        None if found.at_edge else found.n_interval, None if found.at_edge else found.d_interval,
        rows[0], rule, level, metric, word, reason, (*cautions(forecaster, size[:1]), *again),
        practice, nearest,
    )  # fmt: skip


@dataclass(frozen=True)
class Outlook:
    """A study's ladder, the decision at a target, and the forecast along the way there."""

    decision: Decision
    runs: pd.DataFrame  # id, C and the metric of each run of the ladder
    band: pd.DataFrame  # C, predicted, low, high, low50, high50 of the best allocation
    largest: float  # compute of the largest run
    plan: Proposals | None  # which run next; None of more than MOST_PLANNED runs


def look_ahead(
    table: RunTable,
    metric: str,
    flops: float | None = None,
    priced: Callable[[Budget], Budget] = lambda budget: budget,
    level: float = 0.95,
) -> Outlook:
    """Decide for a study with columns N, D and C.

    Args:
        flops: target; default: AHEAD times the largest run.
        priced: adds hours and dollars to a budget.

    Raises:
        TableError: if the runs are no ladder that a forecast could stand on.
    """
    table = map_columns(table, {"metric": metric})
    table = positive_values(table, [*LETTERS, "C"], "metric")
    table = check_agreement(table, "metric", list(LETTERS))
    ladder = make_ladder(table, LETTERS, "C")
    forecaster = Forecaster(ladder)
    rule = ladder_rule(ladder)
    largest = float(np.exp(forecaster.ladder.top))
    budget = priced(Budget(AHEAD * largest if flops is None else flops))
    decision = decide(forecaster, rule, budget, level, metric, practice_of(table))
    # Far below the largest run the best allocation lies outside the ladder.
    sizes = np.geomspace(largest / BEHIND, max(1.5 * budget.flops, 2 * largest), ALONG)
    sizes = np.unique(np.append(sizes, [largest, budget.flops]))
    x = np.array([best_place(forecaster, c, rule) for c in sizes]).T
    rows = rows_of(forecaster, [""] * len(sizes), x, np.log(sizes), level=level)
    band = pd.DataFrame(rows).drop(columns="id").assign(C=sizes)
    runs = pd.DataFrame({"id": table.ids, "C": table.numbers("C"),
                         "metric": table.numbers("metric")})  # fmt: skip
    at = np.log([[decision.n], [decision.d]])
    plan = None
    if len(table) <= MOST_PLANNED:
        plan = propose(forecaster, rule, table, at, compute_of(rule, at), level=level)
    return Outlook(decision, runs, band, largest, plan)


def told(row: dict[str, Any]) -> str:
    """A median with its interval, in as many digits as the interval deserves."""
    digits = decimals(row["low"], row["high"])
    return f"{row['predicted']:.{digits}f} [{row['low']:.{digits}f}, {row['high']:.{digits}f}]"


def decimals(low: float, high: float) -> int:
    """Digits after the point that half the interval deserves: two of it up to 0.35, else one."""
    half = max((high - low) / 2, 1e-12)
    return int(np.clip(np.ceil(-np.log10(half / 3.5)), 0, 12))


def range_text(interval: Sequence[float | None] | None) -> str:
    """Ends of an interval of sizes or compute; None is an open end."""
    if interval is None:
        return "[no interval: no optimum in reach]"
    return "[" + ", ".join("open" if v is None else f"{v:.2g}" for v in interval) + "]"


def short(value: float) -> str:
    """Two digits, or all before the point."""
    return f"{value:,.0f}" if value >= 10 else f"{value:.2g}"


def duration(hours: float) -> str:
    """Hours as a person says them."""
    for unit, seconds in (("days", 86400), ("h", 3600), ("min", 60)):
        if 3600 * hours >= 2 * seconds:
            return f"{3600 * hours / seconds:,.3g} {unit}"
    return f"{3600 * hours:.2g} s"


def _pair(interval: tuple[float, float] | None) -> list[float] | None:
    return None if interval is None else list(interval)
