"""How often intervals held a planted truth, beside what they promised."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from analysis.plot.style import PALETTE, drawing

if TYPE_CHECKING:
    from matplotlib.axes import Axes

WANTED = (0.93, 0.97)


def plot_coverage(table: pd.DataFrame, level: float = 0.95, ax: Axes | None = None) -> Axes:
    """One line a design, one colour a method, one point a parameter, with its standard error.

    Args:
        table: columns design, interval, parameter, coverage, trials.
        level: what the intervals promise.
    """
    designs, methods = list(dict.fromkeys(table["design"])), list(dict.fromkeys(table["interval"]))
    with drawing(ax, 7.6, 1.1 + 0.5 * len(designs)) as ax:
        ax.axvspan(*(100 * w for w in WANTED), color="#dfeee6", lw=0, zorder=0)
        ax.axvline(100 * level, color="#777777", lw=0.9, zorder=1)
        for k, method in enumerate(methods):
            part = table[table["interval"] == method]
            own = [designs.index(d) for d in part["design"]]
            y = np.array(own) + 0.7 * ((k + 0.5) / len(methods) - 0.5)
            rank = part.groupby("design").cumcount().to_numpy()
            y = y + 0.02 * (rank - 1)
            share = part["coverage"].to_numpy(dtype=float)
            error = np.sqrt(np.maximum(share * (1 - share), 0.002) / part["trials"])
            ax.errorbar(
                100 * share, y, xerr=100 * error, fmt="o", ms=3.5, lw=0.8,
                color=PALETTE[k % len(PALETTE)], label=method,
            )  # fmt: skip
        ax.set_yticks(range(len(designs)), designs)
        ax.set_ylim(len(designs) - 0.4, -0.6)
        ax.grid(axis="y", visible=False)
        ax.set_xlabel(f"{level:.0%} intervals that hold the planted value [%], one standard error")
        ax.legend(loc="upper center", bbox_to_anchor=(0.4, -0.07), ncols=len(methods))
    return ax
