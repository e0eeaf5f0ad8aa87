"""fmscale-analysis compare: several laws on equal terms."""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np
import pandas as pd

from analysis.cli.options import (
    add_objective_options,
    add_shared,
    add_table_options,
    column_of,
    parse_laws,
    read_mapped,
    write_json,
)
from analysis.cli.screen import progress, table_text, wrapped
from analysis.compare import FORECAST, compare, rolling_origin
from analysis.laws import get_law
from analysis.tables.filters import positive_values

# Column of the comparison, heading on the screen, factor.
COLUMNS = (
    ("delta_aicc", "dAICc", 1.0),
    ("residual_sd", "scatter %", 100.0),
    ("leave_one_size_out", "size out %", 100.0),
    ("error_2x", "2x %", 100.0),
    ("error_4x", "4x %", 100.0),
    ("error_10x", "10x %", 100.0),
)
EXAMPLE = (
    "fmscale-analysis compare points.csv --laws joint,joint_tied,kaplan "
    "--n params --d tokens --c flops --loss loss"
)


def add_options(parser: argparse.ArgumentParser) -> None:
    option = parser.add_argument
    add_table_options(parser)
    option("--laws", required=True, help="separated by commas; MODULE:CLASS for your own")
    add_objective_options(parser)
    option("--cut", type=float, help="largest compute that is fitted")
    option("--backtest", type=int, default=0, metavar="ORIGINS",
           help="also fit and forecast below a rising cut, score what lies above")  # fmt: skip
    add_shared(parser, "json")


def run(args: argparse.Namespace) -> int:
    table = read_mapped(args)
    laws = parse_laws(args.laws)
    columns: dict[str, str] = {}
    for name in laws:
        columns |= column_of(get_law(name), table)
    table = positive_values(table, list(dict.fromkeys(columns.values())), "metric")
    compute = "C" if "C" in table.conventions else columns.get("x", next(iter(columns.values())))
    options: dict[str, Any] = {
        "columns": columns, "objective": args.objective or "log_least_squares",
        "delta": args.delta, "compute": compute, "seed": args.seed,
    }  # fmt: skip
    with progress("comparing"):
        answer = compare(laws, table, cut=args.cut, **options)
    show(answer)
    backtest = None
    if args.backtest:
        with progress("backtest"):
            parts = {
                name: rolling_origin(name, table, origins=args.backtest, **options)
                for name in (FORECAST, *laws)
            }
        rows = [part.assign(law=name) for name, part in parts.items()]
        backtest = pd.concat(rows, ignore_index=True)
        show_backtest(backtest)
    for dropped in table.dropped:
        print(wrapped(str(dropped)))
    write_json(
        args.json,
        {
            "laws": answer.to_dict("records"),
            "backtest": None if backtest is None else backtest.to_dict("records"),
            "dropped": [d.to_dict() for d in table.dropped],
        },
    )
    return 0


def show(answer: pd.DataFrame) -> None:
    """Laws, best AICc first; errors beyond the cut in percent."""
    shown = answer[["law", "k"]].copy()
    for column, name, factor in COLUMNS:
        if column in answer:
            shown[name] = factor * answer[column].astype(float)
    if "dAICc" in shown:
        shown = shown.sort_values("dAICc", kind="stable")
    print(table_text(shown, indent=2, digits=3))
    if "cut" in answer and answer["cut"].notna().any():
        row = answer[answer["cut"].notna()].iloc[0]
        print(f"  2x, 4x, 10x: mean |error| in % of the runs up to that far beyond C = "
              f"{row['cut']:.3g}\n  ({int(row['n_beyond'])} runs), fitted below it")  # fmt: skip
    for _, row in answer[answer["refused"].notna()].iterrows():
        print(wrapped(f"  {row['law']}: refused, {row['refused']}"))


def show_backtest(backtest: pd.DataFrame) -> None:
    """What each law, and all laws combined, would have said of runs beyond a rising cut."""
    rows = backtest[backtest["n_beyond"] > 0].to_dict("records")
    shown = [
        {
            "law": row["law"], "fitted": row["n_fit"], "up to": f"{row['cut']:.3g}",
            "distance": f"{row['distance']:.3g}",
            "hits": f"{row['hits']:.0f} of {row['n_band']:.0f}",
            "error": f"{row['mean_error']:.1%}", "bias": f"{np.expm1(row['signed_error']):+.1%}",
            "interval score": "-" if pd.isna(score := row["interval_score"]) else f"{score:.3g}",
        }
        for row in rows if not np.isnan(row.get("mean_error", np.nan))
    ]  # fmt: skip
    print(wrapped(
        "backtest: fitted up to a cut, every run beyond it predicted. Hits lie in their 95% "
        "interval for a new run (a law's: if the law is true); distance is the farthest run's, in "
        "times the cut"
    ))  # fmt: skip
    if shown:
        print(table_text(pd.DataFrame(shown), indent=2))
    for row in rows:
        if isinstance(row.get("refused"), str):
            print(wrapped(f"  {row['law']} up to {row['cut']:.3g}: refused, {row['refused']}"))
