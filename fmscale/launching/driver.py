"""How a sweep is trained, whatever its backend: what comes next, and what a failure means."""

from __future__ import annotations

import dataclasses
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from fmscale.errors import ConfigError
from fmscale.launching.backend import Backend, Event, Task
from fmscale.launching.display import SweepDisplay, print_outcome
from fmscale.launching.preflight import check_all, prepare, submit
from fmscale.launching.trackers import reach_trackers
from fmscale.launching.vmapped_groups import groups_of
from fmscale.planning.estimates import seconds_of
from fmscale.planning.job import Branch, Job
from fmscale.planning.store_plan import study_of
from fmscale.planning.sweep import Sweep
from fmscale.training.distributed.world import check_world

ON_ERROR = ("continue", "stop")


@dataclass(frozen=True)
class Options:
    """What a person may ask of every launcher; ConfigError for values that make no sense."""

    on_error: str = "continue"  # with the other runs, or "stop" the sweep at the first failure
    max_retries: int = 0  # of a failed task, from its last checkpoint
    max_halvings: int = 0  # of the micro-batch of a job that ran out of memory
    vmap: int = 1  # jobs that differ in seed and learning rate alone, computed at once by vmap

    def __post_init__(self) -> None:
        least = min(self.max_retries, self.max_halvings, self.vmap - 1)
        if self.on_error not in ON_ERROR or least < 0:
            given = ", ".join(f"{key}={value!r}" for key, value in reversed(vars(self).items()))
            raise ConfigError(
                f"hydra.launcher.{given}: choose 1 or more jobs at once, 0 or more retries and "
                f"halvings, and {' or '.join(ON_ERROR)}"
            )

    @staticmethod
    def of(launcher: Mapping[str, Any]) -> Options:
        """Those among the options of a launcher; what it does not have is left as it is."""
        names = [option.name for option in dataclasses.fields(Options)]
        return Options(**{name: launcher[name] for name in names if name in launcher})


def run(sweep: Sweep, backend: Backend, options: Options) -> bool:
    """Train what is missing of a sweep's runs.

    Every run's configuration is stored before the first one starts: what is edited afterwards
    changes nothing, and `fmscale retry` trains what was asked for.

    Returns:
        True if a run failed or was lost.

    Raises:
        ConfigError: before any training, if a job's parts cannot be built, the sweep would cost
            more than its limits, or the backend cannot be reached.
    """
    began = time.monotonic()
    for job in sweep.jobs:
        check_world(job, backend.world)
    prepare(sweep)
    if not sweep.left:
        names = sorted({str(job.config["study"]) for job in sweep.jobs})
        print(
            f"Nothing to train: all {sweep.n_runs} runs of {', '.join(names)} are complete "
            f"(checked in {time.monotonic() - began:.1f} s)."
        )
        return False
    sweep.check_limits(backend.open(sweep))
    reach_trackers(job.config for job in sweep.jobs)  # processes do as the one that starts them
    with backend:
        check_all([sweep.jobs[index] for index in sweep.left], backend)
        submit(sweep)
        failed = train(sweep, backend, options)
    print_outcome(sweep.jobs, failed)
    return bool(failed)


def train(sweep: Sweep, backend: Backend, options: Options, halvings: int = 0) -> dict[str, str]:
    """Have a backend do all tasks of a submitted sweep; returns reasons by failed run's id."""
    state = SweepState(sweep, options, halvings)
    with SweepDisplay(sweep) as display:

        def follow(event: Event) -> list[Task]:
            tasks = state.follow(event)
            display.update(event)
            return tasks

        backend.run(
            state.first_tasks(whole_jobs=backend.whole_jobs),
            follow,
            until=lambda: options.on_error == "stop" and bool(state.failed),
        )
    return state.failed


