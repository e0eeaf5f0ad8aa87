"""fmscale-analysis next: which runs would narrow a forecast's interval most for their price."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from analysis.cli.ladder import Ground, planned_run, stand_on
from analysis.cli.options import add_json_option, add_table_options, write_json
from analysis.cli.screen import table_text
from analysis.decision import told
from analysis.forecasting.answer import rows_of
from analysis.forecasting.optimum import best_place
from analysis.laws.law import Array
from analysis.next_runs import Plan, make_pool, plan_runs, trunks_of
from analysis.numerals import parse_unit
from analysis.practice import choice

EXAMPLE = (
    "fmscale-analysis next runs/my_study --flops 1e21 --budget 1e18; "
    "fmscale-analysis next runs.csv --n params --d tokens --c flops --loss loss --flops 1e21 "
    "--budget 1e18"
)


def add(parsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = parsers.add_parser(
        "next",
        help="which runs to train next, for the narrowest forecast at a target",
        description="Proposes runs at sizes and data budgets of the ladder, between them, a step "
        "below and up to three beyond, with the interval to be expected after each. Branches of a "
        "run store's trunks are priced at what they add. It ends where no run that can be "
        "afforded narrows the interval by 1 %. Ask again after a few runs: what they show changes "
        "the plan.",
        epilog=f"example: {EXAMPLE}",
    )
    add_table_options(parser)
    parser.add_argument("--cluster", metavar="COLUMN", help="rows that weigh as one run")
    parser.add_argument("--flops", help="the target: training FLOPs, 1e24, best allocated")
    parser.add_argument("--budget", required=True, help="FLOPs that the proposed runs may add")
    parser.add_argument("--level", type=float, default=0.95)
    add_json_option(parser)
    parser.set_defaults(run=run, hold_out=None)


def run(args: argparse.Namespace) -> int:
    planned = planned_run(args)
    if (planned is None) == (args.flops is None):
        raise ValueError("name one target: --flops 1e21, or one run by numbers --n 7e9 --d 140e9")
    target = None if args.flops is None else positive("--flops", args.flops)
    budget = positive("--budget", args.budget)
    if not 0 < args.level < 1:
        raise ValueError(f"level={args.level}: between 0 and 1")
    ground = stand_on(args)
    if ground.rule is None and ground.measure == "C":
        raise ValueError("--x with --c: the price of a run is that of its --x; leave out --c")
    x = place_of(ground, target, planned)
    size = ground.size(x)
    (row,) = rows_of(ground.forecaster, ["target"], x, size, level=args.level)
    trunks = trunks_of(ground.table.frame)
    pool = make_pool(ground.forecaster.ladder, ground.rule, trunks)
    plan = plan_runs(ground.forecaster, x, size, pool, trunks, budget)
    runs = [proposal(ground, plan, i, row) for i in range(len(plan.runs))]
    commands = sweeps(ground, runs)
    answer = {
        "source": ground.table.source, "columns": dict(ground.table.conventions),
        "n_points": len(ground.table), "level": args.level, "target": row, "budget": budget,
        "price": plan.price, "runs": runs, "reason": plan.reason, "commands": commands,
        "warnings": list(ground.table.warnings),
    }  # fmt: skip
    show(answer)
    write_json(args.json, answer)
    return 0


def positive(option: str, text: str) -> float:
    value = parse_unit(text)
    if not (np.isfinite(value) and value > 0):
        raise ValueError(f"{option} {text}: a positive number")
    return value


def place_of(
    ground: Ground, flops: float | None, planned: tuple[float, float] | None
) -> Array:  # fmt: skip
    """Logarithms (k, 1) of the run that is to be forecast."""
    if planned is not None:
        if ground.rule is None:
            raise ValueError("--n and --d by number: one planned run of a law of N and D")
        return np.log([[planned[0]], [planned[1]]])
    assert flops is not None
    if ground.rule is None:
        return np.log([[flops]])
    return best_place(ground.forecaster, flops, ground.rule)[:, None]


def proposal(ground: Ground, plan: Plan, i: int, row: dict[str, Any]) -> dict[str, Any]:
    """One run with the interval of the target to be expected after it."""
    chosen = plan.runs[i]
    letters = zip(ground.letters, np.exp(chosen.x), strict=True)
    out: dict[str, Any] = {letter: float(value) for letter, value in letters}
    if ground.rule is not None:
        out["flops"] = float(np.exp(chosen.size))
    ends = np.log([row["low"], row["high"]])
    middle = np.log(row["predicted"])
    low, high = np.exp(middle + chosen.narrowing * (ends - middle))
    return out | {
        "price": float(chosen.price), "narrowing": chosen.narrowing,
        "low": float(low), "high": float(high),
    }  # fmt: skip


def sweeps(ground: Ground, runs: Sequence[dict[str, Any]]) -> list[str]:
    """The Hydra command of each size, where the runs are of one study of a run store.

    A size's shortest budget so far is named again: it sets the warm-up and thereby the trunk.
    """
    frame = ground.table.frame
    if not {"trunk_id", "model", "study"} <= set(frame) or frame["study"].nunique() != 1:
        return []
    unit = ground.table.conventions["D"].removeprefix("n_")
    budgets: dict[float, list[int]] = {}
    for run in runs:
        budgets.setdefault(run["N"], []).append(round(run["D"]))
    out = []
    for n, wanted in budgets.items():
        same = frame[np.isclose(frame["N"], n, rtol=1e-9)]
        seed = (same if len(same) else frame).sort_values("D")["seed"].iloc[-1]
        model = choice(same["model"].iloc[0]) if len(same) else "MODEL"
        wanted += [] if same.empty else [round(same["D"].min())]
        out.append(
            f"fmscale sweep study={frame['study'].iloc[0]} model={model} seed={seed:.0f} "
            f"budget={unit} budget.{unit}=[{','.join(map(str, sorted({*wanted})))}]"
            + ("" if len(same) else f"  # MODEL: one of about {n:.3g} parameters")
        )
    return out


def show(answer: dict[str, Any]) -> None:
    row, runs = answer["target"], answer["runs"]
    print(f"the target, {row['distance']:.3g} times the largest run: loss {told(row)}")
    shown = []
    for i, run in enumerate(runs, 1):
        half = np.sqrt(run["high"] / run["low"]) - 1
        numbers = {k: f"{run[k]:.3g}" for k in ("N", "D", "x", "flops") if k in run}
        shown.append({"run": i, **numbers, "adds": f"{run['price']:.3g}",
                      "interval": f"±{half:.1%}",
                      "of now": f"{run['narrowing']:.0%}"})  # fmt: skip
    if runs:
        half = np.sqrt(row["high"] / row["low"]) - 1
        print(f"  now ±{half:.1%}; expected after each run, all before it included:")
        print(table_text(pd.DataFrame(shown), indent=2))
        print(f"  together they add {answer['price']:.3g} of {answer['budget']:.3g}")
    print(f"  {'then' if runs else 'none'}: {answer['reason']}")
    if answer["commands"]:
        print("with what else the study's own sweep was given:")
    for line in [*answer["commands"], *(f"  warning: {w}" for w in answer["warnings"])]:
        print(f"  {line}" if line.startswith("fmscale") else line)
