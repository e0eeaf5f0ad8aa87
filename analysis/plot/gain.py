"""The gain of one recipe over another against compute."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from analysis.plot.style import drawing, log_ticks

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from analysis.gain import Gain


def plot_gain(found: Gain, ax: Axes | None = None) -> Axes:
    """Gains measured at the rungs, the one that the laws give, and its interval at the target."""
    with drawing(ax, 5.2, 3.4) as ax:
        rungs = [(r["compute"], r["gain"]) for r in found.rungs if np.isfinite(r["gain"] or np.nan)]
        first = min([found.target, *(c for c, _ in rungs if c is not None)])
        computes = np.geomspace(first, found.target, 60)
        ax.axhline(1, color="#777777", lw=0.8, ls=":")
        ax.plot(
            computes, [found.by_laws(c) for c in computes], color="#0072B2", label="by the laws"
        )
        if rungs:
            ax.plot(*zip(*rungs, strict=True), "o", color="#222222", label="measured at a rung")
        low = 0.0 if found.low is None else found.low
        top = ax.get_ylim()[1]
        high = 2 * max(found.at_target, top) if found.high is None else found.high
        ax.errorbar(
            [found.target], [found.at_target],
            [[found.at_target - low], [high - found.at_target]],
            fmt="D", color="#D55E00", capsize=3, label=f"target, {found.level:.0%} interval",
        )  # fmt: skip
        ax.set_xscale("log")
        log_ticks(ax.xaxis)
        ax.set_xlabel("training compute [FLOPs]")
        ax.set_ylabel(f"compute of {found.base} over {found.other}, equal loss")
        ax.legend()
    return ax
