"""What is done before the first step of a sweep: checked, taken over, written into the store."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from fmscale.config.build import build_shape
from fmscale.config.trust import stored_config
from fmscale.errors import ConfigError
from fmscale.launching.backend import Backend, Event, Task
from fmscale.launching.pool import Workers
from fmscale.launching.trackers import tell_of_copies
from fmscale.planning.estimates import default_threads
from fmscale.planning.job import Branch, Job
from fmscale.planning.store_plan import study_of
from fmscale.planning.sweep import Sweep, manifest_entries
from fmscale.runs import config_file
from fmscale.runs.files import Broken
from fmscale.runs.identity import canonical
from fmscale.runs.index import set_broken_aside
from fmscale.runs.store import Study, check_name

SUBMITTERS = 8  # threads that write configurations


def check_store(runs_dir: str | Path, study: str) -> None:
    """Refuse with a ConfigError a store that cannot be written, or a study outside it."""
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


def prepare(sweep: Sweep) -> None:
    """Set aside records that cannot be read, and take over what other studies have trained."""
    for study, jobs in sweep.by_study().items():
        drop_broken(study, {branch.run_id for job in jobs for branch in job.branches})
    if taken := sweep.take_over():
        print(
            f"Trained for another study before, and taken over from there: {len(taken)} of "
            f"{sweep.n_runs} runs."
        )
        tell_of_copies(job.config for job in sweep.jobs)


def drop_broken(study: Study, run_ids: Collection[str]) -> None:
    """Set aside the records that cannot be read, and say so: their runs are measured again."""
    for error in set_broken_aside(study, run_ids):
        print(f"broken: {error.path} {error.problem}; it is now {error.path.name}.broken, and the "
              "run is measured again")  # fmt: skip


def check_all(jobs: Sequence[Job], backend: Backend) -> None:
    """Have every job's parts built and the data prepared; one seed stands for all.

    The backend's own processes do so, if they are here; else one that is started for it.

    Raises:
        ConfigError: with the reasons, if any job cannot be trained as configured.
    """
    problems = set()
    different = {canonical({**job.config, "seed": None}): i for i, job in enumerate(jobs)}

    def note(event: Event) -> list[Task]:
        if event.name == "failed":
            reason = event.fields["reason"].removeprefix("ConfigError: ")
            problems.add(f"{jobs[event.task.jobs[0]].shape.label}: {reason}")
        return []

    tasks = [Task("check", [jobs[i].config], jobs=(i,)) for i in different.values()]
    if backend.is_here:
        backend.run(tasks, note)
    else:
        with Workers(1, default_threads(jobs)) as workers:
            workers.run(tasks, note)
    if problems:
        between = "\n  " if len(problems) > 1 else " "
        raise ConfigError(between.join(["nothing was trained:", *sorted(problems)]))


def submit(sweep: Sweep) -> None:
    """Write the runs that are left into the store; ConfigError if it cannot be written."""
    try:
        for study, jobs in sweep.by_study().items():
            entries = {k: v for job in jobs for k, v in manifest_entries(job).items()}
            try:
                study.extend_manifest(entries)
            except Broken as error:
                os.replace(error.path, f"{error.path}.broken")
                study.extend_manifest({**_stored_entries(study), **entries})
                print(f"broken: {error.path} {error.problem}; it is written again from the "
                      "configurations of the runs")  # fmt: skip
        # Each file waits for the disk: several at once wait together.
        left = [(sweep.jobs[i], b) for i, branches in sweep.left.items() for b in branches]
        with ThreadPoolExecutor(SUBMITTERS) as submitters:
            list(submitters.map(lambda run: _submit_run(*run), left))
    except OSError as error:
        raise _cannot_write(error) from error


def _stored_entries(study: Study) -> dict[str, dict[str, Any]]:
    """What a manifest says of the runs whose configurations lie in the study."""
    entries: dict[str, dict[str, Any]] = {}
    for folder in study.runs():
        try:
            config = stored_config(folder)
            entries |= manifest_entries(Job.plan(config, build_shape(config)))
        except ValueError as error:  # its own configuration is broken, or of another release
            print(f"{folder.path}: {error}")
    return entries


def _submit_run(job: Job, branch: Branch) -> None:
    folder = study_of(job).run(branch.run_id)
    if folder.is_at_work():
        return  # another sweep has submitted it
    folder.create(config_file.write(job.branch_config(branch)))
    if folder.status() is None:
        folder.set_status("queued", n_steps=branch.n_steps)
