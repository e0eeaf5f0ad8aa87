"""fmscale-analysis plot: a stored fit as a figure."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import TYPE_CHECKING

from analysis.plot.style import save_axes
from analysis.result import FitResult

if TYPE_CHECKING:
    from matplotlib.axes import Axes

EXAMPLE = "fmscale-analysis plot fit.json --out fit.png"
KINDS = ("fit", "residuals", "tornado", "profiles")


def add(parsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = parsers.add_parser("plot", help="draw a stored fit", epilog=f"example: {EXAMPLE}")
    parser.add_argument("fit", help="fit.json written by `fit --json`")
    parser.add_argument("--kind", choices=KINDS, default="fit")
    parser.add_argument("--quantity", help="parameter of the tornado (default: the last one)")
    parser.add_argument("--out", required=True, metavar="FILE", help=".png, .svg or .pdf")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    result = FitResult.load(args.fit)
    draw: dict[str, Callable[[], Axes]] = {
        "fit": result.plot,
        "residuals": lambda: _residuals(result),
        "tornado": lambda: _tornado(result, args.quantity),
        "profiles": lambda: _profiles(result),
    }
    save_axes(draw[args.kind](), args.out)
    print(args.out)
    return 0


def _residuals(result: FitResult) -> Axes:
    from analysis.plot.fits import plot_residuals

    return plot_residuals([result])


def _tornado(result: FitResult, quantity: str | None) -> Axes:
    from analysis.plot.tornado import plot_tornado
    from analysis.sensitivity import sensitivity, tornado

    name = quantity or list(result.parameters)[-1]
    return plot_tornado(tornado(sensitivity(result), name), name)


def _profiles(result: FitResult) -> Axes:
    from analysis.plot.profiles import plot_profiles

    return plot_profiles(result)
