"""A joint law drawn over D, one curve per model size, with measured runs on it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from analysis.plot.fits import draw_runs, finish_axes, label
from analysis.plot.style import drawing, outside_legend, short_number, size_colors, some_sizes
from analysis.result import FitResult

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def plot_joint(result: FitResult, ax: Axes | None = None, title: str = "") -> Axes:
    """Metric against the law's second column, one colour per value of the first."""
    over, along = result.model.columns[0], result.model.columns[1]
    sizes, alone = result.data[over], ax is None
    colors = size_colors(sizes)
    with drawing(ax, 9.0, 4.8) as ax:
        draw_runs(ax, result, along, [colors[size] for size in sizes])
        low, high = np.log10([min(result.data[along]), max(result.data[along])])
        grid = np.logspace(low - 0.05, high + 0.25, 120)
        for size in some_sizes(sizes) if len(result.model.columns) == 2 else ():
            look: dict[str, Any] = {"color": colors[size], "zorder": 3}
            band = result.predict({over: np.full_like(grid, size), along: grid})
            ax.plot(grid, band["mean"], lw=1.4, label=f"{over} = {short_number(size)}", **look)
            if band["low"].notna().all():
                ax.fill_between(grid, band["low"], band["high"], alpha=0.15, lw=0, **look)
        ax.plot([], [], " ", label=label(result))
        finish_axes(ax, result, along, title)
        if alone:
            outside_legend(ax)
    return ax
