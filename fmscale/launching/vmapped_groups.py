"""Small runs that differ in seed and learning rate alone: which are computed at once by vmap."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import Any

from fmscale.planning.job import Job
from fmscale.runs.identity import canonical

# What may differ within a group: seeds and rates, and how the rates were chosen.
OWN = ("seed", "rules")


def groups_of(jobs: Mapping[int, Job], size: int) -> list[tuple[int, ...]]:
    """Vmapped groups of at most `size` jobs, which stand for themselves by their index.

    In none is a job that is like no other, or that is also measured on its way.
    """
    alike: dict[str, list[int]] = defaultdict(list)
    for index, job in jobs.items():
        if job.trainer.evaluate_every_steps is None:
            alike[canonical(_shared(job))].append(index)
    groups = [
        tuple(indices[first : first + size])
        for indices in alike.values()
        for first in range(0, len(indices), size)
    ]
    return [group for group in groups if len(group) > 1]


def _shared(job: Job) -> dict[str, Any]:
    """The part of a configuration that is equal throughout a group."""
    shared = {key: value for key, value in job.config.items() if key not in OWN}
    shared["optimizer"] = {k: v for k, v in job.config["optimizer"].items() if k != "lr"}
    return shared
