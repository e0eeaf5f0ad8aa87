"""Language models by size, after Brown et al. 2020, Fig. 1.2, 3.8 and 3.13."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from analysis.plot.fits import curve
from analysis.plot.style import new_figure, short_number, size_colors, style
from analysis.transfer.gpt import (
    BASELINES,
    ShotColumn,
    detector_law,
    fine_tuned_tasks,
    longest_runs,
    positions,
    shot_columns,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BLUE, GRAY = "#0072B2", "#999999"
WAY_COLORS = {"scratch": "#D55E00", "frozen": "#009E73", "without_lm": "#CC79A7"}
WAY_NAMES = {"scratch": "fresh weights", "frozen": "frozen model",
             "without_lm": "without language-model loss"}  # fmt: skip
QUANTITIES = {"accuracy": "exact match [fraction]", "nats": "-log p(answer) [nats/answer]"}


def plot_few_shot(runs: pd.DataFrame, task: str = "mean") -> Figure:
    """Left against K, one line a size; right against size, one line a K. Dashed: described."""
    sizes = longest_runs(runs)
    points = shot_columns(runs, task)
    quantities = [q for q in QUANTITIES if any(p.quantity == q for p in points)]
    with style():
        rows = len(quantities)
        figure, panels = new_figure(10.4, 3.7 * rows, nrows=rows, ncols=2, squeeze=False)
        for (left, right), quantity in zip(panels, quantities, strict=True):
            own = [p for p in points if p.quantity == quantity]
            _against_shots(left, sizes, own)
            _against_size(right, sizes, own)
            for ax in (left, right):
                ax.set_ylabel(QUANTITIES[quantity])
                if quantity == "accuracy":  # from 0, also where every answer is wrong
                    top = max(0.05, *(float(sizes[p.column].max()) for p in own))
                    ax.set_ylim(-0.03 * top, 1.08 * top)
        what = "mean over tasks" if task == "mean" else task.replace("_", " ")
        panels[0][0].set_title(f"{what}; dashed: described in words", loc="left", fontsize=10)
    return figure


def _against_shots(ax: Axes, sizes: pd.DataFrame, points: list[ShotColumn]) -> None:
    ks = sorted({p.shots for p in points})
    places = {k: place for place, k in enumerate(ks)}
    colors = size_colors(sizes["n_params_total"].tolist())
    for _, run in sizes.iterrows():
        size = run["n_params_total"]
        for described in (False, True):
            own = [p for p in points if p.described == described]
            ax.plot([places[p.shots] for p in own], [run[p.column] for p in own],
                    "--s" if described else "-o", ms=4, lw=1.5, color=colors[size],
                    label=None if described else f"N = {short_number(size)}")  # fmt: skip
    ax.set_xticks(list(places.values()), [str(k) for k in ks])
    ax.set_xlabel("examples in the prompt K")
    ax.legend(loc="best")


def _against_size(ax: Axes, sizes: pd.DataFrame, points: list[ShotColumn]) -> None:
    ks = sorted({p.shots for p in points})
    colors = size_colors([k + 1 for k in ks])
    for p in points:
        ax.plot(sizes["n_params_total"], sizes[p.column], "--s" if p.described else "-o", ms=4,
                lw=1.5, color=colors[p.shots + 1],
                label=None if p.described else f"K = {p.shots}")  # fmt: skip
    _sizes_axis(ax, sizes)
    ax.legend(loc="best")


def plot_detector(runs: pd.DataFrame) -> Figure:
    """How often a classifier tells the model's text from the real one, with 95 % bands."""
    sizes = longest_runs(runs).dropna(subset=["detector_accuracy"])
    x, accuracy = sizes["n_params_total"], sizes["detector_accuracy"]
    around = [accuracy - sizes["detector_accuracy_low"], sizes["detector_accuracy_high"] - accuracy]
    law = detector_law(sizes)
    with style():
        figure, ax = new_figure(6.4, 4.4)
        if law is not None:
            grid = curve([law], "x")
            values = law.predict({"x": grid})
            ax.plot(
                grid, values["mean"], color=BLUE, lw=1.6, label=law.formula().replace(" x^", " N^")
            )
            ax.fill_between(grid, values["low"], values["high"], color=BLUE, alpha=0.14, lw=0,
                            label="95 % band of the law")  # fmt: skip
        ax.errorbar(x, accuracy, np.array(around), fmt="o", ms=5, color="#222222", capsize=2.5,
                    lw=1.1, label="each size, 95 % (Wilson)")  # fmt: skip
        ax.axhline(0.5, color=GRAY, ls=":", lw=1.4, label="cannot tell")
        ax.set_ylim(0.45, 1.02)
        _sizes_axis(ax, sizes)
        ax.set_ylabel("accuracy of the detector [fraction]")
        ax.legend(loc="best")
    return figure


