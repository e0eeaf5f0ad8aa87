"""Points, fitted laws of one variable, bands and residuals."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from analysis.laws.law import Array
from analysis.plot.style import (
    HELD_OUT,
    MANY,
    axis_label,
    drawing,
    log_ticks,
    short_number,
    size_colors,
    some_sizes,
)
from analysis.result import FitResult

if TYPE_CHECKING:
    from matplotlib.axes import Axes

LABEL_WIDTH = 52  # characters of a formula beside a figure


def curve(results: Sequence[FitResult], letter: str, decades: float = 0.3) -> Array:
    """Abscissae from a little below the data to a little beyond all of them, held out or not."""
    values = np.concatenate([np.array(r.data[letter], dtype=float) for r in results])
    low, high = np.log10(values.min()), np.log10(values.max())
    return np.logspace(low - 0.08, high + decades, 160)


def plot_laws(
    results: Sequence[FitResult],
    ax: Axes | None = None,
    background: tuple[Array, Array] | None = None,
    sizes: Array | None = None,
    title: str = "",
    band: str = "low",
) -> Axes:
    """Several laws of one variable on the same points.

    Args:
        background: x and y of runs that are not part of the fit, drawn small and grey.
        sizes: N of each point, for its colour; default: one colour.
        band: "low" for the band of the mean curve, "low_new" for that of a new run.
    """
    first = results[0]
    letter = first.model.columns[0]
    with drawing(ax) as ax:
        if background is not None:
            many = len(background[0]) > MANY
            shape: dict[str, Any] = {"label": "other runs", "rasterized": many}
            ax.scatter(*background, s=11, color="#c9c9c9", zorder=1, **shape)
        colors: list[Any] = ["#222222"] * len(first.data["y"])
        if sizes is not None:
            table = size_colors(sizes.tolist())
            colors = [table[size] for size in sizes]
            for size in some_sizes(sizes.tolist()):
                ax.scatter([], [], s=30, color=table[size], label=f"N = {short_number(size)}")
        draw_runs(ax, first, letter, colors)
        grid = curve(results, letter)
        upper = "high" if band == "low" else "high_new"
        for result in results:
            color = result.model.color
            values = result.predict({letter: grid})
            text = label(result)
            if values[band].isna().any():
                text += f"\n({why_no_band(result)})"
            elif too_wide(values[band], values[upper], result):
                # A band that fills the figure hides the others and says one thing: unknown.
                text += "\n(band wider than the figure)"
            else:
                ax.fill_between(
                    grid, values[band], values[upper], color=color, alpha=0.13, lw=0, zorder=2
                )
            ax.plot(grid, values["mean"], color=color, lw=1.6, zorder=3, label=text)
        finish_axes(ax, first, letter, title)
    return ax


def why_no_band(result: FitResult) -> str:
    """Names a term that went to nothing, which has no interval; the rest is on the fit's card."""
    scale = float(np.abs(np.array(result.data["y"], dtype=float)).min())
    gone = [
        name
        for name, value in result.parameters.items()
        if name not in result.fixed
        and result.intervals[name] == (None, None)
        and 0 <= value < 1e-6 * scale
    ]
    return f"{', '.join(gone)} went to 0: no band" if gone else "no interval"


def too_wide(low: pd.Series[float], high: pd.Series[float], result: FitResult) -> bool:
    """True when the band at the middle of the data is wider than the data's own spread."""
    y = np.array(result.data["y"], dtype=float)
    return bool(np.median(high - low) > 1.5 * np.ptp(y))


def label(result: FitResult) -> str:
    """Formula and, where there is one, the error on held-out runs."""
    text = textwrap.fill(result.formula(), LABEL_WIDTH, break_long_words=False)
    if result.held_out and result.held_out["mean_absolute_relative_error"] is not None:
        text += f"\n(held-out error {result.held_out['mean_absolute_relative_error']:.1%})"
    return text


def finish_axes(ax: Axes, result: FitResult, letter: str, title: str) -> None:
    y = np.array(result.data["y"], dtype=float)
    ax.set_xscale("log")
    if (y > 0).all() and result.residual_log | result.model.positive:
        ax.set_yscale("log")
    # Bands may explode beyond the data; the data decide what is shown.
    low, high = float(y.min()), float(y.max())
    if ax.get_yscale() == "log":
        ratio = (high / low) ** 0.25
        ax.set_ylim(low / ratio / 1.02, high * ratio * 1.02)
        log_ticks(ax.yaxis)
    else:
        pad = 0.25 * (high - low)
        ax.set_ylim(low - pad, high + pad)
    ax.set_xlabel(axis_label(letter, result.columns.get(letter)))
    ax.set_ylabel(axis_label("metric", result.conventions.get(result.metric, result.metric)))
    if title:
        ax.set_title(title, loc="left", fontsize=10.5)
    ax.legend(loc="best")


def draw_runs(ax: Axes, result: FitResult, letter: str, colors: Sequence[Any]) -> None:
    """The runs of a fit against a letter, in a color each; those held out are open diamonds."""
    x, y = np.array(result.data[letter], dtype=float), np.array(result.data["y"], dtype=float)
    held = np.array(result.data["held_out"], dtype=bool)
    if "error" in result.data:
        error = np.array(result.data["error"], dtype=float)
        ax.errorbar(x, y, yerr=error, fmt="none", ecolor="#999999", lw=0.8, zorder=3)
    used, rims = ([c for c, h in zip(colors, held, strict=True) if h == out] for out in (0, 1))
    shape: dict[str, Any] = {"rasterized": len(x) > MANY}
    ax.scatter(x[~held], y[~held], s=30, color=used, zorder=4, edgecolors="white", linewidths=0.5,
               **shape)  # fmt: skip
    if held.any():
        ax.scatter(x[held], y[held], edgecolors=rims, zorder=5, **shape, **HELD_OUT)
        ax.scatter([], [], edgecolors="#222222", label="held out", **HELD_OUT)


def plot_residuals(results: Sequence[FitResult], ax: Axes | None = None) -> Axes:
    """Relative residuals (value / prediction - 1) of each law against its first column."""
    with drawing(ax, 6.4, 2.2) as ax:
        for result in results:
            letter, color = result.model.columns[0], result.model.color
            columns = {c: np.array(result.data[c], dtype=float) for c in result.model.columns}
            y = np.array(result.data["y"], dtype=float)
            held = np.array(result.data["held_out"], dtype=bool)
            relative = 100 * (y / result.predict(columns)["mean"].to_numpy() - 1)
            x = columns[letter]
            shape: dict[str, Any] = {"rasterized": len(x) > MANY}
            ax.scatter(x[~held], relative[~held], s=16, color=color, label=result.law, **shape)
            look = {**HELD_OUT, "s": 30, "linewidths": 1.3}
            ax.scatter(x[held], relative[held], edgecolors=color, **look, **shape)
        ax.axhline(0, color="#888888", lw=0.8)
        ax.set_xscale("log")
        ax.set_xlabel(axis_label(letter, results[0].columns.get(letter)))
        ax.set_ylabel("residual [%]")
    return ax