class SweepState:
    """Which tasks have been handed out, and how runs ended."""

    def __init__(self, sweep: Sweep, options: Options, halvings: int = 0) -> None:
        self.jobs = sweep.jobs
        self.left = {index: list(branches) for index, branches in sweep.left.items()}
        self.options = options
        self.scheduled: set[str] = set()  # run ids
        self.failed: dict[str, str] = {}  # run id -> reason
        self.attempts: Counter[tuple[str, tuple[int, ...], str | None]] = Counter()
        self.halvings = dict.fromkeys(self.left, halvings)  # by job

    def first_tasks(self, *, whole_jobs: bool = False) -> list[Task]:
        """Vmapped groups, trunks, and the branches of jobs that share none.

        Args:
            whole_jobs: trunks with their branches as one task instead, and groups likewise.
        """
        groups = groups_of({i: self.jobs[i] for i in self.left}, self.options.vmap)
        grouped = {index for group in groups for index in group}
        alone = [index for index in self.left if index not in grouped]
        if whole_jobs:
            units = sorted([*groups, *((index,) for index in alone)])
            return [self._task("job", unit) for unit in units]
        tasks = [self._task("group", group) for group in groups]
        return tasks + [task for index in alone for task in self._of_job(index)]

    def follow(self, event: Event) -> list[Task]:
        """Tasks that can start after an event."""
        task = event.task
        if event.name == "failed" and task.kind != "group":
            return self._try_again(event)
        if event.name == "branch_ready":
            index, ready = task.jobs[0], event.fields["run_id"]
            return self._branch_tasks(index, [b for b in self.left[index] if b.run_id == ready])
        if event.name not in ("done", "failed"):
            return []
        if task.kind == "group":  # whatever failed in it is tried again one by one
            return [new for index in task.jobs for new in self._of_job(index)]
        if task.kind == "trunk":
            # A trunk that diverged has no checkpoint for these; they are recorded as diverged.
            return self._branch_tasks(task.jobs[0], self.left[task.jobs[0]])
        return []

    def _of_job(self, index: int) -> list[Task]:
        if self.jobs[index].trunk_steps:
            return [self._task("trunk", (index,))]
        return self._branch_tasks(index, self.left[index])

    def _branch_tasks(self, index: int, branches: Iterable[Branch]) -> list[Task]:
        new = [branch for branch in branches if branch.run_id not in self.scheduled]
        self.scheduled |= {branch.run_id for branch in new}
        return [self._task("branch", (index,), branch) for branch in new]

    def _task(self, kind: str, jobs: tuple[int, ...], branch: Branch | None = None) -> Task:
        weight = 0.0  # until the end of the longest run
        for job, longest in ((self.jobs[i], self.left[i][-1]) for i in jobs):
            begin = branch.branch_step if branch else 0
            weight += seconds_of(job, (branch or longest).n_steps - begin)
        return Task(
            kind,
            [self.jobs[index].config for index in jobs],
            branch.run_id if branch is not None else None,
            self.halvings[jobs[0]],
            dataclasses.asdict(self.options),
            jobs,
            weight,
        )

    def _try_again(self, event: Event) -> list[Task]:
        """The failed task once more, as often as allowed; else its runs are noted as failed."""
        task, halved = event.task, event.task.halvings + 1
        if event.fields.get("final"):
            pass  # it has retried by itself, or was canceled
        elif event.fields["state"] == "oom" and halved <= self.options.max_halvings:
            try:
                for index in task.jobs:
                    self.jobs[index].halved(halved)
            except ConfigError as error:
                event.fields["reason"] += f" (and {error})"
            else:
                for index in task.jobs:
                    self.halvings[index] = max(self.halvings[index], halved)
                return [dataclasses.replace(task, halvings=halved)]
        else:
            key = (task.kind, task.jobs, task.run_id)
            self.attempts[key] += 1
            if self.attempts[key] <= self.options.max_retries:
                return [task]
        lost = [
            (index, branch)
            for index in task.jobs
            for branch in self.left[index]
            if branch.run_id == task.run_id
            or (task.run_id is None and branch.run_id not in self.scheduled)
        ]
        noted = [b.run_id for i, b in lost if self._note_failure(self.jobs[i], b, event)]
        event.fields["lost"] = noted
        return []

    def _note_failure(self, job: Job, branch: Branch, event: Event) -> bool:
        """Keep the reason, and write a killed run's status; False if it finished all the same."""
        folder = study_of(job).run(branch.run_id)
        whole_job = event.task.kind == "job"
        if whole_job and folder.is_finished():
            return False
        state, reason = event.fields["state"], event.fields["reason"]
        status = folder.status()
        noted = status["state"] if status is not None else None
        if whole_job and status is not None and noted in ("failed", "oom"):
            self.failed[branch.run_id] = status["reason"]  # in its own words
            return True
        again = "; the same command resumes it" if state == "interrupted" else ""
        self.failed[branch.run_id] = f"{reason}{again}"
        unsaid = noted in (None, "queued", "running") or (whole_job and noted == "interrupted")
        at_work = folder.is_at_work() and not whole_job  # a scheduler knows better than a lock
        if unsaid and folder.path.is_dir() and not at_work:  # it was killed
            step = status["step"] if status is not None else 0
            try:
                folder.set_status(state, step=step, n_steps=branch.n_steps, reason=reason)
            except OSError as error:  # a full disk must not end the sweep without its reason
                self.failed[branch.run_id] += f" (and {error})"
        return True
