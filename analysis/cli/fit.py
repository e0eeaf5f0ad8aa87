"""fmscale-analysis fit: one law, with intervals, certificate, sensitivity and predictions."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from analysis.cli.options import (
    add_objective_options,
    add_shared,
    add_table_options,
    beside,
    column_of,
    groups_of,
    parse_assignments,
    read_mapped,
    write_json,
)
from analysis.cli.screen import progress, table_text, wrapped
from analysis.compare import influence
from analysis.diagnostics.scores import distances
from analysis.fit import fit
from analysis.laws import LAWS, get_law
from analysis.outputs import write_text
from analysis.plot.style import save_axes
from analysis.plot.tornado import plot_tornado
from analysis.report.fit_card import fit_card
from analysis.result import FitResult
from analysis.sensitivity import headline, sensitivity, tornado
from analysis.solver.global_fit import STARTS, FitError
from analysis.solver.objectives import get_objective
from analysis.tables.files import map_columns, read_table
from analysis.tables.filters import names_in, positive_values
from analysis.tables.table import RunTable, TableError
from analysis.uncertainty.intervals import INTERVALS

EXAMPLE = (
    'fmscale-analysis fit points.csv --law joint --n "Model Size" --c "Training FLOP" --d-from 6nd '
    "--loss loss --drop-highest-loss 5 --objective huber --bootstrap 4000 --seed 42 --json fit.json"
)


SHOWN = 10  # runs of the influence table on the screen
SHOWN_ROWS = 20  # of those held out or predicted


def add_options(parser: argparse.ArgumentParser) -> None:
    option = parser.add_argument
    add_table_options(parser)
    option("--law", required=True, help=f"{', '.join(LAWS)}; or MODULE:CLASS of your own")
    option("--breaks", type=int, default=1, help="breaks of broken_power")
    add_objective_options(parser)
    option("--reduction", choices=("sum", "mean"), default="sum",
           help="how the objective is reported; the optimum is the same")  # fmt: skip
    option("--interval", choices=INTERVALS, default="auto")
    option("--bootstrap", type=int, default=2000, metavar="REFITS")
    option("--fix", action="append", default=[], metavar="NAME=VALUE")
    option("--start", action="append", default=[], metavar="NAME=VALUE,...",
           help="a start of your own, tried as well as the others")  # fmt: skip
    option("--starts", type=int, default=STARTS, help="how many of our own (default: %(default)s)")
    option("--bounds", action="append", default=[], metavar="LOW,HIGH | NAME=LOW:HIGH",
           help="range of the metric (chance, ceiling), or of a parameter: c1=-20:20")  # fmt: skip
    option("--tie", action="append", default=[], metavar="NAME=NAME", help="beta=alpha: one value")
    option("--no-sensitivity", action="store_true", help="skip the sensitivity table")
    option("--influence", action="store_true", help="how the answer moves without each run")
    option("--card", metavar="FILE", help="write the fit card (Markdown)")
    add_shared(
        parser, "level", "json", by="one fit for each value of this column",
        cluster="names the trunk or run of a row; default: found; none: rows are independent",
        hold_out="rows predicted, not fitted: 'C > 1e21'",
        predict="rows to predict, same column names",
        plot="draw points, law and band (.png, .svg, .pdf), and the tornado beside it",
    )  # fmt: skip


def run(args: argparse.Namespace) -> int:
    table = read_mapped(args)
    answers: dict[str, Any] = {}
    refused = 0
    with progress("fitting") as step:
        for name, part in groups_of(table, args.by):
            step(name if args.by else args.law)
            if args.by:
                print(f"{args.by} = {name}")
            try:
                answers[name] = fit_one(args, part, name if args.by else "", step)
            except (FitError, TableError) as reason:
                if not args.by:
                    raise
                refused += 1
                answers[name] = {"refused": str(reason)}
                print(wrapped(f"refused: {reason}"))
    if args.by:
        show_groups(args.by, answers)
    write_json(args.json, {"by": args.by, "groups": answers} if args.by else answers["all"])
    return int(refused == len(answers))


def fit_one(
    args: argparse.Namespace, table: RunTable, group: str, step: Callable[[str], None]
) -> dict[str, Any]:
    """One fit and all that was asked about it, printed; its plain data."""
    law = get_law(args.law, args.breaks)
    goal = args.objective or law.default_objective
    objective = get_objective(goal, args.delta, reduction=args.reduction)
    bounds, limits = parse_bounds(args.bounds)
    result = fit(
        law,
        table,
        columns=column_of(law, table),
        objective=objective,
        delta=args.delta,
        error=args.error and "error",
        hold_out=args.hold_out,
        fix=parse_assignments(args.fix, "--fix"),
        start=[parse_assignments([s], "--start") for s in args.start],
        starts=args.starts,
        interval=args.interval,
        bootstrap=args.bootstrap,
        cluster=args.cluster and table.own(args.cluster),
        level=args.level,
        bounds=bounds,
        limits=limits,
        tie=parse_ties(args.tie),
        seed=args.seed,
    )
    answer = result.to_dict()
    print("\n".join(map(wrapped, result.summary().split("\n"))))
    if result.held_out:
        show_rows(result.held_out["rows"], result)
    if not args.no_sensitivity:
        step(f"sensitivity {group}")
        table_of_choices = sensitivity(result)
        answer["sensitivity"] = show_sensitivity(table_of_choices)
        if args.plot:
            save_tornado(table_of_choices, Path(beside(args.plot, group)))
    if args.influence:
        step(f"influence {group}")
        answer["influence"] = show_influence(result)
    if args.predict:
        answer["predictions"] = predict_table(result, args, group)
    if args.card:
        write_text(beside(args.card, group), fit_card(result))
    if args.plot:
        save_axes(result.plot(), beside(args.plot, group))
    return answer


def show_groups(by: str, answers: dict[str, Any]) -> None:
    """The parameters of every group, one line each."""
    rows = [
        {by: name, "n": answer["n_points"], **answer["parameters"]}
        for name, answer in answers.items()
        if "parameters" in answer
    ]
    if rows:
        print(table_text(pd.DataFrame(rows)))


def parse_bounds(
    items: Sequence[str],
) -> tuple[tuple[float, float] | None, dict[str, tuple[float, float]]]:
    """["0,1", "c1=-20:20"] -> the range of the metric and those of parameters."""
    metric = None
    limits = {}
    for text in items:
        name, is_parameter, span = text.rpartition("=")
        try:
            low, high = (float(v) for v in span.split(":" if is_parameter else ","))
        except ValueError as error:
            raise ValueError(f"--bounds {text!r}: expected LOW,HIGH or NAME=LOW:HIGH") from error
        if not low < high:
            raise ValueError(f"--bounds {text!r}: LOW must be below HIGH")
        if is_parameter:
            limits[name.strip()] = low, high
        else:
            metric = low, high
    return metric, limits


def parse_ties(items: Sequence[str]) -> dict[str, str]:
    pairs = [part.split("=") for item in items for part in item.split(",")]
    for pair in pairs:
        if len(pair) != 2:
            raise ValueError(f"--tie {'='.join(pair)!r}: expected NAME=NAME")
    return {name.strip(): other.strip() for name, other in pairs}


def save_tornado(choices: pd.DataFrame, path: Path) -> None:
    """The choices that move the answer most, beside the figure of the fit."""
    name = headline(choices)
    beside = path.with_name(f"{path.stem}_tornado{path.suffix}")
    save_axes(plot_tornado(tornado(choices, name), name), str(beside))


def show_influence(result: FitResult) -> list[dict[str, Any]]:
    table = influence(result)
    print(f"  influence: the {min(SHOWN, len(table))} runs that move a parameter most, by how many")
    print("  standard errors (reach):")
    fixed = [f"d_{name}" for name in result.fixed]
    print(table_text(table.head(SHOWN).drop(columns=fixed)))
    return [{str(k): v for k, v in r.items()} for r in table.to_dict("records")]


def show_sensitivity(table: pd.DataFrame) -> list[dict[str, Any]]:
    shown = [c for c in table.columns if c not in ("group", "refused")]
    print("  sensitivity:")
    print(table_text(table[shown].rename(columns={"n_points": "n"})))
    if "refused" in table:
        for _, row in table[table["refused"].notna()].iterrows():
            print(wrapped(f"    {row['variant']}: refused, {row['refused']}"))
    # NaN: a parameter that is not part of this form
    return [{str(k): v for k, v in r.items() if v == v} for r in table.to_dict("records")]


def show_rows(rows: Sequence[dict[str, Any]], result: FitResult) -> None:
    """Rows by name with the band for a new run, how many lie in theirs, and the error."""
    covered = [row["covered"] for row in rows if row.get("covered") is not None]
    if covered:
        band = f"{result.level:.0%} band for a new run"
        print(f"    {sum(covered)} of {len(covered)} lie in their {band}, if this law is true")
    shown = []
    for row in rows[:SHOWN_ROWS]:
        low, high = row["low_new"], row["high_new"]
        unknown = low is None or high is None or np.isnan([low, high]).any()
        line = {"run": row["id"], "distance": _short(row["distance"], ".3g")}
        line |= {"value": _short(row["value"], ".5g")} if "value" in row else {}
        line["predicted"] = f"{row.get('predicted', row.get('mean')):.5g}"
        line["a new run"] = "-" if unknown else f"{low:.4g} to {high:.4g}"
        if "value" in row:
            known = row.get("covered")
            line |= {"": "-" if known is None else "hit" if known else "miss",
                     "error": _short(row["relative_error"], "+.1%")}  # fmt: skip
        shown.append(line)
    print(table_text(pd.DataFrame(shown), indent=2))
    if len(rows) > SHOWN_ROWS:
        print(f"    and {len(rows) - SHOWN_ROWS} more")
    if any(row["distance"] is not None for row in rows):
        letters = result.model.columns
        of = "N D" if {"N", "D"} <= set(letters) else result.columns[letters[0]]
        print(f"    distance: {of} over the largest fitted")


def _short(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)


def predict_table(result: FitResult, args: argparse.Namespace, group: str) -> list[dict[str, Any]]:
    """Predictions, with intervals, for the rows of another table that belong to the group."""
    other = read_table(args.predict, decimal=args.decimal)
    if group:
        parts = dict(groups_of(other, args.by))
        if group not in parts:
            print(f"  {args.predict} has no row of {args.by} = {group}")
            return []
        other = parts[group]
    wanted: dict[str, str | None] = {}
    for letter in result.model.columns:
        source = result.columns[letter]
        wanted[letter] = source if names_in(source, other.given) <= set(other.given) else None
    derive = {}
    if args.d_from and "D" in wanted:
        wanted |= {"C": result.conventions.get("C"), "N": result.conventions.get("N")}
        wanted.pop("D")
        derive = {"D": args.d_from}
    missing = [k for k, v in wanted.items() if v is None]
    if missing:
        names = ", ".join(result.columns[k] for k in missing)
        raise TableError(f"{args.predict}: needs the columns {names} of the fitted table")
    rows: RunTable = map_columns(other, wanted, derive)
    rows = positive_values(rows, [c for c in result.model.columns if c != "L"], None)
    band = result.predict(rows.frame)
    times = distances(result, {c: rows.numbers(c) for c in result.model.columns})
    out: list[dict[str, Any]] = []
    metric = result.conventions.get("metric", "metric")
    for i, name in enumerate(rows.ids):
        row: dict[str, Any] = {"id": name}
        row |= {c: float(rows.frame[c].iloc[i]) for c in result.model.columns}
        row |= {str(c): float(band[c].iloc[i]) for c in band}
        if metric in rows.frame:
            row["value"] = value = float(rows.frame[metric].iloc[i])
            row["relative_error"] = row["mean"] / value - 1 if value else None
            if not np.isnan(row["low_new"]):
                row["covered"] = bool(row["low_new"] <= value <= row["high_new"])
        row["distance"] = None if times is None else float(times[i])
        out.append(row)
    print(f"  predictions for {len(rows)} rows of {args.predict}:")
    if out:
        show_rows(out, result)
    for dropped in rows.dropped[len(other.dropped) :]:
        print(wrapped(f"    {dropped}"))
    return out
