"""A sweep whose jobs run in processes that a library or a scheduler starts.

Each job is one trunk with its runs, in one process. The parent learns what happens from the run
store alone; from the crew it learns only which jobs have come to an end.
"""

from __future__ import annotations

import os
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass

from fmscale.job import Branch, Job
from fmscale.launching.carry_out import Order
from fmscale.launching.display import SweepDisplay, print_outcome
from fmscale.launching.outlets import reach_outlets
from fmscale.launching.pool import Event, Pool, Task
from fmscale.launching.sweep import (
    check_all,
    check_limits,
    check_options,
    default_threads,
    key_of,
    left_to_train,
    prepared,
    seconds_of,
    submit,
)
from fmscale.planner import study_of, unfinished
from fmscale.runs.store import RunFolder
from fmscale.world import World, check_world

TRAINED_IN_VAIN = ("failed", "oom")  # states with a reason that the job itself has noted


class Crew(ABC):
    """Those who carry out orders, somewhere else."""

    world = World()  # of each job

    @abstractmethod
    def width(self, n_jobs: int) -> int:
        """How many of `n_jobs` jobs may run at the same time, for an estimate of hours."""

    @abstractmethod
    def start(self, orders: dict[int, Order], keys: dict[int, str]) -> None:
        """Hand out all orders at once.

        Args:
            orders: by index of the job.
            keys: a name of each job that stays the same from sweep to sweep.

        Raises:
            ConfigError: if they cannot be handed out.
        """

    @abstractmethod
    def ended(self) -> dict[int, str]:
        """Jobs that no process works on any more, and how that is said to a person."""

    @abstractmethod
    def leave(self, *, finished: bool) -> None:
        """The parent goes; `finished` is False if jobs may still be at work."""


@dataclass(frozen=True)
class Options:
    """What all crews have in common."""

    n_threads: int | None = None  # CPU threads of a job; None: 1 for small models, else all
    on_error: str = "continue"  # with the other jobs, or "stop" the sweep at the first failure
    max_retries: int = 0  # of a failed trunk or run, in its job's process
    poll_seconds: float = 2.0  # between two looks at the store and the crew


def run_remote_sweep(jobs: list[Job], crew: Crew, options: Options) -> bool:
    """Train what is missing of all jobs' runs; the counterpart of `run_sweep`.

    Returns:
        True if a run failed or was lost.

    Raises:
        ConfigError: before any training, if a job's parts cannot be built, the sweep would cost
            more than its limits, or the crew cannot be reached.
    """
    check_options(options.on_error, options.max_retries)
    jobs = prepared(jobs)
    for job in jobs:
        check_world(job, crew.world)
    todo = left_to_train(jobs)
    if not todo:
        return False
    small = default_threads(jobs) == 1
    n_threads = options.n_threads or (1 if small else None)
    waiting = {index: job for index, job in enumerate(jobs) if unfinished(job)}
    check_limits(jobs, crew.width(len(waiting)))
    reach_outlets(job.config for job in jobs)
    with Pool(1, n_threads or default_threads(jobs)) as pool:
        check_all(pool, list(waiting.values()))
    submit(jobs)

    orders = {
        index: Order(job.config, os.getcwd(), n_threads, options.max_retries)
        for index, job in waiting.items()
    }
    total = {branch.run_id: seconds_of(job, job.marginal_steps(branch)) for job, branch in todo}
    n_done = sum(len(job.branches) for job in jobs) - len(todo)
    watch = Watch(jobs, waiting)
    finished = False
    crew.start(orders, {index: key_of(job) for index, job in waiting.items()})
    try:
        with SweepDisplay(jobs, total, n_done=n_done) as display:
            while not watch.is_over:
                # First who has ended, then the store: an ended job's last words are in it.
                for event in watch.look(crew.ended()):
                    display.update(event, watch.failed)
                if options.on_error == "stop" and watch.failed:
                    break
                if not watch.is_over:
                    time.sleep(options.poll_seconds)
        finished = watch.is_over
    finally:
        crew.leave(finished=finished)
    print_outcome(jobs, watch.failed)
    return bool(watch.failed)


class Watch:
    """Follows jobs by what they write into the run store."""

    def __init__(self, jobs: list[Job], waiting: dict[int, Job]) -> None:
        """Args:
        jobs: all jobs of the sweep.
        waiting: those with something to train, by index.
        """
        self.failed: dict[str, str] = {}  # run id -> reason
        self._open = {index: list(unfinished(job)) for index, job in waiting.items()}
        self._jobs = jobs
        self._tasks: dict[tuple[int, str | None], Task] = {}

    @property
    def is_over(self) -> bool:
        return not self._open

    def look(self, ended: dict[int, str]) -> list[Event]:
        """What has happened since the last look.

        Args:
            ended: jobs without a process; what is not finished of them is lost.
        """
        events: list[Event] = []
        for index, branches in list(self._open.items()):
            events += self._progress(index, branches)
            still = [b for b in branches if not self._folder(index, b).is_finished()]
            events += [self._event(index, b, "done") for b in branches if b not in still]
            if index in ended:
                events += [self._lose(index, branch, ended[index]) for branch in still]
                still = []
            self._open[index] = still
            if not still:
                del self._open[index]
        return events

    def _progress(self, index: int, branches: list[Branch]) -> Iterator[Event]:
        job = self._jobs[index]
        trunk = study_of(job).trunk(job.trunk_id)
        places = [(None, trunk), *((b, self._folder(index, b)) for b in branches)]
        for branch, folder in places:
            status = folder.status()
            if status is not None and status["state"] == "running":
                event = self._event(index, branch, "progress")
                event.fields["step"] = status["step"]
                yield event
            elif branch is None and status is not None and (index, None) in self._tasks:
                yield self._event(index, None, "done")
                del self._tasks[index, None]

    def _lose(self, index: int, branch: Branch, how: str) -> Event:
        folder = self._folder(index, branch)
        status = folder.status()
        if status is not None and status["state"] in TRAINED_IN_VAIN:
            reason = status["reason"]
        else:
            reason = f"{how}; the same command goes on with it"
            step = status["step"] if status is not None else 0
            folder.set_status("interrupted", step=step, n_steps=branch.n_steps, reason=how)
        self.failed[branch.run_id] = reason
        event = self._event(index, branch, "failed")
        event.fields["reason"] = reason
        return event

    def _folder(self, index: int, branch: Branch) -> RunFolder:
        return study_of(self._jobs[index]).run(branch.run_id)

    def _event(self, index: int, branch: Branch | None, name: str) -> Event:
        run_id = branch.run_id if branch is not None else None
        kind = "branch" if branch is not None else "trunk"
        job = self._jobs[index]
        task = self._tasks.setdefault(
            (index, run_id), Task(kind, job.config, run_id=run_id, job=index)
        )
        return Event(task, name)