def plot_fine_tuning(runs: pd.DataFrame) -> Figure:
    """Accuracy after fine-tuning against size; dotted: the baselines and chance."""
    sizes = longest_runs(runs)
    tasks = fine_tuned_tasks(runs)
    with style():
        width = 4.3 * len(tasks) + 2.2
        figure, ((*panels,),) = new_figure(width, 4.2, ncols=len(tasks), squeeze=False)
        for ax, task in zip(panels, tasks, strict=True):
            x, prefix = sizes["n_params_total"], f"finetune_{task}"
            error = sizes.get(f"{prefix}_accuracy_standard_error")
            band = None if error is None else 1.96 * error
            ax.errorbar(x, sizes[f"{prefix}_accuracy"], band, fmt="-o", ms=5, lw=1.6, capsize=2.5,
                        color=BLUE, label="fine-tuned")  # fmt: skip
            for way in BASELINES:
                column = f"{prefix}_{way}_accuracy"
                if column in sizes and sizes[column].notna().any():
                    ax.plot(x, sizes[column], ":", marker=".", lw=1.7, color=WAY_COLORS[way],
                            label=WAY_NAMES[way])  # fmt: skip
            if f"{prefix}_chance" in sizes:
                ax.plot(x, sizes[f"{prefix}_chance"], ":", lw=1.3, color=GRAY, label="chance")
            _sizes_axis(ax, sizes)
            ax.set_title(task.replace("_", " "), loc="left", fontsize=10)
            ax.set_ylabel("accuracy on the test file [fraction]")
        panels[-1].legend(loc="upper left", bbox_to_anchor=(1.01, 1.0), borderaxespad=0.0)
    return figure


def plot_calibration(curves: Mapping[str, pd.DataFrame], names: Mapping[str, str]) -> Figure:
    """How often answers of each probability are right, one line a run; areas: answers.

    Args:
        curves: run id -> bins, with mean_probability, accuracy and n.
        names: run id -> what the legend calls it.
    """
    from matplotlib import colormaps

    with style():
        figure, ax = new_figure(5.8, 5.0)
        ax.plot([0, 1], [0, 1], color=GRAY, ls="--", lw=1, label="calibrated")
        for k, (run_id, bins) in enumerate(curves.items()):
            color: Any = colormaps["viridis"](0.88 * k / max(1, len(curves) - 1))
            ax.plot(bins["mean_probability"], bins["accuracy"], "-", lw=1.3, color=color,
                    label=names[run_id])  # fmt: skip
            ax.scatter(bins["mean_probability"], bins["accuracy"],
                       s=8 + 220 * bins["n"] / bins["n"].sum(), color=color, zorder=3)  # fmt: skip
        ax.set_xlim(-0.02, 1.02)
        ax.set_ylim(-0.04, 1.04)
        ax.set_xlabel("probability of the answer")
        ax.set_ylabel("right [fraction of answers]")
        ax.legend(loc="upper left")
    return figure


def plot_positions(runs: pd.DataFrame) -> Figure:
    """Loss along the context, one line a size; dashed: the oracle where there is one."""
    sizes, places = longest_runs(runs), positions(runs)
    colors = size_colors(sizes["n_params_total"].tolist())
    with style():
        figure, ax = new_figure(6.4, 4.4)
        for _, run in sizes.iterrows():
            ax.plot(places, [run[f"val_loss_at_{k}"] for k in places], "-o", ms=4, lw=1.5,
                    color=colors[run["n_params_total"]],
                    label=f"{run['model']}, N = {short_number(run['n_params_total'])}")  # fmt: skip
        if all(f"val_oracle_at_{k}" in sizes for k in places):
            ax.plot(places, [sizes[f"val_oracle_at_{k}"].mean() for k in places], "--",
                    color="#222222", lw=1.4, label="oracle")  # fmt: skip
        ax.set_xscale("log", base=2)
        ax.set_xticks(places, [f"{k}-{2 * k - 1}" if k > 1 else "1" for k in places])
        ax.set(xlabel="position in the context [tokens]", ylabel="loss [nats/token]")
        ax.legend(loc="best")
    return figure


def _sizes_axis(ax: Axes, sizes: pd.DataFrame) -> None:
    ax.set_xscale("log")
    ticks = sorted(sizes["n_params_total"].unique())
    if len(ticks) <= 8:
        ax.set_xticks(ticks, [short_number(v) for v in ticks])
        ax.minorticks_off()
    ax.set_xlabel("parameters N (all)")
