"""Which choice moves the answer most."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from analysis.plot.style import drawing

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def plot_tornado(
    table: pd.DataFrame, quantity: str, ax: Axes | None = None, title: str = ""
) -> Axes:
    """Bars from lowest to highest value over each group of choices (sensitivity.tornado)."""
    with drawing(ax, 6.8, 0.9 + 0.55 * max(len(table), 1)) as ax:
        for row, (_, bar) in enumerate(table[::-1].iterrows()):
            ax.barh(row, bar["high"] - bar["low"], left=bar["low"], height=0.55, color="#7aa6c2")
            ends = (("low", "right", -4), ("high", "left", 4))
            for side, align, gap in ends:
                if bar[f"{side}_variant"] == "as fitted":
                    continue
                ax.annotate(
                    str(bar[f"{side}_variant"]),
                    (bar[side], row),
                    xytext=(gap, 0),
                    fontsize=7.5,
                    textcoords="offset points",
                    ha=align,
                    va="center",
                    color="#444444",
                )
        if len(table):
            ax.axvline(float(table["base"].iloc[0]), color="#222222", lw=1.0)
            ax.set_yticks(range(len(table)), list(table["group"][::-1]))
            low, high = float(table["low"].min()), float(table["high"].max())
            pad = 1.0 * max(high - low, 1e-12)
            ax.set_xlim(low - pad, high + pad)
        ax.grid(axis="y", visible=False)
        ax.set_xlabel("a = beta/(alpha + beta), exponent of N*(C)" if quantity == "a" else quantity)
        if title:
            ax.set_title(title, loc="left", fontsize=10.5)
    return ax
