"""fmscale-analysis adaptation: the ways to adapt a CLIP, compared."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from analysis.cli.options import add_shared, add_source_options, write_figures, write_json
from analysis.plot.style import short_number
from analysis.tables.files import read_table
from analysis.tables.filters import final_runs
from analysis.tables.table import TableError
from analysis.transfer.clip import (
    accuracies,
    agreement,
    bounded,
    equivalences,
    interpolation,
    learning_order,
    longest_runs,
    median_and_mean,
)

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

EXAMPLE = "fmscale-analysis adaptation runs/clip_adapt --out reports/clip_adapt"
WAYS = ("zero_shot", "probe", "knn", "few_shot_1", "few_shot_16")


def add_options(parser: argparse.ArgumentParser) -> None:
    add_source_options(parser)
    parser.add_argument("--run", dest="run_id", help="run to look at (default: most compute)")
    add_shared(parser, "out", "json")


def run(args: argparse.Namespace) -> int:
    table = read_table(args.table, args.keys, args.decimal)
    runs = (final_runs(table) if "schema_version" in table.frame else table).frame
    for column in ("model", "n_samples", "flops", "n_params_total"):
        if column not in runs:
            raise TableError(f"{args.table} has no column {column}; give runs of CLIP")
    chosen = _choose(runs, args.run_id)
    order = learning_order(runs)
    result: dict[str, Any] = {"run_id": str(chosen["run_id"])}
    _print_tasks(chosen)
    print("half learned, in samples seen, at the largest size:")
    for task, n_samples, censored in order.itertuples(index=False):
        print(f"  {task:12} {bounded(short_number(n_samples), censored)}")
    result["learning_order"] = order.to_dict("records")
    figures: dict[str, Callable[[], Figure]] = _figures_of(runs, chosen)
    if "few_shot" in figures:
        found = equivalences(chosen)
        median, mean = median_and_mean(found)
        print(f"zero-shot is worth a probe on K examples per class: median {median}, mean {mean}")
        result["few_shot_equivalence"] = {e.task: {"k": e.k, "censored": e.censored} for e in found}
    if "agreement" in figures:
        both = agreement(chosen)
        r = "" if both.r is None else f"r = {both.r:.2f}, "
        print(f"zero-shot against probe: {r}{both.n_within} of {len(both.tasks)} within 3 points")
        result["agreement"] = {"r": both.r, "n_within": both.n_within, "n_tasks": len(both.tasks)}
    if "interpolation" in figures:
        result["interpolation"] = _print_forgetting(runs)
    write_figures(args.out, figures)
    write_json(args.json, result)
    return 0


def _choose(runs: pd.DataFrame, run_id: str | None) -> pd.Series[Any]:
    if run_id is None:
        return runs.sort_values("flops").iloc[-1]
    own = runs[runs["run_id"].str.startswith(run_id)]
    if len(own) != 1:
        raise TableError(f"--run {run_id}: {len(own)} runs begin so; give one id or its beginning")
    return own.iloc[0]


def _figures_of(runs: pd.DataFrame, chosen: pd.Series[Any]) -> dict[str, Callable[[], Figure]]:
    """The figures that the columns allow."""
    from analysis.plot import adaptation as plot

    figures: dict[str, Callable[[], Figure]] = {
        "errors": lambda: plot.plot_errors(runs),
        "learning_order": lambda: plot.plot_learning_order(runs),
    }
    if any(str(c).startswith("few_shot_1_") for c in runs):
        figures["few_shot"] = lambda: plot.plot_few_shot(chosen)
    if any(str(c).startswith("probe_") for c in runs):
        figures["agreement"] = lambda: plot.plot_agreement(chosen)
    if interpolation(chosen):
        figures["interpolation"] = lambda: plot.plot_interpolation(runs)
    return figures


def _print_tasks(chosen: pd.Series[Any]) -> None:
    frame = chosen.to_frame().T
    names = list(dict.fromkeys(
        task for way in ("zero_shot", "probe") if f"{way}_error" in chosen
        for task in accuracies(frame, way)
    ))  # fmt: skip
    ways = [way for way in WAYS if any(f"{way}_{task}_accuracy" in chosen for task in names)]
    print(f"accuracy of {chosen['run_id']}")
    from rich.console import Console
    from rich.table import Table

    table = Table()
    for heading in ("task", *ways):
        table.add_column(heading, justify="left" if heading == "task" else "right")
    for task in names:
        values = [chosen.get(f"{way}_{task}_accuracy") for way in ways]
        table.add_row(str(task), *("" if v is None or v != v else f"{v:.3f}" for v in values))
    Console().print(table)


def _print_forgetting(runs: pd.DataFrame) -> dict[str, Any]:
    """Generality lost by fine-tuning, and by the half-way mixture, for each size."""
    found: dict[str, Any] = {}
    for _, row in longest_runs(runs).iterrows():
        for task, curve in interpolation(row).items():
            if "others" not in curve:
                continue
            first, last = curve.iloc[0], curve.iloc[-1]
            middle = curve.iloc[(curve["alpha"] - 0.5).abs().argmin()]
            print(
                f"{row['model']}: fine-tuned on {task} {first['task']:.3f} -> {last['task']:.3f}, "
                f"others {first['others']:.3f} -> {last['others']:.3f}; mixed at "
                f"{middle['alpha']:g}: {middle['task']:.3f} and {middle['others']:.3f}"
            )
            found.setdefault(str(row["model"]), {})[task] = curve.to_dict("records")
    return found
