"""fmscale-analysis compare: several laws on equal terms."""

from __future__ import annotations

import argparse

import pandas as pd

from analysis.cli.options import (
    add_json_option,
    add_objective_options,
    add_table_options,
    column_of,
    parse_laws,
    read_mapped,
    write_json,
)
from analysis.cli.screen import progress
from analysis.laws import get_law
from analysis.select import positive_values
from analysis.selection import compare, rolling_origin

EXAMPLE = (
    "fmscale-analysis compare points.csv --laws joint,joint_tied,kaplan "
    "--n params --d tokens --c flops --loss loss"
)


def add(parsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = parsers.add_parser(
        "compare", help="several laws on equal terms", epilog=f"example: {EXAMPLE}"
    )
    add_table_options(parser)
    parser.add_argument("--laws", required=True, help="names, separated by commas")
    add_objective_options(parser)
    parser.add_argument("--cut", type=float, help="largest compute that is fitted")
    parser.add_argument(
        "--backtest",
        type=int,
        default=0,
        metavar="ORIGINS",
        help="also fit below a rising cut and predict what lies above, this many times",
    )
    add_json_option(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    table = read_mapped(args)
    laws = parse_laws(args.laws)
    columns: dict[str, str] = {}
    for name in laws:
        columns |= column_of(get_law(name), table)
    table = positive_values(table, list(dict.fromkeys(columns.values())), "metric")
    compute = "C" if "C" in table.conventions else columns.get("x", next(iter(columns.values())))
    with progress("comparing"):
        answer = compare(
            laws,
            table,
            columns=columns,
            objective=args.objective,
            delta=args.delta,
            compute=compute,
            cut=args.cut,
            seed=args.seed,
        )
    print(answer.to_string(index=False, float_format=lambda v: f"{v:.5g}", na_rep="-"))
    backtest = None
    if args.backtest:
        backtest = pd.concat(
            [
                rolling_origin(
                    name, table, compute=compute, origins=args.backtest, columns=columns,
                    objective=args.objective or "log_least_squares", delta=args.delta,
                    seed=args.seed,
                ).assign(law=name)
                for name in laws
            ],
            ignore_index=True,
        )  # fmt: skip
        print("backtest: fitted up to the cut, scored beyond it")
        print(backtest.to_string(index=False, float_format=lambda v: f"{v:.5g}", na_rep="-"))
    for dropped in table.dropped:
        print(dropped)
    write_json(
        args.json,
        {
            "laws": answer.to_dict("records"),
            "backtest": None if backtest is None else backtest.to_dict("records"),
            "dropped": [d.to_dict() for d in table.dropped],
        },
    )
    return 0
