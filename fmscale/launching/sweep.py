"""A sweep: which runs are missing, which task comes next, what the person at the screen sees."""

from __future__ import annotations

import dataclasses
import os
import tempfile
import time
from collections import Counter
from collections.abc import Collection, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fmscale import config_text
from fmscale.build import build_shape
from fmscale.job import Branch, Job
from fmscale.launching.display import SweepDisplay, print_outcome
from fmscale.launching.outlets import reach_outlets, tell_of_copies
from fmscale.launching.packs import packs_of, train_packs
from fmscale.launching.pool import Event, Pool, Task
from fmscale.planner import merge, study_of, take_over, unfinished
from fmscale.runs.files import Broken
from fmscale.runs.identity import canonical, digest
from fmscale.runs.index import set_broken_aside
from fmscale.runs.store import Study, check_name
from fmscale.settings import ConfigError
from fmscale.sizing import counted_as
from fmscale.trust import stored_config
from fmscale.world import World, check_world

ON_ERROR = ("continue", "stop")
# Rough cost model for ordering tasks and for the ETA's weights; `fmscale plan` measures instead.
SECONDS_PER_STEP = 3e-3  # fixed cost of an optimizer step
FLOPS_PER_SECOND = 3e10  # one core, small matrices
SUBMITTERS = 8  # threads that write configurations
# A model whose step takes less than this gains nothing from a second thread.
SMALL_STEP_FLOPS = 1e11


@dataclass
class SweepState:
    """Which tasks have been handed out, and how runs ended."""

    jobs: list[Job]
    scheduled: set[str] = field(default_factory=set)  # run ids
    failed: dict[str, str] = field(default_factory=dict)  # run id -> reason
    max_retries: int = 0  # of one task, after a failure
    max_halvings: int = 0  # of a job's micro-batch, after it ran out of memory
    attempts: Counter[tuple[int, str | None]] = field(default_factory=Counter)
    halvings: Counter[int] = field(default_factory=Counter)  # by job

    def first_tasks(self) -> list[Task]:
        """Trunks, and the branches of jobs that share none."""
        tasks = []
        for index, job in enumerate(self.jobs):
            open_branches = unfinished(job)
            if not open_branches:
                continue
            if job.trunk_steps:
                weight = seconds_of(job, job.trunk_steps + open_branches[-1].cooldown_steps)
                tasks.append(Task("trunk", job.config, weight=weight, job=index))
            else:
                tasks += [self._branch_task(index, branch) for branch in open_branches]
        return tasks

    def follow(self, event: Event) -> list[Task]:
        """Branches that can start after an event."""
        index = event.task.job
        job = self.jobs[index]
        if event.name == "branch_ready":
            branch = next(b for b in job.branches if b.run_id == event.fields["run_id"])
            return self._new_branch_tasks(index, [branch])
        if event.name == "done" and event.task.kind == "trunk":
            # A trunk that diverged has no checkpoint for these; they are recorded as diverged.
            return self._new_branch_tasks(index, unfinished(job))
        if event.name == "failed":
            return self._try_again(event, job)
        return []

    def _try_again(self, event: Event, job: Job) -> list[Task]:
        """The failed task once more, as often as allowed; else its runs are noted as failed."""
        task, index = event.task, event.task.job
        halved = task.halvings + 1
        if event.fields["state"] == "oom" and halved <= self.max_halvings:
            try:
                job.halved(halved)
            except ConfigError as error:
                event.fields["reason"] += f" (and {error})"
            else:
                self.halvings[index] = max(self.halvings[index], halved)
                return [dataclasses.replace(task, halvings=halved)]
        else:
            self.attempts[index, task.run_id] += 1
            if self.attempts[index, task.run_id] <= self.max_retries:
                return [task]
        self._note_failure(event, job)
        return []

    def _new_branch_tasks(self, index: int, branches: Iterable[Branch]) -> list[Task]:
        new = [b for b in branches if b.run_id not in self.scheduled]
        return [self._branch_task(index, branch) for branch in new]

    def _branch_task(self, index: int, branch: Branch) -> Task:
        self.scheduled.add(branch.run_id)
        job = self.jobs[index]
        weight = seconds_of(job, branch.n_steps - branch.branch_step)
        return Task("branch", job.config, branch.run_id, weight, index, self.halvings[index])

    def _note_failure(self, event: Event, job: Job) -> None:
        """Keep the reason; write the status where the worker could not."""
        if event.task.run_id is not None:
            lost = [event.task.run_id]
        else:
            lost = [b.run_id for b in unfinished(job) if b.run_id not in self.scheduled]
        study = study_of(job)
        for run_id in lost:
            self.failed[run_id] = event.fields["reason"]
            folder = study.run(run_id)
            status = folder.status()
            unsaid = status is None or status["state"] in ("queued", "running")
            if unsaid and folder.path.is_dir() and not folder.is_at_work():  # it was killed
                n_steps = next(b.n_steps for b in job.branches if b.run_id == run_id)
                state, reason = event.fields["state"], event.fields["reason"]
                step = status["step"] if status else 0
                try:
                    folder.set_status(state, step=step, n_steps=n_steps, reason=reason)
                except OSError as error:  # a full disk must not end the sweep without its reason
                    self.failed[run_id] += f" (and {error})"


