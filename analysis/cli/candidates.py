"""`fmscale-analysis next --law`: which of given candidates to train, for a law of any variables."""

from __future__ import annotations

import argparse
from typing import Any

import pandas as pd

from analysis.cli.options import read_mapped, write_json
from analysis.cli.screen import table_text, wrapped
from analysis.forecasting.choice import Pool, choose_runs, fit_law
from analysis.forecasting.next_runs import WORTH
from analysis.laws import get_law
from analysis.tables.files import read_table
from analysis.tables.filters import positive_values
from analysis.tables.table import RunTable, TableError


def choose(args: argparse.Namespace, budget: float) -> int:
    """Answer `next` with --law; print the runs and write --json."""
    law = get_law(args.law)
    names = args.x.split(",") if args.x else list(law.columns)
    if len(names) != len(law.columns):
        raise ValueError(f"--x {args.x}: law {law.name} is of {', '.join(law.columns)}, in order")
    letters = dict(zip(law.columns, names, strict=True))
    args.x = None
    runs = _finite(positive_values(read_mapped(args), ["metric"] * law.positive, "metric"), names)
    given = read_table(args.candidates, args.keys, args.decimal)
    could = _finite(positive_values(given, [args.cost], None), names)
    targets = _finite(read_table(args.targets, args.keys, args.decimal), names)
    tables = runs, could, targets
    seen, places, wanted = (
        {c: table.numbers(name) for c, name in letters.items()} for table in tables
    )
    fits = fit_law(law, seen, runs.numbers("metric"))
    pool = Pool(places, could.numbers(args.cost), wanted)
    choice = choose_runs(law, fits, seen, pool, budget, worth=WORTH)
    chosen = [
        {
            "id": could.ids[i], **{name: float(places[c][i]) for c, name in letters.items()},
            "price": float(pool.price[i]), "narrowing": choice.spread[k],
        }
        for k, i in enumerate(choice.runs)
    ]  # fmt: skip
    values = {name: float(v[0]) for name, v in law.decode(fits.theta[:1]).items()}
    answer = {
        "source": runs.source, "n_points": len(runs), "law": law.name, "parameters": values,
        "targets": len(targets), "budget": budget, "price": choice.price, "runs": chosen,
        "reason": choice.reason,
        "warnings": [str(w) for t in tables for w in (*t.dropped, *t.warnings)],
    }  # fmt: skip
    show(answer)
    write_json(args.json, answer)
    return 0


def _finite(table: RunTable, names: list[str]) -> RunTable:
    for name in names:
        table = positive_values(table, [], name)
    if not len(table):
        raise TableError(f"{table.source}: no usable row is left. {table.account()}")
    return table


def show(answer: dict[str, Any]) -> None:
    values = ", ".join(f"{name} = {value:.4g}" for name, value in answer["parameters"].items())
    print(wrapped(f"{answer['law']} fitted to {answer['n_points']} runs: {values}"))
    shown = [
        {**{k: f"{v:.4g}" if isinstance(v, float) else v for k, v in run.items()
            if k != "narrowing"}, "of now": f"{run['narrowing']:.0%}"}
        for run in answer["runs"]
    ]  # fmt: skip
    if shown:
        print("  spread of the law at the targets, expected after each run:")
        print(table_text(pd.DataFrame(shown), indent=2))
        print(f"  together they cost {answer['price']:.3g} of {answer['budget']:.3g}")
    print(f"  {'then' if shown else 'none'}: {answer['reason']}")
    for warning in answer["warnings"]:
        print(wrapped(f"  warning: {warning}"))
