"""fmscale-analysis language: how language models of growing size do on what was measured."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from analysis.cli.options import add_shared, add_source_options, write_figures, write_json
from analysis.plot.style import short_number
from analysis.tables.files import read_table
from analysis.tables.filters import final_runs
from analysis.tables.table import TableError
from analysis.transfer.gpt import (
    all_shot_columns,
    calibration_tables,
    detector_law,
    fine_tuned_tasks,
    longest_runs,
    positions,
    shot_columns,
)

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

EXAMPLE = "fmscale-analysis language runs/gpt_transfer --out reports/gpt_transfer"


def add_options(parser: argparse.ArgumentParser) -> None:
    add_source_options(parser)
    parser.add_argument("--task", default="mean", help="few-shot task to draw (mean: of all)")
    add_shared(parser, "out", "json", all_runs="also runs that are not annealed, or imported")


def run(args: argparse.Namespace) -> int:
    table = read_table(args.table, args.keys, args.decimal)
    whole = args.all_runs or "schema_version" not in table.frame
    runs = (table if whole else final_runs(table)).frame
    for column in ("model", "n_params_total"):
        if column not in runs:
            raise TableError(f"{args.table} has no column {column}; give runs of GPT")
    if runs.empty:
        raise TableError(f"{args.table} has no annealed end point; --all-runs takes the others")
    figures = _figures_of(runs, args.task, Path(args.table))
    if not figures:
        raise TableError(
            f"{args.table} holds nothing to compare; measure runs by: fmscale evaluate STUDY "
            "evaluation=in_context (or detector, fine_tuning, answers, position)"
        )
    result = _print(runs, args.task, figures)
    write_figures(args.out, figures)
    write_json(args.json, result)
    return 0


def _figures_of(runs: pd.DataFrame, task: str, source: Path) -> dict[str, Callable[[], Figure]]:
    """The figures that columns and tables allow."""
    from analysis.plot import language as plot

    figures: dict[str, Callable[[], Figure]] = {}
    if all_shot_columns(runs):
        shot_columns(runs, task)  # an unknown task is an error here
        figures["few_shot"] = lambda: plot.plot_few_shot(runs, task)
    if "detector_accuracy" in runs:
        figures["detector"] = lambda: plot.plot_detector(runs)
    if fine_tuned_tasks(runs):
        figures["fine_tuning"] = lambda: plot.plot_fine_tuning(runs)
    if positions(runs):
        figures["positions"] = lambda: plot.plot_positions(runs)
    if source.is_dir() and "run_id" in runs:
        ordered = runs.sort_values(["n_params_total", "run_id"])
        names = dict(zip(ordered["run_id"], ordered["run_id"].str.rsplit("-", n=1).str[0],
                         strict=True))  # fmt: skip
        for name, curves in calibration_tables(source).items():
            own = {run_id: curves[run_id] for run_id in names if run_id in curves}
            if own:
                figures[f"calibration_{name}"] = (
                    lambda own=own: plot.plot_calibration(own, names)  # type: ignore[misc]
                )
    return figures


def _print(
    runs: pd.DataFrame, task: str, figures: dict[str, Callable[[], Figure]]
) -> dict[str, Any]:
    """Tables of the longest run of each size; the same as an answer for --json."""
    sizes = longest_runs(runs)
    columns: list[str] = []
    if "few_shot" in figures:
        columns += [p.column for p in shot_columns(runs, task)]
    if "detector" in figures:
        columns += ["detector_accuracy", "detector_accuracy_low", "detector_accuracy_high"]
    for name in fine_tuned_tasks(runs):
        columns += [str(c) for c in runs if str(c).startswith(f"finetune_{name}_")
                    and str(c).endswith(("_accuracy", "_chance", "_forgotten"))]  # fmt: skip
    columns += [f"val_loss_at_{k}" for k in positions(runs)]
    from rich.console import Console
    from rich.table import Table

    table = Table(title="longest run of each size", title_justify="left")
    table.add_column("metric", overflow="fold")
    for _, row in sizes.iterrows():
        table.add_column(f"{row['model']}\n{short_number(row['n_params_total'])}", justify="right")
    for column in columns:
        table.add_row(column, *("-" if v != v else f"{v:.3f}" for v in sizes[column]))
    Console().print(table)
    result: dict[str, Any] = {
        "sizes": sizes[["model", "n_params_total", *columns]].to_dict("records")
    }
    if "detector" in figures:
        law = detector_law(sizes)
        if law is None:
            print("detector: too few sizes for a law with a band")
        else:
            print(f"detector: {law.formula()}, exponent {law.interval_text('c')}")
            result["detector"] = law.to_dict()
    return result
