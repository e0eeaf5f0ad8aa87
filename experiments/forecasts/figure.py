"""Draw `figure.png`: coverage and width by distance, before and after.

python -m experiments.forecasts.figure
"""

from __future__ import annotations

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from experiments.forecasts.cases import BINS

HERE = Path(__file__).parent
BEFORE = {"joint": "joint law", "kaplan": "Kaplan's law", "power_floor": "power law with floor"}
AFTER = {"surface": "combined, N and D", "frontier": "combined, compute alone"}


def main() -> None:
    before, after = (pd.read_csv(HERE / f"{name}.csv") for name in ("before", "results"))
    after = after[~after["source"].str.startswith("planted")]
    figure, axes = plt.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
    places = np.arange(len(BINS))
    for table, column, names, style in (
        (before, "law", BEFORE, {"linestyle": "--", "marker": "o"}),
        (after, "kind", AFTER, {"linestyle": "-", "marker": "s", "linewidth": 2.5}),
    ):
        for name, label in names.items():
            rows = table[table[column] == name].groupby("distance")
            axes[0].plot(places, 100 * rows["covered"].mean().reindex(BINS), label=label, **style)
            axes[1].plot(places, 100 * rows["half"].median().reindex(BINS), label=label, **style)
    axes[0].axhspan(93, 98, color="0.9", zorder=0)
    axes[0].set(ylabel="runs in their 95 % interval, %", ylim=(0, 102))
    axes[1].set(ylabel="median half width, % of the loss", ylim=(0, None))
    for axis in axes:
        axis.set_xticks(places, [f"{name} x" for name in BINS])
        axis.set_xlabel("compute over the largest run fitted")
        axis.spines[["top", "right"]].set_visible(False)
    axes[0].legend(frameon=False, fontsize=8)
    figure.savefig(HERE / "figure.png", dpi=130)


if __name__ == "__main__":
    main()
