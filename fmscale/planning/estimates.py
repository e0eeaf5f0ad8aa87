"""Rough durations, and how many threads a job keeps busy; `fmscale plan` measures instead."""

from __future__ import annotations

import os
from collections.abc import Iterable

from fmscale.planning.job import Job

SECONDS_PER_STEP = 3e-3  # fixed cost of an optimizer step
FLOPS_PER_SECOND = 3e10  # one core, small matrices
# A model whose step takes less than this gains nothing from a second thread.
SMALL_STEP_FLOPS = 1e11


def seconds_of(job: Job, n_steps: int) -> float:
    """Rough duration of some steps of a job."""
    flops = job.flops(job.units_per_step)["flops"]
    return n_steps * (SECONDS_PER_STEP + flops / FLOPS_PER_SECOND)


def default_threads(jobs: Iterable[Job]) -> int:
    """CPU threads of each worker: 1 where all models are small, else all cores."""
    largest = max(job.flops(job.units_per_step)["flops"] for job in jobs)
    return 1 if largest < SMALL_STEP_FLOPS else cores()


def cores() -> int:
    """CPU cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
