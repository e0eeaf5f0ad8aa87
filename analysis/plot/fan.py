"""A forecast under other laws, objectives and conventions: the fan of answers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from analysis.plot.style import drawing, new_figure, outside_legend, short_number, style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

QUANTITIES = {"n_opt": "best size N* [parameters]", "loss": "loss"}


def plot_fan(answer: Mapping[str, Any], quantity: str, ax: Axes | None = None) -> Axes:
    """One point a variant of `forecast(...)["fan"]`, of n_opt or loss; the band is the interval of
    the fit itself."""
    rows = [r for r in answer.get("fan", []) if r.get(quantity) is not None]
    with drawing(ax, 6.8, 1.2 + 0.32 * max(len(rows), 2)) as ax:
        low, high = answer.get(f"{quantity}_interval") or (None, None)
        if low is not None and high is not None:
            ax.axvspan(low, high, color="#dceaf4", lw=0, label=f"{answer['level']:.0%} interval")
        ax.axvline(answer[quantity], color="#0072B2", lw=1.2, label="as fitted")
        ax.scatter([r[quantity] for r in rows], range(len(rows)), s=30, color="#222222", zorder=3)
        ax.set_yticks(range(len(rows)), [r["variant"] for r in rows])
        ax.set_ylim(len(rows) - 0.4, -0.6)
        ax.grid(axis="y", visible=False)
        if quantity == "n_opt":
            ax.xaxis.set_major_formatter(lambda v, _: short_number(v))
        ax.set_xlabel(QUANTITIES[quantity])
    return ax


def draw_fan(answer: Mapping[str, Any]) -> Figure:
    """Best size and loss side by side; the loss alone where the law knows no size."""
    shown = [q for q in QUANTITIES if answer.get(q) is not None]
    rows = len(answer.get("fan", []))
    with style():
        width, height = 3.2 + 3.8 * len(shown), 1.5 + 0.32 * max(rows, 2)
        figure, (axes,) = new_figure(width, height, ncols=len(shown), sharey=True, squeeze=False)
        for ax, quantity in zip(axes, shown, strict=True):
            plot_fan(answer, quantity, ax)
        beyond = f"{answer['decades_beyond']:.1f} decades beyond the largest run"
        figure.suptitle(f"{answer['flops']:.3g} FLOPs, {beyond}", x=0.01, ha="left", fontsize=10.5)
        outside_legend(axes[-1])
    return figure
