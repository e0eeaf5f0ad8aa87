"""One job in this process: what `fmscale train` does without a sweep."""

from __future__ import annotations

import functools
from typing import Any

from fmscale.job import Job
from fmscale.launching.display import SweepDisplay, print_outcome
from fmscale.launching.outlets import reach_outlets
from fmscale.launching.pool import Event, Task
from fmscale.launching.sweep import check_limits, drop_broken, seconds_of, submit
from fmscale.planner import study_of, unfinished
from fmscale.runs.lock import in_turn
from fmscale.training.fit import fit_along
from fmscale.training.ranks import follow, joined
from fmscale.training.run import check, train_branch, train_trunk
from fmscale.training.supervision import fail_branches
from fmscale.world import World


def train_job(job: Job, world: World) -> None:
    """Train the trunk, then each run; finished runs are left alone.

    Args:
        world: the processes that train together; each of them comes here.
    """
    with joined(world) as ranks:
        if ranks is None or world.leads:
            _train_job(job)
        else:
            follow(ranks, fit_along)


def _train_job(job: Job) -> None:
    drop_broken(study_of(job), {branch.run_id for branch in job.branches})
    check_limits([job], n_workers=1)
    check(job)
    submit([job])
    todo = unfinished(job)
    if not todo:
        print(f"Nothing to train: all {len(job.branches)} runs are complete.")
        return
    reach_outlets([job.config])
    expected = {b.run_id: seconds_of(job, job.marginal_steps(b)) for b in todo}
    with SweepDisplay([job], expected, n_done=len(job.branches) - len(todo)) as display:

        def show(task: Task, message: dict[str, Any]) -> None:
            display.update(_event(task, message), {})

        if job.trunk_steps:
            task = Task("trunk", job.config)
            try:
                in_turn(functools.partial(train_trunk, job, functools.partial(show, task)))
            except Exception as error:
                fail_branches(job, error)
                raise
            show(task, {"event": "done"})
        for branch in todo:
            task = Task("branch", job.config, branch.run_id)
            report = functools.partial(show, task)
            in_turn(functools.partial(train_branch, job, branch, report))
            show(task, {"event": "done"})
    print_outcome([job], {})


def _event(task: Task, message: dict[str, Any]) -> Event:
    fields = dict(message)
    return Event(task, fields.pop("event"), fields)
