"""IsoFLOP curves with their minima, the frontier of optima, and a coverage diagram."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from analysis.optima.isoflop import IsoFlop
from analysis.plot.style import axis_label, drawing, log_ticks, outside_legend, size_colors

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def plot_isoflop(
    found: IsoFlop,
    ax: Axes | None = None,
    title: str = "",
    columns: Mapping[str, str] | None = None,
) -> Axes:
    """Loss against N, one color per budget; diamonds are minima, hollow curves are excluded.

    `columns` says what `N` and `metric` are called where they come from, for the axes.
    """
    names = columns or {}
    with drawing(ax, 8.4, 4.8) as ax:
        colors = size_colors([m.budget for m in found.minima])
        for m in found.minima:
            sizes, loss = found.curves[m.budget]
            color = colors[m.budget]
            kept = not m.reason
            ax.scatter(
                sizes,
                loss,
                s=18,
                facecolors=color if kept else "none",
                edgecolors=color,
                label=f"{m.budget:.2g} FLOPs" + ("" if kept else " (excluded)"),
            )
            if not kept or m.n_opt is None or m.loss is None:
                continue
            u = np.log(sizes)
            grid = np.linspace(u[0], u[-1], 200)
            if found.method == "parabola":
                curve = np.polyval(np.polyfit(u - u.mean(), loss, 2), grid - u.mean())
            else:
                from scipy.interpolate import Akima1DInterpolator

                curve = Akima1DInterpolator(u, loss)(grid)
            ax.plot(np.exp(grid), curve, color=color, lw=1.2)
            ax.scatter(
                m.n_opt, m.loss, s=52, marker="D", color=color, edgecolors="#222222", zorder=5
            )
        ax.set(xscale="log", yscale="log")
        log_ticks(ax.yaxis)
        ax.set_xlabel(axis_label("N", names.get("N")))
        ax.set_ylabel(axis_label("metric", names.get("metric", "loss")))
        ax.set_title(title, loc="left", fontsize=10.5)
        outside_legend(ax)
    return ax


def plot_frontier(found: IsoFlop, ax: Axes | None = None) -> Axes:
    """N* and D* against compute, with their power laws."""
    with drawing(ax) as ax:
        used = [m for m in found.minima if not m.reason]
        c = np.array([m.budget for m in used])
        series = (
            ("N*", [m.n_opt for m in used], found.n_opt, "#0072B2"),
            ("D*", [m.d_opt for m in used], found.d_opt, "#D55E00"),
        )
        for name, values, law, color in series:
            ax.scatter(c, np.array(values, dtype=float), s=28, color=color, zorder=3)
            if law is None:
                continue
            grid = np.geomspace(c.min() / 1.5, c.max() * 10, 50)
            text = f"{name} ~ C^{law.exponent:.3f}"
            if law.interval:
                text += f"  [{law.interval[0]:.3f}, {law.interval[1]:.3f}]"
            ax.plot(grid, [law.at(v) for v in grid], color=color, lw=1.4, label=text)
        ax.set(xscale="log", yscale="log")
        ax.set_xlabel(axis_label("C"))
        ax.set_ylabel("N* [parameters], D* [tokens or samples]")
        ax.legend()
    return ax
