"""fmscale-analysis gain: is another recipe worth adopting?"""

from __future__ import annotations

import argparse

import numpy as np
import pandas as pd

from analysis.cli.options import add_shared, add_table_options, groups_of, read_mapped, write_json
from analysis.cli.screen import table_text, wrapped
from analysis.gain import FLOORS, Gain, Ladder, gain
from analysis.plot.gain import plot_gain
from analysis.plot.style import save_axes
from analysis.tables.envelope import SAME
from analysis.tables.filters import positive_values
from analysis.tables.groups import label_groups
from analysis.tables.number_formats import parse_unit
from analysis.tables.table import RunTable, TableError

EXAMPLE = "fmscale-analysis gain adamw.csv muon.csv --c flops --loss loss --target 1e21"


def add_options(parser: argparse.ArgumentParser) -> None:
    option = parser.add_argument
    add_table_options(parser)
    option("other", nargs="?", help="table of the other recipe, of the same columns; or --by")
    option("--base", metavar="VALUE", help="with --by: today's recipe, if not the first")
    option("--target", metavar="FLOPS", help="where to decide; default: largest rung")
    option("--floor", default="shared", help="of the loss: a number, shared (default) or free")
    option("--alpha", metavar="A[,B]", help="pin the exponent, or that of each recipe")
    option("--throughput", metavar="COLUMN", help="units a second, for hours")
    add_shared(parser, "level", "json", by="column of one table whose two values are the recipes",
               plot="figure of the gain against compute")  # fmt: skip


def run(args: argparse.Namespace) -> int:
    base, other = (ladder(name, table, args) for name, table in recipes(args))
    found = gain(
        base,
        other,
        target=None if args.target is None else parse_unit(args.target),
        floor=args.floor if args.floor in FLOORS else _number(args.floor, "--floor"),
        alpha=_exponents(args.alpha),
        level=args.level,
    )
    write_json(args.json, found.to_dict())
    if args.plot:
        save_axes(plot_gain(found), args.plot)
    print("\n".join(lines(found)))
    return 0


def recipes(args: argparse.Namespace) -> list[tuple[str, RunTable]]:
    """Names and rows of the two recipes, today's first."""
    if (args.by is None) == (args.other is None):
        raise TableError("name two tables, or one and the column of its recipes: --by COLUMN")
    table = read_mapped(args)
    if args.by is None:
        second = read_mapped(argparse.Namespace(**{**vars(args), "table": args.other}))
        return [(str(args.table), table), (str(args.other), second)]
    groups = groups_of(table, args.by)
    if len(groups) != 2:
        names = ", ".join(name for name, _ in groups)
        raise TableError(f"--by {args.by} has {len(groups)} values ({names}): keep two by --where")
    if args.base is not None:
        if args.base not in dict(groups):
            raise TableError(f"--base {args.base!r}: {args.by} is {' or '.join(dict(groups))}")
        groups.sort(key=lambda group: group[0] != args.base)
    return groups


def ladder(name: str, table: RunTable, args: argparse.Namespace) -> Ladder:
    """A recipe's runs by compute; several of one compute count as their best."""
    x = "C" if "C" in table.conventions else "x"
    if x not in table.conventions:
        raise TableError("name the column of the training FLOPs: --c COLUMN")
    table = positive_values(table, [x], "metric")
    frame = pd.DataFrame({"compute": table.numbers(x), "loss": table.numbers("metric")})
    if args.throughput is not None:
        frame["speed"] = table.numbers(args.throughput)
    frame = frame.dropna()
    frame["rung"] = label_groups(frame["compute"].to_numpy(float), SAME)
    frame = frame.sort_values(["rung", "loss"]).drop_duplicates("rung")
    beaten = frame["loss"] > frame["loss"].cummin().shift()
    if beaten.any() and not args.envelope:
        raise TableError(
            f"{name}: {int(beaten.sum())} runs are worse than cheaper ones, so these are not one "
            "run a rung; keep the frontier with --envelope pareto, or name rows by --where"
        )
    speed = frame["speed"].to_numpy(float) if args.throughput is not None else None
    return Ladder(name, frame["compute"].to_numpy(float), frame["loss"].to_numpy(float), speed)


def lines(found: Gain) -> list[str]:
    """The verdict first, then the rungs, the laws, and what would decide."""
    band = "no interval"
    if found.low is not None or found.high is not None:
        low = "0" if found.low is None else f"{found.low:.3g}"
        high = "inf" if found.high is None else f"{found.high:.3g}"
        band = f"{found.level:.0%} interval {low} to {high}"
    hours = "" if found.hours is None else f", {found.hours:.3g} times the hours"
    verdict = (
        f"{found.verdict.capitalize()}: at {found.target:.3g} FLOPs {found.base} needs "
        f"{found.at_target:.3g} times the compute of {found.other}{hours} ({band}): {found.reason}."
    )
    out = [wrapped(verdict)]
    if found.rungs:
        rungs = pd.DataFrame(found.rungs).drop(columns="speed").dropna(axis=1, how="all")
        out += ["At the rungs that both have, from the two losses:", table_text(rungs)]
    out += [
        f"  {name}: L = {law['E']:.4g} + {law['A']:.4g} C^-{law['alpha']:.4g}"
        for name, law in found.laws.items()
    ]
    if np.isfinite(found.residual):
        freedom = f"{found.degrees} degrees of freedom"
        out.append(f"  scatter {found.residual:.2%} of the loss, {freedom}")
    if found.next_run is not None:
        run = found.next_run
        effect = "would decide" if run["decides"] else "would not decide: the interval becomes"
        following = (
            f"Next: one run of each at {run['compute']:.3g} FLOPs {effect} "
            f"({run['low']:.3g} to {run['high']:.3g}), if the gain stays what it is."
        )
        out.append(wrapped(following))
    return out


def _exponents(text: str | None) -> float | tuple[float, float] | None:
    if text is None:
        return None
    numbers = [_number(part, "--alpha") for part in text.split(",")]
    if len(numbers) > 2 or min(numbers) <= 0:
        raise TableError(f"--alpha {text!r}: one positive number, or one for each recipe")
    return numbers[0] if len(numbers) == 1 else (numbers[0], numbers[1])


def _number(text: str, option: str) -> float:
    try:
        return float(text)
    except ValueError as error:
        raise TableError(f"{option} {text!r}: a number is expected") from error
