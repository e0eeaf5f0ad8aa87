"""`fmscale-analysis forecast` from a table or study: laws combined, with an interval that holds."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from analysis.cli.options import read_mapped, write_json
from analysis.cli.screen import plan_lines, progress, table_text, wrapped
from analysis.forecasting import Forecaster
from analysis.forecasting.answer import cautions, rows_of, shared_laws, summary, verdict
from analysis.forecasting.decision import decide, decimals, range_text, told
from analysis.forecasting.optimum import compute_needed
from analysis.forecasting.places import compute_of, coordinates, ladder_rule, make_ladder
from analysis.forecasting.proposals import Proposals, propose
from analysis.forecasting.registered import register
from analysis.laws.law import Array
from analysis.optima.compute_optimal import ComputeRule
from analysis.optima.law_optimum import Budget
from analysis.tables.files import map_columns, read_table
from analysis.tables.filters import evaluate_query, positive_values
from analysis.tables.number_formats import parse_unit
from analysis.tables.pooling import check_agreement
from analysis.tables.practice import practice_of
from analysis.tables.table import D_COLUMNS, N_COLUMNS, RunTable, TableError

SHOWN = 20  # rows on the screen
LAWS_SHOWN = 0.01  # share of a law that is worth a line
OWN_NAMES = ("N", "D", "C", "loss")  # columns taken when none is named


@dataclass(frozen=True)
class Ground:
    """A forecaster and what its table calls things."""

    forecaster: Forecaster
    letters: tuple[str, ...]
    measure: str  # column that distance is measured in, C or x
    rule: ComputeRule | None  # compute of N and D
    table: RunTable  # the runs it is made of
    held: RunTable  # those it is asked about

    def places(self, table: RunTable) -> tuple[Array, Array]:
        """Coordinates (k, n) and log compute (n,) of a table's rows."""
        x = coordinates({c: table.numbers(c) for c in self.letters}, self.letters)
        known = self.measure in table.conventions or self.rule is None
        return x, np.log(table.numbers(self.measure)) if known else self.size(x)

    def size(self, x: Array) -> Array:
        return x[0] if self.rule is None else compute_of(self.rule, x)


def forecast_ladder(args: argparse.Namespace, budget: Budget | None, priced: Any) -> dict[str, Any]:
    """Answer the question of the options; print it, decision first.

    Args:
        budget: compute to be spent, if that is the question.
        priced: makes a Budget of one in FLOPs, with hours and dollars where a price is known.
    """
    for option in ("error", "plot"):
        if getattr(args, option) is not None:
            raise ValueError(f"--{option} is not for forecasts from a table; leave it out")
    planned = planned_run(args)
    asked = [budget, args.target_loss, planned, args.hold_out, args.predict]
    if all(question is None for question in asked):
        raise ValueError(
            "say what to forecast: --flops (or --gpu-hours, --dollars), --target-loss, one run by "
            "numbers --n 7e9 --d 140e9, --hold-out QUERY or --predict TABLE"
        )
    if not 0 < args.level < 1:
        raise ValueError(f"level={args.level}: between 0 and 1")
    with progress("forecasting") as step:
        step(str(args.table))
        ground = stand_on(args)
        forecaster = ground.forecaster
        answer: dict[str, Any] = {
            "source": ground.table.source,
            "columns": dict(ground.table.conventions),
            "n_points": len(ground.table),
            "largest": float(np.exp(forecaster.ladder.top)),
            "level": args.level,
        }
        targets: list[tuple[Array, Array]] = []
        lines: list[str] = []
        if args.target_loss is not None:
            needed, ends = compute_needed(forecaster, args.target_loss, ground.rule, args.level)
            answer |= {"target_loss": args.target_loss, "flops_interval": list(ends)}
            budget = priced(Budget(needed))
            lines.append(
                f"loss {args.target_loss:g} needs {needed:.3g}{_unit(ground)} {range_text(ends)}"
            )
        if budget is not None:
            targets.append(spend(ground, budget, args, answer, lines))
        if planned is not None:
            if len(ground.letters) == 1:
                raise ValueError("--n and --d by number: one planned run of a law of N and D")
            x = np.log(np.array([[planned[0]], [planned[1]]]))
            targets.append((x, ground.size(x)))
            (answer["planned"],) = rows_of(forecaster, ["planned"], *targets[-1], level=args.level)
            row = answer["planned"]
            lines.append(
                f"N = {planned[0]:.4g}, D = {planned[1]:.4g}: loss {told(row)} for a new run, "
                f"{row['distance']:.3g} times the largest run"
            )
        if len(ground.held):
            targets.append(ground.places(ground.held))
            values = ground.held.numbers("metric")
            rows = rows_of(forecaster, ground.held.ids, *targets[-1], values, args.level)
            answer["held_out"] = summary(rows)
            lines += held_out_lines(answer["held_out"], args.level)
        if args.predict:
            other = table_to_predict(args, ground)
            targets.append(ground.places(other))
            rows = rows_of(forecaster, other.ids, *targets[-1], level=args.level)
            answer["predictions"] = {"rows": rows}
            lines += [f"{len(rows)} runs of {args.predict}:", *row_lines(rows)]
        x = np.concatenate([t[0] for t in targets], axis=1)
        size = np.concatenate([t[1] for t in targets])
        answer["verdict"], answer["reason"] = verdict(forecaster, x, size)
        plan = None
        if answer["verdict"] != "determined" and len(size) == 1 and can_plan(ground):
            plan = propose(forecaster, ground.rule, ground.table, x, size, level=args.level)
            answer["next"] = plan.to_dict()
        answer["laws"] = shared_laws(forecaster)
        answer["views"] = dict(zip(("whole", "top"), map(float, forecaster.views), strict=True))
        answer["backtests"] = len(forecaster.backtests)
        said = [*ground.table.warnings, *answer.get("warnings", []), *cautions(forecaster, size)]
        answer["warnings"] = list(dict.fromkeys(said))
        answer["dropped"] = [d.to_dict() for d in ground.table.dropped]
    if args.register is not None:
        lines.append(f"registered as {keep(args, answer, ground, planned)}")
    show(answer, lines, ground, plan)
    write_json(args.json, answer)
    return answer