def run_sweep(
    jobs: list[Job],
    *,
    n_workers: int | None,
    n_threads: int | None,
    on_error: str = "continue",
    max_retries: int = 0,
    max_halvings: int = 0,
    pack: int = 1,
) -> bool:
    """Train what is missing of all jobs' runs.

    Every run's configuration is stored before the first one starts: what is edited afterwards
    changes nothing, and `fmscale retry` trains what was asked for.

    Args:
        jobs: planned jobs; those with the same trunk and budgets are trained once.
        n_workers: processes; None: cores divided by threads.
        n_threads: CPU threads of each; None: 1 where all models are small, else all cores.
        on_error: "continue" with the other runs, or "stop" the sweep at the first failure.
        max_retries: how often a failed task is tried again, from its last checkpoint.
        max_halvings: how often a task that ran out of memory is tried again with half the
            micro-batch and twice the accumulation.
        pack: how many jobs that differ in seed and learning rate alone are computed at once.

    Returns:
        True if a run failed.

    Raises:
        ConfigError: before any training, if a job's parts cannot be built or the sweep would cost
            more than its limits.
    """
    check_options(on_error, max_retries, max_halvings, pack)
    jobs = prepared(jobs)
    for job in jobs:
        check_world(job, World())  # a worker is one process
    todo = left_to_train(jobs)
    if not todo:
        return False

    n_threads = n_threads or default_threads(jobs)
    n_workers = n_workers or max(1, cores() // n_threads)
    check_limits(jobs, n_workers)
    state = SweepState(jobs, max_retries=max_retries, max_halvings=max_halvings)
    reach_outlets(job.config for job in jobs)  # before workers start: they do as this process does
    with Pool(min(n_workers, len(todo)), n_threads) as pool:
        check_all(pool, [job for job in jobs if unfinished(job)])
        submit(jobs)
        if packs := packs_of(jobs, pack):
            train_packs(pool, packs)
        total = {branch.run_id: seconds_of(job, job.marginal_steps(branch)) for job, branch in todo}
        n_done = sum(len(job.branches) for job in jobs) - len(todo)
        with SweepDisplay(jobs, total, n_done=n_done) as display:
            for event in pool.run(state.first_tasks(), state.follow):
                display.update(event, state.failed)
                if on_error == "stop" and state.failed:
                    break
    print_outcome(jobs, state.failed)
    return bool(state.failed)


def check_options(on_error: str, max_retries: int, max_halvings: int = 0, pack: int = 1) -> None:
    """Refuse launcher options that mean nothing.

    Raises:
        ConfigError: naming them.
    """
    if pack < 1:
        raise ConfigError(f"hydra.launcher.pack={pack} must be 1 (off) or the runs in a pack")
    if on_error not in ON_ERROR or max_retries < 0 or max_halvings < 0:
        raise ConfigError(
            f"hydra.launcher.on_error={on_error!r}, max_retries={max_retries}, "
            f"max_halvings={max_halvings}: choose {' or '.join(ON_ERROR)}, and 0 or more retries"
        )


def left_to_train(jobs: list[Job]) -> list[tuple[Job, Branch]]:
    """Runs without a record, with their jobs; says so if there are none."""
    began = time.monotonic()
    branches = [(job, branch) for job in jobs for branch in job.branches]
    todo = [(job, branch) for job, branch in branches if branch in unfinished(job)]
    if not todo:
        names = sorted({str(job.config["study"]) for job in jobs})
        print(
            f"Nothing to train: all {len(branches)} runs of {', '.join(names)} are complete "
            f"(checked in {time.monotonic() - began:.1f} s)."
        )
    return todo


def check_limits(jobs: list[Job], n_workers: int) -> None:
    """Refuse a sweep whose remaining runs cost more than any job's limits.

    Raises:
        ConfigError: naming the limit. Hours are those of a rough model of this machine;
            `fmscale plan` measures them.
    """
    left = [(job, branch) for job in jobs for branch in unfinished(job)]
    flops = sum(job.marginal_flops(branch) for job, branch in left)
    seconds = sum(seconds_of(job, job.marginal_steps(branch)) for job, branch in left)
    for job in jobs:
        job.limits.check(flops, seconds / n_workers / 3600, "estimated; fmscale plan measures it")


def submit(jobs: list[Job]) -> None:
    """Write the jobs' runs into the store: the manifest, and each configuration, resolved.

    Raises:
        ConfigError: if the store cannot be written.
    """
    try:
        for study, its_jobs in _by_study(jobs).items():
            plan = {k: v for job in its_jobs for k, v in planned(job).items()}
            try:
                study.extend_manifest(plan)
            except Broken as error:
                os.replace(error.path, f"{error.path}.broken")
                study.extend_manifest({**_stored_plan(study), **plan})
                print(f"broken: {error.path} {error.problem}; it is written again from the "
                      "configurations of the runs")  # fmt: skip
        # Each file waits for the disk: several at once wait together.
        with ThreadPoolExecutor(SUBMITTERS) as submitters:
            list(submitters.map(_submit_run, ((job, b) for job in jobs for b in unfinished(job))))
    except OSError as error:
        raise _cannot_write(error) from error


def _by_study(jobs: Iterable[Job]) -> dict[Study, list[Job]]:
    found: dict[Study, list[Job]] = {}
    for job in jobs:
        found.setdefault(study_of(job), []).append(job)
    return found


def _stored_plan(study: Study) -> dict[str, dict[str, Any]]:
    """What a manifest says of the runs whose configurations lie in the study."""
    plan: dict[str, dict[str, Any]] = {}
    for folder in study.runs():
        try:
            config = stored_config(folder)
            plan |= planned(Job.plan(config, build_shape(config)))
        except ValueError as error:  # its own configuration is broken, or of another release
            print(f"{folder.path}: {error}")
    return plan


def _submit_run(run: tuple[Job, Branch]) -> None:
    job, branch = run
    folder = study_of(job).run(branch.run_id)
    if folder.is_at_work():
        return  # another sweep has submitted it
    folder.create(config_text.write(job.branch_config(branch)))
    if folder.status() is None:
        folder.set_status("queued", n_steps=branch.n_steps)


def check_store(runs_dir: str | Path, study: str) -> None:
    """Refuse a store that cannot be written, or a study outside it, before anything is composed.

    Raises:
        ConfigError: naming the folder.
    """
    try:
        check_name(study, "study")
    except ValueError as error:
        raise ConfigError(str(error)) from error
    try:
        Path(runs_dir).mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=runs_dir):
            pass
    except OSError as error:
        raise _cannot_write(OSError(error.errno, error.strerror, str(runs_dir))) from error


