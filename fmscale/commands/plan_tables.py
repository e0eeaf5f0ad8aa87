"""What a plan costs, as a person reads it: tables of sizes and runs, and what sharing saves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table

from fmscale.config.build import build_data
from fmscale.data.item_order import supplies
from fmscale.planning.estimates import cores, default_threads
from fmscale.planning.job import Branch, Job
from fmscale.planning.store_plan import StorePlan
from fmscale.planning.sweep import Sweep
from fmscale.runs.identity import short_number

MIN_GAIN = 1.15  # bf16 must be so many times as fast to be worth a word


@dataclass(frozen=True)
class Speed:
    """Measured on this machine for one model size."""

    seconds_per_step: float
    seconds_eval: float
    bf16_speedup: float | None = None  # of a run in fp32: how many times as fast bf16 steps are


@dataclass(frozen=True)
class Bill:
    """Sums over a sweep: what is left to train, and what it would be without sharing."""

    flops: float  # left to train
    flops_fresh: float  # with shared trunks, from an empty store
    flops_apart: float  # every run by itself, from an empty store
    seconds: float | None  # of work, for what is left; None: not measured
    seconds_apart: float | None


def print_plan(sweep: Sweep, speeds: dict[str, Speed], price: float | None) -> None:
    """Print the tables of sizes and runs, and the totals.

    Args:
        speeds: by trunk id; empty: no times.
        price: dollars per hour of this machine, or None.

    Raises:
        ConfigError: after the tables, if what is left exceeds the sweep's limits.
    """
    jobs, plans = sweep.jobs, sweep.plans
    total = bill(plans, speeds)
    n_threads = default_threads(jobs)
    n_workers = max(1, cores() // n_threads)
    console = Console()
    console.print(sizes_table(jobs, speeds))
    if jobs[0].shape.forward_macs():
        console.print(towers_table(jobs))
    if "sources" in jobs[0].config["data"]:
        console.print(sources_table(jobs))
    hourly = None if price is None else price / n_workers
    console.print(runs_table(plans, speeds, hourly))
    for line in [*summary(plans, total), *advice(jobs, speeds)]:
        console.print(line, highlight=False)
    if total.seconds is None or total.seconds_apart is None:
        sweep.check_limits(n_workers)
        return
    hours, apart = (s / n_workers / 3600 for s in (total.seconds, total.seconds_apart))
    console.print(
        f"Time on this machine: {clock(total.seconds)} of work, about {clock(hours * 3600)} on "
        f"{n_workers} workers of {n_threads} thread{'s' if n_threads > 1 else ''} (measured for "
        f"every size just now); {clock((apart - hours) * 3600)} saved.",
        highlight=False,
    )
    if price is not None:
        console.print(
            f"Price: {dollars(hours * price)} at {dollars(price)} an hour for the machine; "
            f"{dollars((apart - hours) * price)} saved.",
            highlight=False,
        )
    sweep.check_limits(n_workers, total.seconds)


def bill(plans: Sequence[StorePlan], speeds: dict[str, Speed]) -> Bill:
    """Add up a sweep.

    Args:
        speeds: by trunk id; empty: no times.
    """
    seconds = seconds_apart = None
    if speeds:
        seconds = sum(_seconds(plan, b, speeds) for plan in plans for b in plan.left)
        seconds_apart = sum(
            b.n_steps * _seconds_per_step(plan, speeds) + speeds[plan.job.trunk_id].seconds_eval
            for plan in plans
            for b in plan.branches
        )
    return Bill(
        flops=sum(plan.flops for plan in plans),
        flops_fresh=sum(plan.flops_fresh for plan in plans),
        flops_apart=sum(plan.flops_apart for plan in plans),
        seconds=seconds,
        seconds_apart=seconds_apart,
    )


def sizes_table(jobs: list[Job], speeds: dict[str, Speed]) -> Table:
    """One row a model size: parameters under each convention, compute, learning rate."""
    unit = jobs[0].shape.unit
    table = Table(title=f"{jobs[0].config['study']}: sizes", title_justify="left", pad_edge=False)
    table.add_column("model", no_wrap=True)
    for name in ("N\ntotal", "N\nnon-emb", "N\nmatmul", f"FLOP\n/{unit[:-1]}", "lr", "s/step"):
        table.add_column(name, justify="right", no_wrap=True)
    rows = {}
    for job in jobs:
        shape, speed = job.shape, speeds.get(job.trunk_id)
        per_unit = shape.train_flops_per_unit(job.config["batch_size"])["flops"]
        rows[shape.label, job.lr_peak] = (
            shape.label,
            short_number(shape.n_params_total),
            short_number(shape.n_params_non_embedding),
            short_number(shape.n_params_matmul),
            short_number(per_unit),
            f"{job.lr_peak:.3g}",
            "" if speed is None else f"{speed.seconds_per_step:.4f}",
        )
    for row in rows.values():
        table.add_row(*row)
    return table


def towers_table(jobs: list[Job]) -> Table:
    """One row a model: multiply-adds of one image, one caption, ..., forward alone.

    Radford et al. 2021, Fig. 9, count these and call them FLOPs; here one is two FLOPs.
    """
    table = Table(
        title=f"{jobs[0].config['study']}: forward pass\n(1 MAC = 2 FLOP)", title_justify="left"
    )
    table.add_column("model", no_wrap=True)
    for part in jobs[0].shape.forward_macs():
        table.add_column(f"MAC/{'caption' if part == 'text' else part}", justify="right")
    for shape in {job.shape.label: job.shape for job in jobs}.values():
        table.add_row(shape.label, *map(short_number, shape.forward_macs().values()))
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


def runs_table(plans: Sequence[StorePlan], speeds: dict[str, Speed], hourly: float | None) -> Table:
    """One row a run; time and price are what it adds to what is left to train.

    Steps and the other count of FLOPs make room for them: the table fits 80 columns.

    Args:
        hourly: dollars for an hour of one worker's work, or None.
    """
    unit = plans[0].job.shape.unit
    table = Table(title=f"{plans[0].job.config['study']}: runs", title_justify="left")
    table.add_column("model")
    extra = [*(["time"] if speeds else []), *(["price"] if speeds and hourly is not None else []),
             "steps", "6 N D"][:2]  # fmt: skip
    for name in ("seed", f"D ({unit})", "C (FLOP)", *extra):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("work", no_wrap=True)
    for plan in plans:
        for branch in plan.branches:
            flops = plan.job.flops(branch.n_units)
            seconds = _seconds(plan, branch, speeds) if speeds else 0.0
            cells = {
                "time": clock(seconds),
                "price": dollars(seconds / 3600 * (hourly or 0.0)),
                "steps": str(branch.n_steps),
                "6 N D": f"{flops['flops_6nd']:.3g}",
            }
            table.add_row(
                plan.job.shape.label,
                str(plan.job.config["seed"]),
                short_number(branch.n_units),
                f"{flops['flops']:.3g}",
                *(cells[name] for name in extra),
                plan.work(branch),
            )
    return table


def summary(plans: Sequence[StorePlan], total: Bill) -> list[str]:
    """The lines below the tables."""
    n_done = sum(len(plan.done) for plan in plans)
    n_adopted = sum(len(plan.adopted) for plan in plans)
    n_left = sum(len(plan.left) for plan in plans)
    extended = sum(any(s.start for s in plan.segments) for plan in plans)
    taken = f"{n_adopted} from other studies, " if n_adopted else ""
    on = f"; of {extended}, a checkpoint is there to go on from" if extended else ""
    saved = 1 - total.flops_fresh / total.flops_apart
    return [
        f"{n_done + n_adopted + n_left} runs from {len(plans)} trunk{'s'[: len(plans) > 1]}: "
        f"{n_done} done, {taken}"
        f"{n_left} left{on}. C counts matrix products and full attention; time is what a run adds: "
        "its share of the trunk, its cooldown and its evaluation.",
        f"Compute: {total.flops:.3g} FLOP left; all runs together {total.flops_fresh:.3g}, each by "
        f"itself {total.flops_apart:.3g}: branching saves {saved:.0%}, the store "
        f"{total.flops_fresh - total.flops:.3g} FLOP more.",
    ]


def advice(jobs: Sequence[Job], speeds: Mapping[str, Speed]) -> list[str]:
    """A line if bf16 would train some sizes clearly faster here."""
    gains = {job.shape.label: speeds[job.trunk_id].bf16_speedup for job in jobs if speeds}
    faster = [f"{x:.1f} times ({label})" for label, x in gains.items() if x and x >= MIN_GAIN]
    if not faster:
        return []
    return [
        f"bf16 would be as fast as fp32 {', '.join(faster)}: trainer.precision=bf16-mixed. Choose "
        "one precision for a whole study; it is part of a run's id."
    ]


def _seconds(plan: StorePlan, branch: Branch, speeds: dict[str, Speed]) -> float:
    """Work that one run adds to what is left to train."""
    speed = speeds[plan.job.trunk_id]
    return plan.steps_of(branch) * _seconds_per_step(plan, speeds) + (
        speed.seconds_eval if branch in plan.left else 0.0
    )


def _seconds_per_step(plan: StorePlan, speeds: dict[str, Speed]) -> float:
    """Evaluations on the way included."""
    speed, every = speeds[plan.job.trunk_id], plan.job.trainer.evaluate_every_steps
    return speed.seconds_per_step + (speed.seconds_eval / every if every is not None else 0.0)


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