def keep(
    args: argparse.Namespace,
    answer: dict[str, Any],
    ground: Ground,
    planned: tuple[float, float] | None,
) -> Path:
    """Register the forecast of one run: N and D by number, or a value of the one variable."""
    if planned is not None:
        question = dict(zip(("N", "D"), planned, strict=True))
        prediction = answer["planned"]
    elif ground.rule is None and answer.get("flops") is not None:
        low, high = answer["loss_interval"]
        question = {"x": answer["flops"]}
        prediction = {"predicted": answer["loss"], "low": low, "high": high,
                      "distance": answer["distance"]}  # fmt: skip
    else:
        raise ValueError(
            "--register writes down the forecast of one run, which can be made and compared: name "
            "it by numbers, --n 7e9 --d 140e9 (or --flops with --x)"
        )
    made = {key: answer[key] for key in ("level", "laws", "verdict", "warnings")}
    return register(args.register, question, {**prediction, **made}, ground.table, args.registry)


def planned_run(args: argparse.Namespace) -> tuple[float, float] | None:
    """--n and --d that are numbers, not columns: the size and data of one planned run."""
    found = []
    for name in ("n", "d"):
        try:
            found.append(parse_unit(getattr(args, name)))
        except ValueError:
            continue
    if not found:
        return None
    if len(found) == 1:
        raise ValueError("--n and --d: both columns, or both numbers of one planned run")
    if min(found) <= 0:
        raise ValueError(f"--n {args.n} --d {args.d}: positive numbers")
    args.n = args.d = None
    return found[0], found[1]


def stand_on(args: argparse.Namespace) -> Ground:
    """Read the table, split what is held out, fit the laws."""
    if args.x is None:
        take_own_names(args)
    table = read_mapped(args)
    letters = ("x",) if args.x is not None else ("N", "D")
    missing = [c for c in letters if c not in table.conventions]
    if missing:
        raise TableError(
            f"name the columns of {' and '.join(missing)}: --n, --d and --c, or --x for one "
            "variable"
        )
    # In one variable distance is that of the variable, unless compute is named.
    known = "C" in table.conventions and (len(letters) == 2 or args.c is not None)
    table = positive_values(table, [*letters, *(["C"] if known else []), "metric"], "metric")
    held = np.zeros(len(table), dtype=bool)
    if args.hold_out is not None:
        held = evaluate_query(table.frame, args.hold_out, "--hold-out")
        if held.all() or not held.any():
            which = "every row" if held.all() else "no row"
            raise TableError(f"--hold-out {args.hold_out!r} holds out {which}")
    measure = "C" if known or len(letters) == 2 else "x"
    if not known and len(letters) == 2:
        n, d = table.numbers("N"), table.numbers("D")
        table = table.with_frame(table.frame.assign(C=6 * n * d))
        table = table.warn("compute is taken as 6 N D; --c names its column")
    ground, asked = (table.with_frame(table.frame[mask]) for mask in (~held, held))
    ground = check_agreement(ground, "metric", list(letters))
    ladder = make_ladder(ground, letters, measure, args.cluster)
    rule = ladder_rule(ladder) if len(letters) == 2 else None
    return Ground(Forecaster(ladder), letters, measure, rule, ground, asked)


def take_own_names(args: argparse.Namespace) -> None:
    """Columns named N, D, C and loss stand for themselves where nothing else is named."""
    frame = read_table(args.table, args.keys, args.decimal).frame
    if "schema_version" in frame and "run_id" in frame:
        return  # a study's columns are known
    for option, name in zip(("n", "d", "c", "metric"), OWN_NAMES, strict=True):
        derived = getattr(args, f"{option}_from", None)
        if getattr(args, option) is None and derived is None and name in frame:
            setattr(args, option, name)


