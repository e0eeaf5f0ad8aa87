"""fmscale-analysis isoflop: the best size at each budget, and two other ways to the same law."""

from __future__ import annotations

import argparse
from dataclasses import replace
from typing import Any

from analysis.cli.options import (
    add_shared,
    add_table_options,
    beside,
    groups_of,
    read_mapped,
    write_json,
)
from analysis.cli.screen import progress
from analysis.optima.compute_optimal import compare_approaches
from analysis.optima.isoflop import METHODS, IsoFlop, PowerOfCompute, fit_isoflop
from analysis.plot.isoflop import plot_frontier, plot_isoflop
from analysis.plot.style import save_axes
from analysis.tables.envelope import RULES
from analysis.tables.filters import final_runs, positive_values
from analysis.tables.pooling import check_agreement
from analysis.tables.table import RunTable, TableError
from analysis.versions import versions

EXAMPLE = (
    "fmscale-analysis isoflop points.csv --n params --d tokens --c budget --loss loss "
    "--by experiment --method akima --json isoflop.json"
)


def add_options(parser: argparse.ArgumentParser) -> None:
    option = parser.add_argument
    add_table_options(parser)
    option("--method", choices=METHODS, default="parabola")
    option("--bootstrap", type=int, default=400, metavar="REDRAWS")
    option("--tolerance", type=float, default=0.05,
           help="budgets within this relative distance are one")  # fmt: skip
    option("--three", choices=RULES, metavar="RULE",
           help="also approaches 1 (with this envelope rule) and 3, side by side")  # fmt: skip
    add_shared(parser, "seed", "json", by="one answer for each value of this column",
               plot="curves and minima, and the frontier beside it")  # fmt: skip


def run(args: argparse.Namespace) -> int:
    table = read_mapped(args, with_envelope=False)
    if "N" not in table.frame or "C" not in table.frame:
        raise TableError("isoflop needs --n and --c (or --c-from 6nd)")
    table = positive_values(table, [c for c in ("N", "C", "D") if c in table.conventions], "metric")
    if len(table) == 0:
        raise TableError(f"no usable row is left. {table.account()}")
    groups = groups_of(table, args.by)
    dropped = groups[0][1].dropped if groups else table.dropped
    answers: dict[str, Any] = {}
    with progress("isoflop") as step:
        for name, part in groups:
            part = final_runs(check_agreement(part, "metric", ["N", "C"]))
            step(name)
            found = fit_isoflop(
                part, "metric", args.method, args.bootstrap, args.seed, args.tolerance
            )
            found = replace(found, warnings=(*part.warnings, *found.warnings))
            answers[name] = {**found.to_dict(), "n_points": len(part)}
            show(name, found)
            if args.plot:
                title = name if args.by else ""
                drawn = plot_isoflop(found, title=title, columns=part.conventions)
                save_axes(drawn, beside(args.plot, title))
                if found.n_opt is not None:
                    path = beside(beside(args.plot, title), "frontier")
                    save_axes(plot_frontier(found), path)
            if args.three:
                answers[name]["three"] = three(part, args.three, args.seed)
    for reason in dropped:
        print(reason)
    answer: dict[str, Any] = {
        "method": args.method,
        "by": args.by,
        "experiments": answers,
        "dropped": [d.to_dict() for d in dropped],
        "warnings": [f"{k}: {w}" for k, v in answers.items() for w in v["warnings"]],
        "versions": versions(),
    }
    if not args.by:
        answer |= answers["all"]
    write_json(args.json, answer)
    return 0


def show(name: str, found: IsoFlop) -> None:
    used = sum(not m.reason for m in found.minima)
    print(f"{name}: {found.method}, {used} of {len(found.minima)} budgets bracketed")
    for m in found.minima:
        if not m.reason:
            places = f"N* = {m.n_opt:.4g}, D* = {m.d_opt:.4g}"
            print(f"  C = {m.budget:.3g}: {places}, loss {m.loss:.4f}")
    for letter, law in (("N", found.n_opt), ("D", found.d_opt)):
        if law is not None:
            kind = "" if law.interval is None else "  95% confidence, redrawn noise of the losses"
            print(f"  {letter}* ~ C^{law}{kind}")
    for warning in found.warnings:
        print(f"  warning: {warning}")


def three(table: RunTable, rule: str, seed: int) -> dict[str, Any]:
    """The three approaches as plain data, printed."""
    if "D" not in table.frame:
        frame = table.frame
        table = table.with_frame(frame.assign(D=frame["C"] / (6 * frame["N"])))
    found = compare_approaches(table, "metric", rule, seed=seed)
    rows = []
    for r in found["approaches"]:
        row = {k: v for k, v in r.items() if k in ("approach", "points", "reason")}
        for key in ("a", "b"):
            if isinstance(r.get(key), PowerOfCompute):
                row[key] = r[key].exponent
                row[f"{key}_interval"] = r[key].interval
        rows.append(row)
        text = f"N* ~ C^{r['a']}" if "a" in r else r.get("reason", "")
        print(f"  approach {r['approach']}: {text}")
    verdict = {
        True: "agree within their intervals",
        False: "do NOT agree",
        None: "cannot be compared",
    }
    print(f"  the approaches {verdict[found['consistent']]}")
    return {"approaches": rows, "consistent": found["consistent"]}