def _cannot_write(error: OSError) -> ConfigError:
    return ConfigError(f"{error}; paths.runs_dir must be a folder that can be written")


def check_all(pool: Pool, jobs: list[Job]) -> None:
    """Have the workers build every job's parts and prepare the data; one seed stands for all.

    Raises:
        ConfigError: with the reasons, if any job cannot be trained as configured.
    """
    problems = []
    different = {canonical({**job.config, "seed": None}): i for i, job in enumerate(jobs)}
    for event in pool.run([Task("check", jobs[i].config, job=i) for i in different.values()]):
        if event.name == "failed":
            reason = event.fields["reason"].removeprefix("ConfigError: ")
            problems.append(f"{jobs[event.task.job].shape.label}: {reason}")
    if problems:
        raise ConfigError("nothing was trained\n  " + "\n  ".join(sorted(set(problems))))


def planned(job: Job) -> dict[str, dict[str, Any]]:
    """What the manifest keeps of each run."""
    return {
        branch.run_id: {
            "trunk_id": job.trunk_id,
            "model": job.shape.label,
            "seed": job.config["seed"],
            f"n_{counted_as(job.shape.unit)}": branch.n_units,
            "n_steps": branch.n_steps,
            "branch_step": branch.branch_step,
            "flops": job.flops(branch.n_units)["flops"],
        }
        for branch in job.branches
    }


def prepared(jobs: list[Job]) -> list[Job]:
    """The jobs, one a trunk, after what other studies have trained has been taken over.

    Records that cannot be read are set aside: their runs are measured again.
    """
    jobs = merge(jobs)
    for study, its_jobs in _by_study(jobs).items():
        drop_broken(study, {branch.run_id for job in its_jobs for branch in job.branches})
    if taken := take_over(jobs):
        print(
            f"Trained for another study before, and taken over from there: {len(taken)} of "
            f"{sum(len(job.branches) for job in jobs)} runs."
        )
        tell_of_copies(job.config for job in jobs)
    return jobs


def drop_broken(study: Study, run_ids: Collection[str]) -> None:
    """Set aside the records that cannot be read, and say so."""
    for error in set_broken_aside(study, run_ids):
        print(f"broken: {error.path} {error.problem}; it is now {error.path.name}.broken, and the "
              "run is measured again")  # fmt: skip


def key_of(job: Job) -> str:
    """The same for two jobs that train the same runs."""
    return digest([branch.run_id for branch in job.branches])


def seconds_of(job: Job, n_steps: int) -> float:
    """Rough duration of some steps of a job."""
    flops = job.flops(job.units_per_step)["flops"]
    return n_steps * (SECONDS_PER_STEP + flops / FLOPS_PER_SECOND)


def default_threads(jobs: list[Job]) -> int:
    """CPU threads of each worker."""
    largest = max(job.flops(job.units_per_step)["flops"] for job in jobs)
    return 1 if largest < SMALL_STEP_FLOPS else cores()


def cores() -> int:
    """CPU cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
