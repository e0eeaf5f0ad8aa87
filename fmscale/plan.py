"""What a sweep will cost: sizes, steps, FLOPs, time and price, before a FLOP is spent."""

from __future__ import annotations

import argparse
from dataclasses import dataclass

from hydra import compose, initialize_config_module
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from rich.console import Console
from rich.table import Table

from fmscale.build import build_data
from fmscale.data.order import supplies
from fmscale.job import Job
from fmscale.launching import register_launchers
from fmscale.launching.pool import Pool, Task
from fmscale.launching.sweep import (
    check_all,
    check_limits,
    cores,
    default_threads,
    distinct,
    unfinished,
)
from fmscale.runs.identity import short_number
from fmscale.settings import ConfigError, config_errors_exit
from fmscale.train import plan_job

EXAMPLE = """\
examples:
  fmscale plan experiment=gpt_demo
  fmscale plan experiment=gpt_demo --price 2.50
  fmscale plan model=gpt_2x64,gpt_4x128 budget.tokens=[1e6,2e6] --no-measure
  fmscale plan experiment=gpt_demo limits.max_hours=1
"""


@dataclass(frozen=True)
class Speed:
    """Measured on this machine for one model size."""

    seconds_per_step: float
    seconds_eval: float


def expand(overrides: list[str]) -> list[Job]:
    """All jobs of a sweep, planned as the launcher would.

    Args:
        overrides: as on the command line of `fmscale sweep`.

    Raises:
        ConfigError: for a configuration that could not be trained.
    """
    register_launchers()
    parser = OverridesParser.create()
    try:
        with initialize_config_module("conf", version_base="1.3"):
            given = parser.parse_overrides(overrides)
            single = [o.input_line for o in given if not o.is_sweep_override() and o.input_line]
            base = compose("train", overrides=single, return_hydra_config=True)
            in_preset = [
                f"{key}={value}" for key, value in (base.hydra.sweeper.params or {}).items()
            ]
            grid = parser.parse_overrides([*in_preset, *overrides])
            (combinations,) = BasicSweeper.split_arguments(grid, max_batch_size=None)
            return distinct([plan_job(compose("train", overrides=c)) for c in combinations])
    except HydraException as error:
        raise ConfigError(str(error)) from error


