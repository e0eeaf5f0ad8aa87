"""Sizes, colours and ticks: a context manager, applied while drawing and never on import."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from analysis.outputs import replacing

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SETTINGS: dict[str, Any] = {
    "figure.dpi": 110,
    "savefig.dpi": 160,
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e6e6e6",
    "grid.linewidth": 0.7,
    "axes.axisbelow": True,
    "legend.frameon": True,
    "legend.framealpha": 0.85,
    "legend.edgecolor": "none",
    "legend.fontsize": 8.5,
    "svg.fonttype": "none",
    "svg.hashsalt": "fmscale",  # the same figure gives the same file
}

# Okabe & Ito's palette, readable with any color vision.
PALETTE = ("#E69F00", "#D55E00", "#0072B2", "#009E73", "#CC79A7", "#222222")
HELD_OUT: dict[str, Any] = {"marker": "D", "s": 50, "facecolors": "none", "linewidths": 1.6}
# Letters of a law -> words on an axis.
LABELS = {
    "N": "parameters N",
    "D": "training data D",
    "C": "training compute C [FLOPs]",
    "S": "optimizer steps S",
    "U": "unique data U",
    "L": "loss L",
    "x": "x",
}
UNITS = {
    "flops": "training compute C [FLOPs]",
    "batch_size": "batch size [pairs]",
    "n_params_total": "parameters N (all)",
    "n_params_non_embedding": "parameters N (without embeddings)",
    "n_params_matmul": "parameters N (matrix products)",
    "n_tokens": "training tokens D",
    "n_samples": "training samples seen D",
    "n_units": "training units D",
    "val_loss": "validation loss [nats]",
    "zero_shot_error": "zero-shot error [fraction]",
}

MOST_SIZES = 9  # of a figure: of more sizes every few have a curve and an entry in the legend
MANY = 2000  # points; a vector graphic holds more of them as one picture


@contextmanager
def style() -> Iterator[None]:
    import matplotlib

    with matplotlib.rc_context(SETTINGS):  # type: ignore[arg-type]
        yield


@contextmanager
def drawing(ax: Axes | None, width: float = 6.4, height: float = 4.4) -> Iterator[Axes]:
    """The given axes, or those of a new figure, drawn on in this style."""
    with style():
        yield new_figure(width, height)[1] if ax is None else ax


def new_figure(width: float = 6.4, height: float = 4.4, **grid: Any) -> tuple[Figure, Any]:
    """A figure outside pyplot's registry (no display, no leak) and its axes: one, or a grid of
    them by the options of `Figure.subplots`."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.subplots(**grid)


def save(figure: Any, stem: Path) -> list[Path]:
    """PNG and SVG beside each other, without a date inside."""
    paths = [stem.with_name(f"{stem.name}.png"), stem.with_name(f"{stem.name}.svg")]
    with style():  # the salt of SVG ids is read when saving
        with replacing(paths[0]) as temporary:
            figure.savefig(temporary)
        figure.set_layout_engine("none")  # the layout just found holds for the second file
        with replacing(paths[1]) as temporary:
            figure.savefig(temporary, metadata={"Date": None})
    return paths


def save_axes(ax: Axes, path: str) -> None:
    """Write the figure an axes belongs to; the ending chooses the format."""
    figure = ax.get_figure(root=True)
    if figure is None:
        raise ValueError("these axes belong to no figure")
    try:
        with replacing(path) as temporary:
            figure.savefig(temporary)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def outside_legend(ax: Axes, title: str | None = None) -> None:
    """The legend beside the axes: formulas are long and must not hide points."""
    ax.legend(loc="upper left", bbox_to_anchor=(1.005, 1.0), borderaxespad=0.0, title=title)


def axis_label(letter: str, column: str | None = None) -> str:
    if column in UNITS:
        return UNITS[column]
    if column is not None and letter in ("x", "metric"):
        return column
    base = LABELS.get(letter, letter)
    return base if column in (None, letter) else f"{base} ({column})"


def size_colors(sizes: Sequence[float]) -> dict[float, tuple[float, float, float, float]]:
    """One colour per size, dark to light with growing size."""
    from matplotlib import colormaps

    unique = sorted(set(sizes))
    place = np.linspace(0.0, 0.88, len(unique)) if len(unique) > 1 else np.array([0.4])
    return {s: colormaps["viridis"](float(v)) for s, v in zip(unique, place, strict=True)}


def some_sizes(sizes: Sequence[float]) -> list[float]:
    """The different sizes in order: all of a few, else every few, the largest among them."""
    unique = sorted(set(sizes))
    return sorted({*unique[:: -(-len(unique) // MOST_SIZES)], unique[-1]})


def short_number(value: float) -> str:
    """12345678 -> 12.3M."""
    for factor, suffix in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= factor:
            return f"{value / factor:.3g}{suffix}"
    return f"{value:.3g}"


def log_tick_steps(low: float, high: float) -> list[float]:
    """Which multiples of a power of ten to write at a logarithmic metric axis; [] for a long one.

    A library's own ticks are powers of ten with bare digits between them, which say nothing on an
    axis from 1.3 to 2.6.
    """
    if not 0 < low < high < 1000 * low:
        return []
    finer = (np.arange(1, 10, step).tolist() for step in (1, 0.5, 0.2, 0.1, 0.05, 0.02))
    for steps in ([1.0, 2.0, 5.0], [1.0, 2.0, 3.0, 5.0], *finer):
        if len(_multiples(steps, low, high)) >= 4:
            return steps
    return []


def log_tick_values(low: float, high: float) -> list[float]:
    """The ticks of `log_tick_steps` between two values, in order."""
    return _multiples(log_tick_steps(low, high), low, high)


def _multiples(steps: list[float], low: float, high: float) -> list[float]:
    powers = range(int(np.floor(np.log10(low))), int(np.floor(np.log10(high))) + 1)
    values = [round(step * 10.0**power, 12) for power in powers for step in steps]
    return [value for value in values if low <= value <= high]


def log_ticks(axis: Any) -> None:
    """A few readable ticks on a logarithmic metric axis of less than three decades."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    steps = log_tick_steps(*sorted(axis.get_view_interval()))
    if steps:
        axis.set_major_locator(LogLocator(base=10, subs=steps, numticks=12))
        axis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:g}"))
        axis.set_minor_formatter(NullFormatter())


def draw_floor(ax: Axes, floor: float) -> None:
    """A dashed line at the lowest expected value that the data allow, which is always shown."""
    low, high = ax.get_ylim()
    margin = floor / 1.15 if ax.get_yscale() == "log" else floor - 0.04 * (high - floor)
    ax.set_ylim(min(low, margin), high)
    ax.axhline(floor, color="#444444", ls="--", lw=1.1, zorder=2, label=f"floor {floor:.3g}")
