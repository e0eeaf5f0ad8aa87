"""fmscale-analysis curves: which size is best at each compute, from whole training curves."""

from __future__ import annotations

import argparse
from pathlib import Path

from analysis.cli.options import add_shared, add_table_options, read_mapped, write_json
from analysis.cli.screen import progress
from analysis.optima.training_curves import approach_1_curves
from analysis.plot.curves import plot_training_curves
from analysis.plot.style import save_axes
from analysis.report.study import COMPUTE, PARAMETERS
from analysis.tables.files import map_columns
from analysis.tables.filters import positive_values
from analysis.tables.number_formats import parse_unit
from analysis.tables.run_store import is_store, load_curves
from analysis.tables.table import RunTable, TableError
from analysis.tables.wandb_source import unfold_chart

EXAMPLE = "fmscale-analysis curves runs/gpt_isoflop --plot curves.png"


def add_options(parser: argparse.ArgumentParser) -> None:
    option = parser.add_argument
    add_table_options(parser)
    option("--run", dest="run_column", metavar="COLUMN", help="the run a row of a table belongs to")
    option("--sizes", default="", metavar="RUN=70M,...",
           help="sizes of the runs in the export of a W&B chart (one column a run)")  # fmt: skip
    option("--bootstrap", type=int, default=400, metavar="REDRAWS")
    add_shared(parser, "seed", "json", plot="curves and their envelope")


def run(args: argparse.Namespace) -> int:
    table, metric, name = curve_rows(args)
    table = positive_values(table, ["N", "D", "C", metric], metric)
    with progress("reading the curves") as step:
        step(args.table)
        found = approach_1_curves(table, metric, name, args.bootstrap, args.seed)
    curves = found["curves"]
    print(f"{len(curves.names)} curves of {len(set(curves.n.tolist()))} sizes ({metric})")
    for letter, key in (("N", "a"), ("D", "b")):
        print(f"  {letter}* ~ C^{found[key]}")
    for dropped in table.dropped:
        print(dropped)
    if args.plot:
        save_axes(plot_training_curves(curves, metric=metric), args.plot)
    c, n, d, loss = curves.best()
    write_json(
        args.json,
        {
            "approach": found["approach"],
            "a": found["a"].exponent, "a_interval": found["a"].interval,
            "b": found["b"].exponent, "b_interval": found["b"].interval,
            "envelope": {"C": c.tolist(), "N": n.tolist(), "D": d.tolist(), metric: loss.tolist()},
            "dropped": [x.to_dict() for x in table.dropped],
        },
    )  # fmt: skip
    return 0


def curve_rows(args: argparse.Namespace) -> tuple[RunTable, str, str]:
    """One row a logged step; the metric's column; the column that names the run."""
    if is_store(Path(args.table)):
        metric = args.metric or "train_loss"
        table = load_curves(args.table, metric)
        columns = {"N": args.n or PARAMETERS, "D": args.d or "n_seen", "C": args.c or COMPUTE}
        return map_columns(table, columns), metric, "trunk_id"
    sizes = dict(part.rpartition("=")[::2] for part in args.sizes.split(",") if part)
    given = {name.strip(): parse_unit(size) for name, size in sizes.items()}

    def unfold(table: RunTable) -> RunTable:
        chart = unfold_chart(table, given)
        if chart is not table:
            args.run_column, args.n = args.run_column or "run", args.n or "size"
        elif not args.run_column:
            raise TableError("name the column that tells the runs apart: --run COLUMN")
        return chart

    table = read_mapped(args, with_envelope=False, prepare=unfold)
    missing = [letter for letter in "NDC" if letter not in table.conventions]
    if missing:
        raise TableError(f"curves needs {', '.join('--' + m.lower() for m in missing)}")
    return table, "metric", args.run_column