def measure(jobs: list[Job]) -> dict[str, Speed]:
    """Train a few steps of each size in worker processes, as a sweep would.

    Returns:
        Speed by `trunk_id`; jobs of the same shape and batch are measured once.
    """
    measured: dict[tuple[str, int], Speed] = {}
    representative = {(job.shape.label, job.units_per_step): job for job in jobs}
    keys = list(representative)
    n_threads = default_threads(jobs)
    console = Console()
    with Pool(max(1, cores() // n_threads), n_threads) as pool:
        with console.status("checking the configuration"):
            check_all(pool, list(representative.values()))
        with console.status("measuring a few steps of each size") as status:
            tasks = [Task("speed", representative[key].config, job=i) for i, key in enumerate(keys)]
            for event in pool.run(tasks):
                if event.name == "failed":
                    raise ConfigError(event.fields["reason"])
                measured[keys[event.task.job]] = Speed(**event.fields["result"])
                status.update(f"measured {len(measured)} of {len(keys)} sizes")
    return {job.trunk_id: measured[job.shape.label, job.units_per_step] for job in jobs}


def print_plan(jobs: list[Job], speeds: dict[str, Speed], price: float | None) -> None:
    """Print the table of runs and the totals.

    Args:
        speeds: by trunk id; empty: no times.
        price: dollars per hour of this machine, or None.
    """
    console = Console()
    console.print(sizes_table(jobs, speeds))
    if "sources" in jobs[0].config["data"]:
        console.print(sources_table(jobs))
    total = Totals()
    console.print(runs_table(jobs, speeds, price, total))
    for line in summary(jobs, total, price):
        console.print(line, highlight=False)
    if total.seconds is None:
        check_limits(jobs, n_workers=max(1, cores() // default_threads(jobs)))
    else:
        hours = total.seconds / max(1, cores() // default_threads(jobs)) / 3600
        jobs[0].limits.check(total.flops, hours, "measured")


def sizes_table(jobs: list[Job], speeds: dict[str, Speed]) -> Table:
    """One row a model size: parameters under each convention, compute, learning rate."""
    unit = jobs[0].shape.unit
    table = Table(title=f"{jobs[0].config['study']}: sizes", title_justify="left")
    table.add_column("model")
    for name in ("N total", "N non-emb", "N matmul", f"FLOP/{unit[:-1]}", "lr", "s/step"):
        table.add_column(name, justify="right")
    rows = {}
    for job in jobs:
        shape, speed = job.shape, speeds.get(job.trunk_id)
        per_unit = shape.train_flops_per_unit(job.config["batch_size"])["flops"]
        rows[shape.label, job.lr_peak] = (
            shape.label,
            short_number(shape.n_params_total),
            short_number(shape.n_params_non_embedding),
            short_number(shape.n_params_matmul),
            f"{per_unit:.3g}",
            f"{job.lr_peak:.3g}",
            "" if speed is None else f"{speed.seconds_per_step:.4f}",
        )
    for row in rows.values():
        table.add_row(*row)
    return table


def sources_table(jobs: list[Job]) -> Table:
    """One row a source of the first job's mixture: share, unique data, passes at each budget."""
    job = jobs[0]
    data = build_data(job.config)
    lengths = sorted({branch.n_units for each in jobs for branch in each.branches})
    shown = lengths if len(lengths) <= 5 else [lengths[0], lengths[-1]]
    unit = job.shape.unit
    table = Table(title=f"{job.config['study']}: sources", title_justify="left")
    table.add_column("source")
    for name in ("share", f"unique {unit}", *(f"epochs at {short_number(n)}" for n in shown)):
        table.add_column(name, justify="right")
    for supply in supplies(data):
        unique = supply.n_items * data.units_per_item
        epochs = [f"{n * supply.share / unique:.3g}" for n in shown]
        name = supply.name.rsplit(".", 1)[-1]
        table.add_row(name, f"{supply.share:.1%}", short_number(unique), *epochs)
    return table


def runs_table(
    jobs: list[Job], speeds: dict[str, Speed], price: float | None, total: Totals
) -> Table:
    """One row a run; adds each to `total`."""
    unit = jobs[0].shape.unit
    table = Table(title=f"{jobs[0].config['study']}: runs", title_justify="left")
    table.add_column("model")
    shown = ["seed", f"D ({unit})", "steps", "C (FLOP)", "6 N D"]
    shown += ["time"] if speeds else []
    shown += ["price"] if speeds and price is not None else []
    for name in shown:
        table.add_column(name, justify="right", no_wrap=True)
    for job in jobs:
        speed = speeds.get(job.trunk_id)
        for branch in job.branches:
            flops = job.flops(branch.n_units)
            seconds = None
            if speed is not None:
                steps = job.marginal_steps(branch)
                seconds = steps * speed.seconds_per_step + speed.seconds_eval
            total.add(job.marginal_flops(branch), flops["flops"], seconds)
            cost = None if price is None or seconds is None else seconds / 3600 * price
            row = [
                job.shape.label,
                str(job.config["seed"]),
                short_number(branch.n_units),
                str(branch.n_steps),
                f"{flops['flops']:.3g}",
                f"{flops['flops_6nd']:.3g}",
            ]
            row += [] if seconds is None else [clock(seconds)]
            row += [] if cost is None else [dollars(cost)]
            table.add_row(*row)
    return table


@dataclass
class Totals:
    """Sums over the runs of a plan."""

    flops: float = 0.0  # with shared trunks
    flops_apart: float = 0.0  # every run by itself
    seconds: float | None = None

    def add(self, flops: float, flops_apart: float, seconds: float | None) -> None:
        self.flops += flops
        self.flops_apart += flops_apart
        if seconds is not None:
            self.seconds = (self.seconds or 0.0) + seconds


def summary(jobs: list[Job], total: Totals, price: float | None) -> list[str]:
    """The lines below the table."""
    n_runs = sum(len(job.branches) for job in jobs)
    n_left = sum(len(unfinished(job)) for job in jobs)
    saved = 1 - total.flops / total.flops_apart
    lines = [
        f"{n_runs} runs from {len(jobs)} trunks; {n_runs - n_left} done, {n_left} left. "
        "C counts matrix products and full attention; time is each run's share of its trunk, "
        "its cooldown and its evaluation.",
        f"Compute: {total.flops:.3g} FLOP; each run by itself {total.flops_apart:.3g}; "
        f"branching saves {saved:.0%}.",
    ]
    if total.seconds is not None:
        n_threads = default_threads(jobs)
        n_workers = max(1, cores() // n_threads)
        lines.append(
            f"Time on this machine: {clock(total.seconds)} of work, about "
            f"{clock(total.seconds / n_workers)} on {n_workers} workers of {n_threads} "
            f"thread{'s' if n_threads > 1 else ''} (measured for every size just now)."
        )
        if price is not None:
            cost = total.seconds / n_workers / 3600 * price
            lines.append(f"Price: {dollars(cost)} at {dollars(price)} an hour for the machine.")
    return lines


def clock(seconds: float) -> str:
    """A duration as a person says it."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    if seconds < 3600:
        return f"{int(seconds // 60)}:{int(seconds % 60):02d} min"
    return f"{seconds / 3600:.1f} h"


def dollars(amount: float) -> str:
    """Dollars with enough digits to see small amounts."""
    return f"${amount:.2f}" if amount >= 1 else f"${amount:.2g}"


def main() -> None:
    """Entry point of `fmscale plan`."""
    parser = argparse.ArgumentParser(
        prog="fmscale plan",
        description=__doc__,
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("overrides", nargs="*", help="as for fmscale sweep")
    parser.add_argument("--price", type=float, metavar="DOLLARS", help="per hour of this machine")
    parser.add_argument(
        "--no-measure", action="store_true", help="skip the timed steps: no torch, no times"
    )
    options = parser.parse_intermixed_args()
    with config_errors_exit():
        jobs = expand(options.overrides)
        speeds = {} if options.no_measure else measure(jobs)
        print_plan(jobs, speeds, options.price)


if __name__ == "__main__":
    main()
