"""Best learning rate against width, with muP and without: results.csv -> optima.csv, figure.png."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from analysis.plot.style import new_figure, style
from experiments.learning_rate import vertex

FOLDER = Path(__file__).parent
MARK = "hyperparameters.model.parametrization._target_"  # absent: the standard parametrization
BASE_WIDTH = 32  # where both parametrizations are one
COLORS = ("#56B4E9", "#009E73", "#E69F00", "#D55E00")


def optima(runs: pd.DataFrame) -> pd.DataFrame:
    """One row a parametrization and width: the best rate with its interval, or a bound, and what
    the width loses, in nats, at the best rate of the base (between two rates a line)."""
    curves = {
        key: curve.dropna(subset="val_loss").sort_values("lr_peak")
        for key, curve in runs.groupby(["parametrization", "width"])
    }
    optimum = {
        k: vertex(c["lr_peak"].to_numpy(), c["val_loss"].to_numpy()) for k, c in curves.items()
    }
    found = []
    for (name, width), curve in curves.items():
        best, bracketed, error = optimum[name, width]
        reach, lowest = np.exp(1.96 * error), curve["val_loss"].min()
        base = np.log(optimum[name, BASE_WIDTH][0])
        at_base = np.interp(base, np.log(curve["lr_peak"]), curve["val_loss"])
        found.append({
            "parametrization": name, "width": width, "lr_best": best, "bracketed": bracketed,
            "lr_low": best / reach, "lr_high": best * reach, "loss_best": lowest,
            "cost_at_rate_of_base": float(at_base) - lowest,
        })  # fmt: skip
    return pd.DataFrame(found)


def drift(table: pd.DataFrame) -> pd.Series:
    """Widest over narrowest best rate, in steps of a two-fold grid, by parametrization."""
    by_width = table.sort_values("width").groupby("parametrization")["lr_best"]
    return np.log2(by_width.last() / by_width.first())


def draw(runs: pd.DataFrame, table: pd.DataFrame, path: Path) -> None:
    """Loss against rate, a curve for each width and a panel for each parametrization."""
    with style():
        figure, panels = new_figure(10.0, 4.2, ncols=2, sharey=True)
        for ax, (name, group) in zip(panels, runs.groupby("parametrization"), strict=True):
            for color, (width, curve) in zip(COLORS, group.groupby("width"), strict=True):
                curve = curve.dropna(subset="val_loss").sort_values("lr_peak")
                ax.plot(curve["lr_peak"], curve["val_loss"], "o-", ms=4, color=color,
                        label=f"width {width}")  # fmt: skip
                own = table[(table["parametrization"] == name) & (table["width"] == width)].iloc[0]
                ax.axvline(own["lr_best"], color=color, lw=1, ls="--" if own["bracketed"] else ":")
            ax.set_xscale("log")
            ax.set_title(name)
            ax.set_xlabel("peak learning rate")
        panels[0].set_ylabel("validation loss (nats/token)")
        panels[0].set_ylim(top=runs["val_loss"].quantile(0.9))
        panels[1].legend()
        figure.savefig(path, dpi=150)


def main() -> None:
    """Read the runs, print the drift of the best rate, draw."""
    runs = pd.read_csv(FOLDER / "results.csv")
    runs["parametrization"] = np.where(runs[MARK].isna(), "standard", "muP")
    runs["width"] = runs["model"].str.extract(r"x(\d+)$", expand=False).astype(int)
    table = optima(runs)
    table.to_csv(FOLDER / "optima.csv", index=False, float_format="%.4g")
    print(table.to_string(index=False, float_format="%.4g"))
    for name, steps in drift(table).items():
        print(f"{name}: the best rate moves by {steps:+.1f} steps of two from the narrowest width")
    draw(runs, table, FOLDER / "figure.png")


if __name__ == "__main__":
    main()
