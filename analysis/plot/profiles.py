"""Profile curves: how the best objective rises when one parameter is held."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from analysis.plot.style import drawing, log_ticks, outside_legend
from analysis.refit import solve_again
from analysis.result import FitResult
from analysis.uncertainty.profile_likelihood import profile

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FARTHEST = 30.0  # times the estimate


def plot_profiles(result: FitResult, ax: Axes | None = None) -> Axes:
    """All profiles on one axis: parameter over its estimate, rise of the objective over the
    threshold's. A curve that never crosses 1 belongs to an interval that is open there."""
    with drawing(ax, 8.4, 4.4) as ax:
        problem, optimum, points, fixed = solve_again(result)
        for name in (n for n in problem.law.names if n not in result.fixed):
            found = profile(problem, optimum, name, fixed, result.level, points)
            best = float(np.min(found.objective))
            height = (found.objective - best) / (found.threshold - best)
            centre = result.parameters[found.name]
            shown = height < 3
            ends = ["open" if end is None else f"{end:.4g}" for end in found.interval]
            text = f"{found.name}: [{', '.join(ends)}]"
            scale = centre if centre != 0 else 1.0
            dashed = None in found.interval  # a curve that stays below the line somewhere
            ax.plot(
                found.values[shown] / scale, height[shown],
                marker=".", ms=3, lw=1.2, ls="--" if dashed else "-", label=text,
            )  # fmt: skip
        ax.axhline(1.0, color="#222222", lw=0.9, ls="--")
        ax.set_ylim(0, 3)
        ax.set_xscale("log")
        ax.set_xlabel("parameter / estimate")
        ax.set_ylabel("rise of the objective / threshold")
        left, right = ax.get_xlim()  # an open side has no end
        ax.set_xlim(max(left, 1 / FARTHEST), min(right, FARTHEST))
        log_ticks(ax.xaxis)
        outside_legend(ax, f"{result.level:.0%} profile intervals")
    return ax
