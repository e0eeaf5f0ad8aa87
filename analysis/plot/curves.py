"""Training curves of all sizes with their lower envelope, as in Hoffmann et al. 2022, Fig. 2."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from analysis.optima.training_curves import TrainingCurves
from analysis.plot.style import axis_label, drawing, log_ticks, short_number, size_colors

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def plot_training_curves(
    curves: TrainingCurves, ax: Axes | None = None, metric: str = "loss", title: str = ""
) -> Axes:
    """Loss against compute, one line a run, one colour a size; the envelope is black."""
    with drawing(ax, 6.8, 4.8) as ax:
        colors = size_colors(curves.n.tolist())
        drawn: set[float] = set()
        for loss, n in zip(curves.loss, curves.n, strict=True):
            shown = np.isfinite(loss)
            text = None if n in drawn else f"N = {short_number(n)}"
            drawn.add(float(n))
            ax.plot(curves.c[shown], loss[shown], color=colors[float(n)], lw=1.1, label=text)
        c, _, _, best = curves.best()
        ax.plot(c, best, color="#111111", lw=2.4, alpha=0.75, label="envelope", zorder=5)
        ax.set(xscale="log", yscale="log")
        finite = curves.loss[np.isfinite(curves.loss)]
        ax.set_ylim(float(finite.min()) / 1.04, float(np.quantile(finite, 0.97)))
        log_ticks(ax.yaxis)
        ax.set(xlabel=axis_label("C"), ylabel=f"{metric.replace('_', ' ')} [nats], smoothed")
        ax.set_title(title, loc="left", fontsize=10.5)
        handles, labels = ax.get_legend_handles_labels()
        order = sorted(range(len(labels)), key=lambda i: _size_of(labels[i], colors))
        ax.legend([handles[i] for i in order], [labels[i] for i in order], ncols=2)
    return ax


def _size_of(text: str, colors: dict[float, tuple[float, float, float, float]]) -> float:
    """Legend order: by size, the envelope last."""
    return next((n for n in colors if text == f"N = {short_number(n)}"), float("inf"))
