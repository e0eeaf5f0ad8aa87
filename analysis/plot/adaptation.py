"""How a CLIP adapts, after Radford et al. 2021, Fig. 6 to 9, and Wortsman et al. 2022, Fig. 1."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from analysis.plot.labels import label_ends, label_points
from analysis.plot.style import log_ticks, new_figure, short_number, size_colors, style
from analysis.transfer.clip import (
    HALFWAY,
    WITHIN,
    accuracies,
    agreement,
    bounded,
    equivalences,
    interpolation,
    largest_size,
    learning_order,
    longest_runs,
    median_and_mean,
    power_line,
    shots,
    skill,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

BLUE, ORANGE, GRAY = "#0072B2", "#D55E00", "#999999"


def plot_few_shot(run: pd.Series[Any]) -> Figure:
    """Left: mean probe accuracy against K with zero-shot; right: examples each task is worth."""
    frame = run.to_frame().T
    zero_shot = accuracies(frame, "zero_shot").iloc[0]
    found = equivalences(run)
    ks = shots(frame)
    tasks = [e.task for e in found]
    curves = np.array([[run[f"few_shot_{k}_{task}_accuracy"] for k in ks] for task in tasks], float)
    with style():
        figure, (left, right) = new_figure(10.4, 4.4, ncols=2)
        for curve in curves:
            left.plot(ks, curve, color=GRAY, lw=0.7, alpha=0.7)
        left.plot(ks, curves.mean(axis=0), "-o", color=BLUE, lw=2, label="linear probe, mean")
        level = float(np.mean([zero_shot[task] for task in tasks]))
        left.axhline(level, color=ORANGE, lw=1.6, ls="--", label="zero-shot, mean")
        left.set_xscale("log", base=2)
        left.set_xticks(ks, [str(k) for k in ks])
        left.set(xlabel="labelled examples per class K", ylabel="accuracy [fraction]")
        left.set_title(f"{len(tasks)} tasks (thin: each task)", loc="left", fontsize=10)
        left.legend(loc="lower right")
        places = np.arange(len(found))
        colors = [GRAY if e.censored else BLUE for e in found]
        right.barh(places, [e.k for e in found], left=0.0, color=colors, height=0.7)
        for place, e in zip(places, found, strict=True):
            right.text(e.k * 1.06, place, bounded(f"{e.k:.2g}", e.censored), va="center",
                       fontsize=8)  # fmt: skip
        right.set_xscale("log", base=2)
        right.set_xlim(0.7, max(ks) * 2.2)
        right.set_xticks(ks, [str(k) for k in ks])
        right.set_yticks(places, tasks)
        right.invert_yaxis()
        median, mean = median_and_mean(found)
        right.set_title(
            f"zero-shot is worth: median {median}, mean {mean}", loc="left", fontsize=10
        )
        right.set_xlabel("examples per class for equal accuracy (gray: only a bound)")
    return figure


def plot_agreement(run: pd.Series[Any]) -> Figure:
    """Zero-shot against the probe, one point a task, with y = x."""
    found = agreement(run)
    with style():
        figure, ax = new_figure(5.6, 5.2)
        low = 0.9 * min([*found.zero_shot, *found.probe])
        ax.plot([low, 1], [low, 1], color=GRAY, lw=1, ls="--", label="y = x")
        ax.fill_between([low, 1], [low - WITHIN, 1 - WITHIN], [low + WITHIN, 1 + WITHIN],
                        color=GRAY, alpha=0.18, lw=0)  # fmt: skip
        ax.scatter(found.probe, found.zero_shot, s=30, color=BLUE, zorder=3)
        r = "" if found.r is None else f"r = {found.r:.2f}, "
        ax.set_title(f"{r}{found.n_within} of {len(found.tasks)} within 3 points", loc="left",
                     fontsize=10)  # fmt: skip
        ax.set_xlim(low, 1.08)
        ax.set_ylim(low, 1.02)
        ax.set_xlabel("linear probe accuracy [fraction]")
        ax.set_ylabel("zero-shot accuracy [fraction]")
        ax.legend(loc="upper left")
        label_points(ax, found.probe, found.zero_shot, found.tasks, fontsize=7.5)
    return figure


def plot_errors(runs: pd.DataFrame) -> Figure:
    """Zero-shot error against compute: every task thin, their mean with its power law."""
    sizes = longest_runs(runs)
    error = 1 - accuracies(sizes, "zero_shot").dropna(axis=1)
    x, mean = sizes["flops"].to_numpy(dtype=float), error.mean(axis=1).to_numpy()
    with style():
        figure, ax = new_figure(6.8, 5.4)
        ends = {}
        for task in error:
            # A task without any error has no place on this axis: its line ends before.
            values = error[task].where(error[task] > 0)
            ax.plot(x, values, color=GRAY, lw=0.8)
            if values.notna().any():
                name = str(task) if values.notna().iloc[-1] else f"{task} (no error)"
                ends[name] = float(values.dropna().iloc[-1])
        ax.scatter(x, mean, color=BLUE, s=34, zorder=3, label=f"mean of {error.shape[1]} tasks")
        if len(x) >= 2:
            a, b = power_line(x, mean)
            grid = np.geomspace(x[0], x[-1], 50)
            ax.plot(grid, a * grid**b, color=BLUE, lw=1.6,
                    label=f"error = {a:.3g} C^{b:.3f}")  # fmt: skip
        ax.set(xscale="log", yscale="log")
        log_ticks(ax.yaxis)
        ax.margins(x=0.12)
        ax.set_xlabel("training compute C [FLOPs], longest run of each size")
        ax.set_ylabel("zero-shot error [fraction]")
        ax.legend(loc="lower left")
        for place, name in zip(x, sizes["model"], strict=True):
            ax.annotate(name, (place, 1.0), xycoords=ax.get_xaxis_transform(), xytext=(0, 3),
                        textcoords="offset points", fontsize=7.5, color=BLUE, rotation=25,
                        ha="left", va="bottom", rotation_mode="anchor")  # fmt: skip
        label_ends(ax, x[-1], ends, fontsize=7, color="#666666")
    return figure


def plot_learning_order(runs: pd.DataFrame) -> Figure:
    """Skill (0 chance, 1 perfect) of each task against samples seen, at the largest size."""
    from matplotlib import colormaps

    order, curve = learning_order(runs), largest_size(runs)
    name = runs["model"].iloc[int(runs["n_params_total"].argmax())]
    with style():
        figure, ax = new_figure(8.0, 4.8)
        rows = zip(order["task"], order["n_samples"], order["censored"], strict=True)
        for i, (task, n_samples, censored) in enumerate(rows):
            color = colormaps["viridis"](0.92 * i / max(len(order) - 1, 1))
            when = bounded(short_number(n_samples), censored)
            ax.plot(curve.index, skill(curve, task), "-o", ms=3, lw=1.3, color=color,
                    label=f"{task}  {when}")  # fmt: skip
        ax.axhline(HALFWAY, color=GRAY, lw=0.9, ls="--")
        ax.axhline(0.0, color=GRAY, lw=0.9)
        ax.set_xscale("log")
        ax.set_xticks(curve.index, [short_number(v) for v in curve.index])
        ax.minorticks_off()
        ax.set_xlabel(f"training samples seen D ({name})")
        ax.set_ylabel("zero-shot skill: (accuracy - chance) / (1 - chance)")
        ax.legend(title="half learned after [samples]", loc="upper left",
                  bbox_to_anchor=(1.01, 1.0), fontsize=7.5, borderaxespad=0.0)  # fmt: skip
    return figure


def plot_interpolation(runs: pd.DataFrame) -> Figure:
    """Accuracy on the fine-tuned task against that on all others, along the mixed weights."""
    sizes = longest_runs(runs)
    curves = [
        (row["model"], row["n_params_total"], interpolation(row)) for _, row in sizes.iterrows()
    ]
    tasks = sorted({task for _, _, found in curves for task in found})
    colors = size_colors([n for _, n, _ in curves])
    with style():
        figure, axes = new_figure(5.6 * len(tasks), 4.6, ncols=len(tasks), squeeze=False)
        for ax, task in zip(axes[0], tasks, strict=True):
            for name, n, found in curves:
                if task not in found or "others" not in found[task]:
                    continue
                curve = found[task]
                ax.plot(curve["others"], curve["task"], "-o", ms=4, lw=1.4, color=colors[n],
                        label=f"{name}")  # fmt: skip
                ax.scatter(curve["others"].iloc[:1], curve["task"].iloc[:1], marker="s", s=45,
                           color=colors[n], zorder=3)  # fmt: skip
                ax.scatter(curve["others"].iloc[-1:], curve["task"].iloc[-1:], marker="*", s=110,
                           color=colors[n], zorder=3)  # fmt: skip
            ax.set_title("square: as trained; star: fine-tuned; between: mixed weights",
                         loc="left", fontsize=9)  # fmt: skip
            ax.set_xlabel("zero-shot accuracy on all other tasks [fraction]")
            ax.set_ylabel(f"accuracy on {task} [fraction]")
            ax.legend()
    return figure
