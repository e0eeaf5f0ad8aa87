"""One job in a process that somebody else started: a joblib worker, a Slurm task, a Ray task."""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from fmscale.build import build_shape
from fmscale.job import Branch, Job
from fmscale.launching.outlets import reach_outlets
from fmscale.launching.sweep import cores
from fmscale.planner import study_of, unfinished
from fmscale.runs.lock import in_turn
from fmscale.world import World, check_world


@dataclass(frozen=True)
class Order:
    """What such a process is told; plain values, fixed when the sweep is submitted."""

    config: dict[str, Any]  # of the job, resolved: editing conf/ later changes nothing
    folder: str  # relative paths in the configuration start here
    n_threads: int | None  # CPU threads; None: all cores the process may use
    max_retries: int = 0  # of a trunk or a run, after a failure


def carry_out(order: Order) -> dict[str, str]:
    """Train a job's trunk and then its runs; one that fails does not stop the others.

    Returns:
        Reasons of failed runs by run id; the run store says the rest.
    """
    os.chdir(order.folder)

    import torch

    torch.set_num_threads(order.n_threads or cores())
    from fmscale.training.fit import fit_along
    from fmscale.training.ranks import follow, joined

    job = Job.plan(order.config, build_shape(order.config))
    check_world(job, world := World.here())
    if world.leads:
        reach_outlets([job.config])  # from here, not from where the sweep was submitted
    with joined(world) as ranks:
        if ranks is None:
            return train_in_turn(job, order.max_retries)
        if world.leads:
            return train_together(job)
        follow(ranks, fit_along)
    return {}


def train_together(job: Job) -> dict[str, str]:
    """Rank 0 of several trains what is missing of a job.

    Raises:
        Exception: what stopped a run; the other processes cannot go on with the next one then.
    """
    from fmscale.training.run import train_branch, train_trunk
    from fmscale.training.supervision import fail_branches

    try:
        in_turn(functools.partial(train_trunk, job))
    except Exception as error:
        fail_branches(job, error)
        raise
    for branch in unfinished(job):
        in_turn(functools.partial(train_branch, job, branch))
    return {}


def train_in_turn(job: Job, max_retries: int = 0) -> dict[str, str]:
    """Train what is missing of a job in this process, the trunk first."""
    from fmscale.launching.tasks import run_task  # imports torch and Lightning

    def attempt(kind: str, run_id: str | None = None) -> str | None:
        task = {"kind": kind, "config": job.config, "run_id": run_id, "halvings": 0}
        action = functools.partial(run_task, task, lambda event: None)
        return _first_success(lambda: in_turn(action), 1 + max_retries)

    failed: dict[str, str] = {}
    if job.trunk_steps and unfinished(job):
        reason = attempt("trunk")
        if reason is not None:
            failed = {branch.run_id: reason for branch in _stranded(job)}
    for branch in unfinished(job):
        if branch.run_id not in failed:
            reason = attempt("branch", branch.run_id)
            if reason is not None:
                failed[branch.run_id] = reason
    return failed


def _first_success(action: Callable[[], Any], attempts: int) -> str | None:
    """Try until it succeeds; the reason of the last failure, or None."""
    reason = None
    for _ in range(attempts):
        try:
            action()
        except Exception as error:  # status and traceback are in the run's folder by now
            reason = f"{type(error).__name__}: {error}".splitlines()[0]
            print(reason, file=sys.stderr)
        else:
            return None
    return reason


def _stranded(job: Job) -> list[Branch]:
    """Runs that a failed trunk left without a place to start from."""
    from fmscale.training import checkpoint

    saved = checkpoint.steps_saved(study_of(job).trunk(job.trunk_id).checkpoints)
    return [b for b in unfinished(job) if b.branch_step and b.branch_step not in saved]
