"""fmscale-analysis forecast: what a budget buys, or what runs will reach, with an interval.

From a table or study several laws are combined; numbers for --n and --d ask about one planned run.
A fit.json written by `fit --json` is taken as it is: its interval holds if that law is true.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

from analysis.cli.ladder import forecast_ladder
from analysis.cli.options import add_shared, add_table_options, write_json
from analysis.forecasting.registered import FOLDER
from analysis.optima.compute_optimal import ComputeRule
from analysis.optima.law_optimum import (
    Budget,
    budget_from_hours,
    forecast,
    stored_rule,
    target_loss,
)
from analysis.plot.fan import draw_fan
from analysis.plot.style import save_axes
from analysis.result import FitResult
from analysis.tables.number_formats import parse_unit

PEAK = "989T"
EXAMPLE = (
    "fmscale-analysis forecast runs.csv --n params --d tokens --c flops --loss loss --flops 1e24; "
    "fmscale-analysis forecast runs.csv --hold-out 'C > 1e20' --json f.json; "
    "fmscale-analysis forecast runs/my_study --n 7e9 --d 140e9"
)


def add_options(parser: argparse.ArgumentParser) -> None:
    option = parser.add_argument
    add_table_options(parser)
    budget = parser.add_mutually_exclusive_group()
    budget.add_argument("--flops", help="training FLOPs: 1e24, 3.6PF-days")
    budget.add_argument("--gpu-hours", type=float, help="accelerator hours (with --peak and --mfu)")
    budget.add_argument("--dollars", type=float, help="money (with --price, --peak and --mfu)")
    budget.add_argument("--target-loss", type=float, help="the loss to reach")
    option("--peak", help="peak FLOP/s of one accelerator (989T; a study: its largest run's speed)")
    option("--mfu", type=float, default=0.4, help="share of the peak reached (0.4)")
    option("--price", type=float, help="dollars per accelerator hour")
    option("--six-nd", action="store_true", help="take C = 6 N D, whatever the runs say")
    option("--serve-tokens", metavar="TOKENS", help="also pay for serving this many: 2 N each")
    option("--no-fan", action="store_true", help="of a fit: skip the other forms and conventions")
    option("--register", metavar="NAME", help="write the forecast of one run down, to be scored")
    option("--registry", type=Path, default=FOLDER, help="where (forecasts)")
    add_shared(
        parser, "cluster", "level", "json", hold_out="rows to forecast: 'C > 1e20'",
        predict="runs to forecast, same column names", plot="of a fit: draw the fan of answers",
    )  # fmt: skip


def run(args: argparse.Namespace) -> int:
    args.served = 0.0 if args.serve_tokens is None else parse_unit(args.serve_tokens)
    if args.served < 0:
        raise ValueError(f"--serve-tokens {args.serve_tokens}: not negative")
    if args.served and not budget_is_named(args):
        raise ValueError("--serve-tokens divides a budget: --flops, --gpu-hours or --dollars")
    spent = None if not budget_is_named(args) else read_budget(args)
    if not is_fit(args.table):
        forecast_ladder(args, spent, lambda budget: with_price(budget, args))
        return 0
    if args.hold_out or args.predict or args.n or args.d:
        raise ValueError(f"{args.table} is a stored fit: runs are forecast from a table or study")
    if args.register is not None:
        raise ValueError("--register takes a table or study: a fit knows one law only")
    if spent is None and args.target_loss is None:
        raise ValueError("a fit needs --flops, --gpu-hours, --dollars or --target-loss")
    result = FitResult.load(args.table)
    rule = ComputeRule() if args.six_nd else None
    if args.served:
        rule = replace(rule or stored_rule(result), served=args.served)
    answer: dict[str, Any] = {}
    if args.target_loss is not None:
        answer |= target_loss(result, args.target_loss, rule, args.level)
        budget = with_price(Budget(answer["flops"]), args)
        ends = _range(answer["flops_interval"])
        print(f"loss {args.target_loss:g} needs {budget.flops:.4g} FLOPs{ends}")
    else:
        budget = read_budget(args)
    answer |= forecast(result, budget, rule, fan=not args.no_fan, level=args.level)
    show(answer)
    if args.plot:
        save_axes(draw_fan(answer).axes[0], args.plot)
    write_json(args.json, answer)
    return 0


def is_fit(path: str) -> bool:
    """True for a file written by `fit --json`, recognized by its ending."""
    return path.lower().endswith(".json")


def budget_is_named(args: argparse.Namespace) -> bool:
    return any(v is not None for v in (args.flops, args.gpu_hours, args.dollars))


def read_budget(args: argparse.Namespace) -> Budget:
    if args.flops is not None:
        return with_price(Budget(parse_unit(args.flops)), args)
    peak = parse_unit(args.peak or PEAK)
    if args.gpu_hours is not None:
        return budget_from_hours(args.gpu_hours, peak, args.mfu, args.price)
    if not args.price:
        raise ValueError("--dollars needs --price (dollars per accelerator hour)")
    return budget_from_hours(args.dollars / args.price, peak, args.mfu, args.price)


def with_price(budget: Budget, args: argparse.Namespace) -> Budget:
    """Hours and dollars of a budget given in FLOPs, when a price is known."""
    if args.price is None:
        return budget
    hours = budget.flops / (3600 * parse_unit(args.peak or PEAK) * args.mfu)
    return Budget(budget.flops, hours, hours * args.price)


def show(answer: dict[str, Any]) -> None:
    print(f"{answer['law']}: {answer['formula']}")
    cost = "" if answer["gpu_hours"] is None else f", {answer['gpu_hours']:,.0f} accelerator hours"
    cost += "" if answer["dollars"] is None else f", ${answer['dollars']:,.0f}"
    print(f"  budget {answer['flops']:.4g} FLOPs{cost}")
    print(f"  [{answer['level']:.0%} confidence of the fitted law: {answer['interval_method']}]")
    for key, name in (("n_opt", "N*"), ("d_opt", "D*"), ("loss", "loss")):
        if answer.get(key) is not None:
            print(f"  {name:>5} = {answer[key]:.5g}{_range(answer.get(f'{key}_interval'))}")
    if answer.get("new_run_interval"):
        ends = _range(answer["new_run_interval"])
        print(f"  one new run: {answer['level']:.0%} of its losses{ends}")
    if "compute_rule" in answer:
        ratio = answer["tokens_per_parameter"]
        told = "no finite optimum" if ratio is None else f"D*/N* = {ratio:.3g}"
        print(f"  C = {answer['compute_rule']}; {told}")
    print(f"  {answer['decades_beyond']:.2f} decades beyond the largest run")
    for row in answer.get("fan", []):
        if "refused" in row:
            print(f"    {row['variant']}: refused, {row['refused']}")
        elif row["n_opt"] is None:
            print(f"    {row['variant']}: no finite optimum")
        else:
            places = f"N* {row['n_opt']:.4g}, D* {row['d_opt']:.4g}"
            print(f"    {row['variant']}: {places}, loss {row['loss']:.4f}")
    for warning in answer["warnings"]:
        print(f"  warning: {warning}")


def _range(interval: list[float | None] | None) -> str:
    if interval is None:
        return "  [no interval]"
    low, high = ("open" if v is None else f"{v:.5g}" for v in interval)
    return f"  [{low}, {high}]"
