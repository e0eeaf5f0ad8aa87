"""fmscale-analysis table: run folders or any table as one clean table, with what was dropped."""

from __future__ import annotations

import argparse
from pathlib import Path

from analysis.cli.options import add_shared, add_source_options
from analysis.outputs import replacing
from analysis.tables.delimited import without_formulas
from analysis.tables.files import read_table
from analysis.tables.filters import final_runs, where
from analysis.tables.run_store import NESTED
from analysis.tables.table import TableError

EXAMPLE = "fmscale-analysis table runs/gpt_demo --out runs.csv"
SHOWN = (
    "run_id", "model", "seed", "n_params_total", "n_tokens", "n_samples", "flops", "val_loss",
    "zero_shot_error", "status",
)  # fmt: skip


def add_options(parser: argparse.ArgumentParser) -> None:
    add_source_options(parser)
    parser.add_argument("--columns", help="columns to print, separated by commas")
    parser.add_argument("--out", metavar="FILE", help="write .csv, .jsonl or .parquet")
    add_shared(parser, "where", all_runs="keep unfinished and unannealed runs")


def run(args: argparse.Namespace) -> int:
    table = read_table(args.table, args.keys, args.decimal)
    if not args.all_runs:
        table = final_runs(table)
    for query in args.where:
        table = where(table, query)
    frame = table.frame.drop(columns=[c for c in NESTED if c in table.frame])
    if args.out:
        path = Path(args.out)
        if path.suffix not in (".csv", ".jsonl", ".parquet"):
            raise TableError(f"--out {args.out}: use .csv, .jsonl or .parquet")
        with replacing(path) as temporary:
            if path.suffix == ".csv":
                without_formulas(frame).to_csv(temporary, index=False)
            elif path.suffix == ".jsonl":
                frame.to_json(temporary, orient="records", lines=True, double_precision=15)
            else:
                frame.to_parquet(temporary, index=False)
    columns = args.columns.split(",") if args.columns else [c for c in SHOWN if c in frame]
    missing = [c for c in columns if c not in frame]
    if missing:
        raise TableError(f"--columns: no column {', '.join(missing)}")
    shown = frame[columns] if columns else frame
    print(shown.to_string(index=False, max_rows=60, float_format=lambda v: f"{v:.6g}"))
    print(f"{len(table)} rows; {table.account()}")
    for warning in table.warnings:
        print(f"warning: {warning}")
    return 0
