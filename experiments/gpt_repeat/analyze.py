"""Loss against tokens read, one line for each amount of unique text and size: figure.png."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from analysis.plot.style import new_figure, short_number, style

FOLDER = Path(__file__).parent


def unique_text(runs: pd.DataFrame) -> pd.Series:
    """Unique tokens of a run's trunk: what its longest budget has read."""
    return runs.groupby("trunk_id")["n_tokens_unique"].transform("max")


def draw(runs: pd.DataFrame, path: Path) -> None:
    """One panel a size; runs that never repeated are filled, others open."""
    runs = runs.assign(unique=unique_text(runs))
    sizes = sorted(runs["n_params_total"].unique())
    with style():
        figure, panels = new_figure(10.5, 3.8, ncols=len(sizes), sharey=True)
        for ax, size in zip(panels, sizes, strict=True):
            for shade, (unique, group) in zip(
                ("#D55E00", "#E69F00", "#009E73", "#0072B2"),
                runs[runs["n_params_total"] == size].groupby("unique"), strict=True,
            ):  # fmt: skip
                group = group.sort_values("n_tokens")
                ax.plot(group["n_tokens"], group["val_loss"], "-o", color=shade, lw=1.4, ms=4,
                        label=f"{short_number(unique)} unique tokens")  # fmt: skip
            ax.set_xscale("log")
            ticks = sorted(runs["n_tokens"].unique())
            ax.set_xticks(ticks, [short_number(v) for v in ticks])
            ax.minorticks_off()
            ax.set_ylim(1.35, 2.8)
            ax.set_title(f"N = {short_number(size)}", loc="left", fontsize=10)
            ax.set_xlabel("training tokens D, repeats included")
        panels[0].set_ylabel("validation loss [nats]")
        panels[0].legend()
        figure.savefig(path, dpi=120)


if __name__ == "__main__":
    draw(pd.read_csv(FOLDER / "results.csv"), FOLDER / "figure.png")
