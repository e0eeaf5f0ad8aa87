"""Jobs in a process started from outside: by a person, torchrun, joblib, Slurm or Ray."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from fmscale.config.build import build_shape
from fmscale.launching.driver import Options, run
from fmscale.launching.in_process import InProcess
from fmscale.launching.trackers import reach_trackers
from fmscale.planning.estimates import cores
from fmscale.planning.job import Job
from fmscale.planning.sweep import Sweep
from fmscale.training.distributed.world import World, check_world

T = TypeVar("T")


@dataclass(frozen=True)
class JobSpec:
    """What such a process is given; plain values, fixed when the sweep is submitted."""

    task: dict[str, Any]  # configurations are resolved: editing conf/ later changes nothing
    folder: str  # relative paths in the configurations start here
    n_threads: int | None  # CPU threads; None: all cores the process may use


def run_job(spec: JobSpec) -> dict[str, Any]:
    """Do one task, in this process and those started with it; {} where another process leads."""
    os.chdir(spec.folder)

    import torch

    from fmscale.launching.tasks import do_task

    torch.set_num_threads(spec.n_threads or cores())
    world, configs = World.here(), spec.task["configs"]
    for config in configs:
        check_world(Job.plan(config, build_shape(config)), world)
    if world.leads:
        reach_trackers(configs)  # from here, not from where the sweep was submitted
    return together(world, lambda: do_task(spec.task)) or {}


def in_process(n_threads: int | None = None, world: World | None = None) -> InProcess:
    """The backend that trains in this process, and in those that were started with it."""
    import torch

    from fmscale.launching.tasks import do_task

    if n_threads is not None:
        torch.set_num_threads(n_threads)
    return InProcess(do_task, world)


def train_job(job: Job, world: World, options: Options | None = None) -> bool:
    """Train one job in this process, as `fmscale train` does; True if a run failed."""
    backend = in_process(world=world)
    return bool(together(world, lambda: run(Sweep([job]), backend, options or Options())))


def together(world: World, lead: Callable[[], T]) -> T | None:
    """Rank 0 leads, the others train along; None is what they return."""
    from fmscale.training.distributed.ranks import follow, joined
    from fmscale.training.fit import fit_along

    with joined(world) as ranks:
        if ranks is None or world.leads:
            return lead()
        follow(ranks, fit_along)
    return None
