"""A joint law drawn over D, one curve per model size, with measured runs on it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from analysis.plot.fits import finish_axes, label
from analysis.plot.style import (
    HELD_OUT,
    MANY,
    new_figure,
    outside_legend,
    short_number,
    size_colors,
    some_sizes,
    style,
)
from analysis.result import FitResult

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def plot_joint(result: FitResult, ax: Axes | None = None, title: str = "") -> Axes:
    """Metric against the law's second column, one colour per value of the first."""
    over, along = result.model.columns[0], result.model.columns[1]
    data = {c: np.array(result.data[c], dtype=float) for c in result.model.columns}
    y = np.array(result.data["y"], dtype=float)
    held = np.array(result.data["held_out"], dtype=bool)
    with style():
        alone = ax is None
        if ax is None:
            ax = new_figure(9.0, 4.8)[1]
        colors = size_colors(data[over].tolist())
        low, high = np.log10(data[along].min()), np.log10(data[along].max())
        grid = np.logspace(low - 0.05, high + 0.25, 120)
        rims = np.array([colors[size] for size in data[over]])
        many = len(y) > MANY
        ax.scatter(
            data[along][~held],
            y[~held],
            s=26,
            color=rims[~held],
            zorder=4,
            edgecolors="white",
            linewidths=0.4,
            rasterized=many,
        )
        ax.scatter(
            data[along][held], y[held], edgecolors=rims[held], zorder=5, rasterized=many, **HELD_OUT
        )
        for size in some_sizes(data[over].tolist()) if len(data) == 2 else ():
            band = result.predict({over: np.full_like(grid, size), along: grid})
            ax.plot(
                grid,
                band["mean"],
                color=colors[size],
                lw=1.4,
                zorder=3,
                label=f"{over} = {short_number(size)}",
            )
            if band["low"].notna().all():
                ax.fill_between(
                    grid, band["low"], band["high"], color=colors[size], alpha=0.15, lw=0, zorder=2
                )
        if held.any():
            ax.scatter([], [], edgecolors="#222222", label="held out", **HELD_OUT)
        ax.plot([], [], " ", label=label(result))
        finish_axes(ax, result, along, title)
        if alone:
            outside_legend(ax)
    return ax
