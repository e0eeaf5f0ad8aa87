"""Tasks in processes that a library or a scheduler starts, on this machine or elsewhere.

How a task ended, its process says; how far it is, the run store.
"""

from __future__ import annotations

import os
import time
from abc import abstractmethod
from collections.abc import Iterator
from typing import Any

from fmscale.launching.backend import Backend, Event, Report, Task
from fmscale.launching.job_process import JobSpec
from fmscale.planning.estimates import default_threads
from fmscale.planning.store_plan import study_of
from fmscale.planning.sweep import Sweep
from fmscale.runs.reuse import trunk_steps
from fmscale.runs.store import RunFolder


class Remote(Backend):
    """A backend that polls.

    Args:
        n_threads: CPU threads of a task; None: 1 where all models are small, else all.
        poll_seconds: between two looks at the store and the tasks.
    """

    is_here = False

    def __init__(self, n_threads: int | None = None, poll_seconds: float = 2.0) -> None:
        self.n_threads = n_threads
        self.poll_seconds = poll_seconds
        self.tasks: list[Task] = []  # started and not over

    def open(self, sweep: Sweep) -> int:
        self.jobs = sweep.jobs
        if self.n_threads is None and default_threads(sweep.jobs) == 1:
            self.n_threads = 1
        return len(sweep.left)

    def start(self, tasks: list[Task]) -> None:
        self.send({id(t): JobSpec(t.fields, os.getcwd(), self.n_threads) for t in tasks}, tasks)
        self.tasks += tasks

    @abstractmethod
    def send(self, specs: dict[int, JobSpec], tasks: list[Task]) -> None:
        """Hand specifications out, all at once; they are keyed by `id` of the task."""

    @abstractmethod
    def ended(self) -> dict[int, dict[str, Any]]:
        """Tasks that no process works on any more: how, as `run_job` says it."""

    def events(self, report: Report, timeout: float | None) -> None:
        # First who has ended, then the store: an ended task's last words are in it.
        ended = self.ended()
        over = [task for task in self.tasks if id(task) in ended]
        for task in self.tasks:
            for event in self.look(task):
                report(event)
        self.tasks = [task for task in self.tasks if id(task) not in ended]
        for task in over:
            report(Event.of(task, ended[id(task)]))
        if not over:
            time.sleep(self.poll_seconds if timeout is None else min(self.poll_seconds, timeout))

    def look(self, task: Task) -> Iterator[Event]:
        """How far a task is, by the run store."""
        if task.kind == "group":
            return
        job = self.jobs[task.jobs[0]]
        study = study_of(job)
        if task.run_id is not None:
            yield from running(task, study.run(task.run_id))
            return
        yield from running(task, study.trunk(job.trunk_id))
        saved = trunk_steps(study, job.trunk_id, elsewhere=False)
        for branch in job.branches:
            if branch.branch_step in saved:
                yield Event(task, "branch_ready", {"run_id": branch.run_id})


def running(task: Task, folder: RunFolder) -> Iterator[Event]:
    """The step of a task that is at work."""
    status = folder.status()
    if status is not None and status["state"] == "running":
        yield Event(task, "progress", {"step": status["step"]})
