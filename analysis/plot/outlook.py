"""A ladder, the forecast's band beyond it, and the target."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from analysis.forecasting.decision import Outlook
from analysis.plot.style import MANY, axis_label, drawing, log_ticks, outside_legend

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLOR, TARGET = "#2a6fb0", "#c2410c"


def plot_outlook(outlook: Outlook, ax: Axes | None = None, title: str = "") -> Axes:
    """Metric against compute: runs, forecast at the best allocation, what is to be trained."""
    band, decision = outlook.band, outlook.decision
    loss, level = decision.loss, f"{decision.level:.0%}"
    with drawing(ax, 10.2, 5.0) as ax:
        wide: dict[str, Any] = {"color": COLOR, "lw": 0, "zorder": 1}
        ax.fill_between(
            band["C"], band["low"], band["high"], alpha=0.16, label=f"a new run, {level}", **wide
        )
        ax.fill_between(
            band["C"], band["low50"], band["high50"], alpha=0.25, label="a new run, 50%", **wide
        )
        ax.plot(
            band["C"], band["predicted"], color=COLOR, lw=1.8, label="forecast, best allocation"
        )
        runs = outlook.runs
        ax.scatter(
            runs["C"], runs["metric"], s=18, color="#222222", edgecolors="white", linewidths=0.4,
            zorder=4, label="runs", rasterized=len(runs) > MANY,
        )  # fmt: skip
        ax.axvline(outlook.largest, color="#999999", lw=0.9, ls=":", label="largest run")
        below, above = loss["predicted"] - loss["low"], loss["high"] - loss["predicted"]
        ax.errorbar(
            [decision.budget.flops], [loss["predicted"]], yerr=[[below], [above]], fmt="*", ms=13,
            color=TARGET, capsize=4, zorder=5,
            label=f"target: N* {decision.n:.2g}, D* {decision.d:.2g}",
        )  # fmt: skip
        ax.set(xscale="log", yscale="log")
        ax.set_ylim(*ladder_range(outlook))
        log_ticks(ax.yaxis)
        ax.set(xlabel=axis_label("C"), ylabel=axis_label("metric", decision.metric))
        if title:
            ax.set_title(title, loc="left", fontsize=10.5)
        outside_legend(ax)
    return ax


def ladder_range(outlook: Outlook) -> tuple[float, float]:
    """Ends of the vertical axis: runs and target; a band may leave the figure."""
    y = [*outlook.runs["metric"], outlook.decision.loss["low"], outlook.decision.loss["high"]]
    room = (max(y) / min(y)) ** 0.05
    return min(y) / room, max(y) * room
