"""Small runs that differ in seed and learning rate alone, trained side by side in one process."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from fmscale.job import Job
from fmscale.launching.pool import Pool, Task
from fmscale.planner import unfinished
from fmscale.runs.identity import canonical

# What may differ within a pack: seeds and rates, and how the rates were chosen.
OWN = ("seed", "rules")


def packs_of(jobs: Sequence[Job], size: int) -> list[list[Job]]:
    """Unfinished jobs in packs of at most `size`; in none is one that is like no other, or that is
    also measured on its way.
    """
    alike: dict[str, list[Job]] = defaultdict(list)
    for job in jobs:
        if unfinished(job) and job.trainer.evaluate_every_steps is None:
            alike[canonical(_shared(job))].append(job)
    packs = [
        group[first : first + size]
        for group in alike.values()
        for first in range(0, len(group), size)
    ]
    return [pack for pack in packs if len(pack) > 1]


def train_packs(pool: Pool, packs: Sequence[Sequence[Job]]) -> None:
    """Train trunks and cooldowns of all packs; what fails is left to be trained one by one."""
    tasks = [
        Task("pack", {"jobs": [job.config for job in pack]}, weight=_flops(pack), job=number)
        for number, pack in enumerate(packs)
    ]
    columns = (
        TextColumn("  {task.description}"), BarColumn(bar_width=30),
        TextColumn("{task.percentage:>3.0f} %"), TimeRemainingColumn(),
    )  # fmt: skip
    n_runs = sum(len(job.branches) for pack in packs for job in pack)
    with Progress(*columns) as progress:
        bar = progress.add_task(f"{n_runs} runs in {len(packs)} packs", total=len(packs))
        for event in pool.run(tasks):
            if event.name == "failed":
                label = packs[event.task.job][0].shape.label
                progress.console.print(
                    f"  {label}: not packed ({event.fields['reason']}); trained one by one",
                    highlight=False,
                )
            if event.name in ("done", "failed"):
                progress.advance(bar)


def _shared(job: Job) -> dict[str, Any]:
    """The part of a configuration that is equal throughout a pack."""
    shared = {key: value for key, value in job.config.items() if key not in OWN}
    shared["optimizer"] = {k: v for k, v in job.config["optimizer"].items() if k != "lr"}
    return shared


def _flops(pack: Sequence[Job]) -> float:
    return sum(job.marginal_flops(branch) for job in pack for branch in job.branches)
