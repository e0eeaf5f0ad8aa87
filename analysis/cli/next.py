"""fmscale-analysis next: which runs would narrow a forecast's interval most for their price.

Proposes runs at sizes and data budgets of the ladder, between them, a step below and up to three
beyond, with the interval to be expected after each. Branches of a run store's trunks are priced at
what they add. It ends where no run that can be afforded narrows the interval by 1 %. Ask again
after a few runs: what they show changes the plan.
"""

from __future__ import annotations

import argparse

import numpy as np

from analysis.cli.candidates import choose
from analysis.cli.ladder import Ground, can_plan, planned_run, stand_on
from analysis.cli.options import add_shared, add_table_options, write_json
from analysis.cli.screen import plan_lines, wrapped
from analysis.forecasting.decision import told
from analysis.forecasting.optimum import best_place
from analysis.forecasting.proposals import Proposals, propose
from analysis.laws.law import Array
from analysis.tables.number_formats import parse_unit
from analysis.tables.table import RunTable

EXAMPLE = (
    "fmscale-analysis next runs/my_study --flops 1e21 --budget 1e18; "
    "fmscale-analysis next runs.csv --n params --d tokens --c flops --loss loss --flops 1e21 "
    "--budget 1e18; fmscale-analysis next runs.csv --law my_laws:Experts --x experts,params "
    "--candidates grid.csv --cost flops --targets large.csv --loss loss --budget 1e20"
)


def add_options(parser: argparse.ArgumentParser) -> None:
    add_table_options(parser)
    parser.add_argument("--flops", help="the target: training FLOPs, 1e24, best allocated")
    parser.add_argument(
        "--budget", help="FLOPs that the proposed runs may add (a tenth of the target's)"
    )
    own = parser.add_argument_group(
        "a law of other variables",
        "Chooses among candidates for the smallest error of one law at the targets. --x names the "
        "columns of the law's variables in their order (a,b,c; default: as the law names them).",
    )
    own.add_argument("--law", metavar="LAW", help="a law's name, or MODULE:CLASS of your own")
    own.add_argument("--candidates", metavar="TABLE", help="runs that could be trained")
    own.add_argument("--cost", metavar="COLUMN", help="their cost; --budget is in its unit")
    own.add_argument("--targets", metavar="TABLE", help="where the law shall predict")
    add_shared(parser, "cluster", "level", "json")
    parser.set_defaults(hold_out=None)


def run(args: argparse.Namespace) -> int:
    pool = args.candidates, args.cost, args.targets
    if args.law is not None:
        if None in (*pool, args.budget):
            raise ValueError(
                "--law needs --candidates TABLE (runs that could be trained), --cost COLUMN "
                "(theirs), --targets TABLE (where the law shall predict) and --budget"
            )
        return choose(args, positive("--budget", args.budget))
    if pool != (None, None, None):
        raise ValueError("--candidates, --cost and --targets go with --law: name the law")
    planned = planned_run(args)
    if (planned is None) == (args.flops is None):
        raise ValueError("name one target: --flops 1e21, or one run by numbers --n 7e9 --d 140e9")
    target = None if args.flops is None else positive("--flops", args.flops)
    budget = None if args.budget is None else positive("--budget", args.budget)
    if not 0 < args.level < 1:
        raise ValueError(f"level={args.level}: between 0 and 1")
    ground = stand_on(args)
    if not can_plan(ground):
        raise ValueError("--x with --c: the price of a run is that of its --x; leave out --c")
    x = place_of(ground, target, planned)
    found = propose(
        ground.forecaster, ground.rule, ground.table, x, ground.size(x), budget, args.level
    )
    answer = {
        "source": ground.table.source, "columns": dict(ground.table.conventions),
        "n_points": len(ground.table), "level": args.level, **found.to_dict(),
        "warnings": list(ground.table.warnings),
    }  # fmt: skip
    show(found, ground.table)
    write_json(args.json, answer)
    return 0


def positive(option: str, text: str) -> float:
    value = parse_unit(text)
    if not (np.isfinite(value) and value > 0):
        raise ValueError(f"{option} {text}: a positive number")
    return value


def place_of(
    ground: Ground, flops: float | None, planned: tuple[float, float] | None
) -> Array:  # fmt: skip
    """Logarithms (k, 1) of the run that is to be forecast."""
    if planned is not None:
        if ground.rule is None:
            raise ValueError("--n and --d by number: one planned run of a law of N and D")
        return np.log([[planned[0]], [planned[1]]])
    assert flops is not None
    if ground.rule is None:
        return np.log([[flops]])
    return best_place(ground.forecaster, flops, ground.rule)[:, None]


def show(found: Proposals, table: RunTable) -> None:
    row, metric = found.target, table.conventions["metric"]
    print(wrapped(
        f"the target, {row['distance']:.3g} times the largest run: {metric} {told(row)}"
    ))  # fmt: skip
    for line in [*plan_lines(found), *(wrapped(f"  warning: {text}") for text in table.warnings)]:
        print(line)
