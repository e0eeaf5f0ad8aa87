"""fmscale-analysis plot: a stored fit as a figure."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import TYPE_CHECKING

from analysis.plot import plot_fit, plot_residuals
from analysis.plot.profiles import plot_profiles
from analysis.plot.style import save_axes
from analysis.plot.tornado import plot_tornado
from analysis.result import FitResult
from analysis.sensitivity import sensitivity, tornado

if TYPE_CHECKING:
    from matplotlib.axes import Axes

EXAMPLE = "fmscale-analysis plot fit.json --out fit.png"
KINDS: dict[str, Callable[[FitResult, str | None], Axes]] = {
    "fit": lambda result, _: plot_fit(result),
    "residuals": lambda result, _: plot_residuals([result]),
    "tornado": lambda result, quantity: draw_tornado(result, quantity),
    "profiles": lambda result, _: plot_profiles(result),
}


def add_options(parser: argparse.ArgumentParser) -> None:
    option = parser.add_argument
    option("fit", help="fit.json written by `fit --json`")
    option("--kind", choices=KINDS, default="fit")
    option("--quantity", help="parameter of the tornado (default: the last one)")
    option("--out", required=True, metavar="FILE", help=".png, .svg or .pdf")


def run(args: argparse.Namespace) -> int:
    save_axes(KINDS[args.kind](FitResult.load(args.fit), args.quantity), args.out)
    print(args.out)
    return 0


def draw_tornado(result: FitResult, quantity: str | None) -> Axes:
    name = quantity or list(result.parameters)[-1]
    return plot_tornado(tornado(sensitivity(result), name), name)
