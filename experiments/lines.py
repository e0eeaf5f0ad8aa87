"""Metrics of a study's results.csv against one column, one line a group: figure.png.

For studies that compare recipes rather than fit a law: `python -m experiments.lines clip_towers
--x flops --y val_loss zero_shot_error --by model`.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pandas as pd

from analysis.plot.style import axis_label, draw_floor, new_figure, short_number, style

FOLDER = Path(__file__).parent
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#444444", "#999999")
MARKERS = "osD^vP*X"


def draw(runs: pd.DataFrame, x: str, metrics: list[str], by: str, path: Path) -> None:
    """One panel a metric, with its floor where it has one; repeats (seeds) are averaged and drawn
    as points."""
    with style():
        figure, panels = new_figure(4.6 * len(metrics) + 1.8, 4.0, ncols=len(metrics))
        panels = np.atleast_1d(panels)
        for ax, metric in zip(panels, metrics, strict=True):
            for k, (name, group) in enumerate(runs.groupby(by, sort=True)):
                color, marker = COLORS[k % len(COLORS)], MARKERS[k % len(MARKERS)]
                mean = group.groupby(x)[metric].mean()
                ax.plot(mean.index, mean, color=color, marker=marker, ms=5, lw=1.4, label=str(name))
                if len(mean) < len(group):
                    ax.scatter(group[x], group[metric], s=9, color=color, alpha=0.5)
            if f"{metric}_floor" in runs:
                for floor in runs[f"{metric}_floor"].dropna().unique():
                    draw_floor(ax, float(floor))
            values = sorted(runs[x].unique())
            if values[0] > 0:
                ax.set_xscale("log")
            if len(values) <= 8:
                ax.set_xticks(values, [short_number(v) for v in values])
                ax.minorticks_off()
            ax.set_xlabel(axis_label(x, x))
            ax.set_ylabel(axis_label(metric, metric).replace("_", " "))
        panels[-1].legend(loc="upper left", bbox_to_anchor=(1.01, 1.0), borderaxespad=0.0)
        figure.savefig(path, dpi=120)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("study")
    parser.add_argument("--x", required=True)
    parser.add_argument("--y", nargs="+", required=True)
    parser.add_argument("--by", required=True)
    options = parser.parse_args()
    folder = FOLDER / options.study
    runs = pd.read_csv(folder / "results.csv")
    draw(runs, options.x, options.y, options.by, folder / "figure.png")
    shown = runs.groupby([options.by, options.x])[options.y].mean()
    print(shown.to_string(float_format=lambda v: f"{v:.4f}"))


if __name__ == "__main__":
    main()