def spend(
    ground: Ground,
    budget: Budget,
    args: argparse.Namespace,
    answer: dict[str, Any],
    lines: list[str],
) -> tuple[Array, Array]:
    """What a budget buys, into the answer and its lines; the place it leads to."""
    if ground.rule is None and args.served:
        raise ValueError("--serve-tokens needs N and D: serving costs 2 N a token")
    if ground.rule is not None:
        rule = ComputeRule() if args.six_nd else ground.rule
        rule = replace(rule, served=args.served)
        metric = ground.table.conventions["metric"]
        practice = practice_of(ground.table)
        measured = practice.hours(budget.flops) if practice else None
        bought = args.gpu_hours is not None or args.dollars is not None
        if measured is not None and args.price is not None and not bought and args.peak is None:
            budget = Budget(budget.flops, measured, measured * args.price)
        decision = decide(ground.forecaster, rule, budget, args.level, metric, practice)
        answer |= decision.to_dict()
        lines += decision.lines()
        x = np.log([[decision.n], [decision.d]])
        return x, compute_of(rule, x)
    name = ground.table.conventions["x"]
    if ground.measure == "C" or name in (*N_COLUMNS, *D_COLUMNS, "N", "D"):
        raise ValueError(
            f"a budget is of compute, and the variable is {name}: ask with --predict TABLE"
        )
    x = np.log([[budget.flops]])
    (row,) = rows_of(ground.forecaster, ["target"], x, x[0], level=args.level)
    lines.append(f"at {budget.flops:.4g}{_unit(ground)}: loss {told(row)} for a new run")
    answer |= {"flops": budget.flops, "gpu_hours": budget.gpu_hours, "dollars": budget.dollars,
               "loss": row["predicted"], "loss_interval": [row["low"], row["high"]],
               "loss_interval50": [row["low50"], row["high50"]],
               "distance": row["distance"]}  # fmt: skip
    return x, ground.size(x)


def table_to_predict(args: argparse.Namespace, ground: Ground) -> RunTable:
    """The rows of --predict under the ladder's column names."""
    other = read_table(args.predict, args.keys, args.decimal)
    names = {c: ground.table.conventions.get(c) for c in {*ground.letters, ground.measure}}
    if ground.rule is not None and names["C"] not in other.frame:
        names.pop("C")  # it follows from N and D
    derive = {"D": args.d_from} if args.d_from else {}
    if derive:
        names["D"] = None
    table = map_columns(other, names, derive, args.run_id if args.run_id in other.frame else None)
    return positive_values(table, [*ground.letters, *(["C"] if "C" in names else [])], None)


def held_out_lines(held: dict[str, Any], level: float) -> list[str]:
    first = (
        f"{held['covered']} of {held['n']} held-out runs lie in their {100 * level:g} % interval, "
        f"{held['covered50']} in the one of 50 %; median error {held['median_error']:.1%}, "
        f"interval score {held['interval_score']:.3g}"
    )
    return [first, *row_lines(held["rows"])]


def row_lines(rows: Sequence[dict[str, Any]]) -> list[str]:
    """The first rows as a table, rounded to what their intervals deserve."""
    shown = []
    for row in rows[:SHOWN]:
        digits = decimals(row["low"], row["high"])
        numbers = {k: f"{row[k]:.{digits}f}" for k in ("predicted", "low", "high")}
        line = {"run": row["id"], "distance": f"{row['distance']:.3g}"}
        line |= {"value": f"{row['value']:.{digits}f}"} if "value" in row else {}
        line |= numbers
        if "value" in row:
            line |= {"": "hit" if row["covered"] else "miss",
                     "error": f"{row['relative_error']:+.1%}"}  # fmt: skip
        shown.append(line)
    lines = table_text(pd.DataFrame(shown), indent=2).split("\n")
    return [*lines, *([f"  and {len(rows) - SHOWN} more"] if len(rows) > SHOWN else [])]


def show(
    answer: dict[str, Any], lines: Sequence[str], ground: Ground, plan: Proposals | None
) -> None:
    for line in lines:
        print(wrapped(line))
    if "n_opt" not in answer:  # the decision says it itself
        print(wrapped(f"{answer['verdict']}: {answer['reason']}"))
    if plan is not None:
        print("which runs would narrow it most:")
        print("\n".join(plan_lines(plan)))
    origin = (
        f"  {answer['n_points']} runs of {answer['source']}, the largest of "
        f"{answer['largest']:.3g}{_unit(ground)}; laws by share (checked at "
        f"{answer['backtests']} inner cut{'s' * (answer['backtests'] != 1)}):"
    )
    print(wrapped(origin))
    for law in answer["laws"]:
        if law["weight"] >= LAWS_SHOWN:
            print(f"    {law['weight']:>4.0%} {law['law']}: {law['formula']}")
    for dropped in ground.table.dropped:
        print(wrapped(f"  {dropped}"))
    for warning in answer["warnings"]:
        print(wrapped(f"  warning: {warning}"))


def can_plan(ground: Ground) -> bool:
    """Whether the price of a run is known: from N and D, or as its one variable."""
    return ground.rule is not None or ground.measure != "C"


def _unit(ground: Ground) -> str:
    return " FLOPs" if ground.measure == "C" else f" {ground.table.conventions['x']}"
