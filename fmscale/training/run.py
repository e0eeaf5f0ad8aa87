"""The life of a trunk and of a run in the store: begun, resumed, finished, failed, recorded."""

from __future__ import annotations

import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import yaml

from fmscale.build import build_model, build_parts
from fmscale.data.order import supplies
from fmscale.evaluation.runner import check_evaluators, evaluate
from fmscale.job import Branch, Job
from fmscale.runs.store import RunFolder, Study, now
from fmscale.settings import ConfigError
from fmscale.training import checkpoint
from fmscale.training.calibration import resolve_precision
from fmscale.training.fit import Fitted, Report, axes, fit_steps
from fmscale.training.outlet import Outlet, RunCard
from fmscale.training.recording import logged, make_record
from fmscale.training.rehearsal import rehearse
from fmscale.training.watch import CourseWatch


def ignore(event: dict[str, Any]) -> None:
    """A report that nobody reads."""


def check(job: Job) -> None:
    """Build every part and prepare the data, so that mistakes show before any compute is spent.

    Raises:
        ConfigError: for anything a constructor refuses, or a budget beyond the unique data.
    """
    parts = build_parts(job.config)
    unit = job.shape.unit
    if parts.data.unit != unit:
        raise ConfigError(
            f"the model counts {unit}, the data {parts.data.unit}; "
            f"choose data of the model's kind (data=stdlib_text for GPT, data=scenes for CLIP)"
        )
    for supply in supplies(parts.data):
        job.check_unique(supply.n_items * parts.data.units_per_item, supply.share, supply.name)
    try:
        check_evaluators(parts.evaluators, parts.data)
    except ValueError as error:
        raise ConfigError(str(error)) from error
    rehearse(job, parts)


def train_trunk(job: Job, report: Report = ignore) -> None:
    """Train the shared part and leave a checkpoint where each unfinished branch starts.

    Reports `branch_ready` for each branch as soon as it can start. A trunk that diverges stops;
    its branches are recorded as diverged by `train_branch`.
    """
    study = _study(job)
    folder = study.trunk(job.trunk_id)
    unfinished = [b for b in job.branches if not study.run(b.run_id).is_finished()]
    saved = set(checkpoint.steps_saved(folder.checkpoints))

    def ready(step: int) -> None:
        for branch in unfinished:
            if branch.branch_step == step:
                report({"event": "branch_ready", "run_id": branch.run_id})

    missing = [b.branch_step for b in unfinished if b.branch_step and b.branch_step not in saved]
    for step in {b.branch_step for b in unfinished} - set(missing):
        ready(step)
    if not missing or _diverged_at(folder) is not None:
        return

    folder.create(yaml.safe_dump(job.config, sort_keys=False))
    parts = build_parts(job.config)
    start = checkpoint.latest(folder.checkpoints, at_most=min(missing))
    card = _card(job, folder, job.trunk_id, "trunk", job.config)
    with supervised(folder, parts.outlet, card, n_steps=max(missing)) as outcome:
        _resume_metrics(folder, parts.outlet, [], start.step if start else 0)
        fitted = fit_steps(
            job,
            parts,
            folder,
            start=start,
            stop_step=max(missing),
            multiplier=job.multiplier(parts.multiplier),
            precision=start.precision if start else resolve_precision(job, parts),
            keep_at=missing,
            report=report,
            watch=CourseWatch(job, unfinished, study, folder, parts.outlet),
            on_saved=ready,
        )
        outcome.finish("diverged" if fitted.diverged else "completed", fitted)


def train_branch(job: Job, branch: Branch, report: Report = ignore) -> None:
    """Train one run to its end, evaluate it and write its record; finished runs are left alone."""
    study = _study(job)
    folder = study.run(branch.run_id)
    if folder.is_finished():
        return
    config = job.branch_config(branch)
    folder.create(yaml.safe_dump(config, sort_keys=False))
    folder.clear_traceback()
    parts = build_parts(config)
    started_at = now()
    trunk = study.trunk(job.trunk_id)
    card = _card(job, folder, branch.run_id, "run", config)
    with supervised(folder, parts.outlet, card, n_steps=branch.n_steps) as outcome:
        start, trunk_rows, broken_at = _branch_start(branch, folder, trunk)
        _resume_metrics(folder, parts.outlet, trunk_rows, start.step if start else 0)
        precision = start.precision if start else resolve_precision(job, parts)
        if broken_at is not None:
            fitted = Fitted(build_model(config), broken_at, 0.0, "the trunk diverged")
        else:
            fitted = fit_steps(
                job,
                parts,
                folder,
                start=start,
                stop_step=branch.n_steps,
                multiplier=job.multiplier(parts.multiplier, branch),
                precision=precision,
                report=report,
                watch=CourseWatch(job, [branch], study, folder, parts.outlet),
            )
        measured, seconds_eval = None, None
        if not fitted.diverged:
            began = time.monotonic()
            measured = evaluate(fitted.model, parts.data, parts.objective, parts.evaluators)
            seconds_eval = time.monotonic() - began
            row = {
                **axes(job, branch.n_steps),
                **logged(measured.metrics),
                "annealed": job.schedule.anneals,
            }
            folder.append_metrics(row)
            parts.outlet.log(row)
            for name, table in measured.tables.items():
                folder.write_table(name, table)
                parts.outlet.table(name, table)
        record = make_record(
            job,
            branch,
            parts,
            fitted,
            measured,
            precision=precision,
            seconds_before=_seconds_of_trunk(trunk, branch),
            seconds_eval=seconds_eval,
            started_at=started_at,
        )
        _keep_final_weights(folder, fitted)
        folder.write_record(record)
        parts.outlet.summarize(record.scalars())
        outcome.finish(record.status, fitted)
    _forget_trunk_checkpoint(trunk, branch)


def _branch_start(
    branch: Branch, folder: RunFolder, trunk: RunFolder
) -> tuple[checkpoint.Checkpoint | None, list[dict[str, Any]], int | None]:
    """Where a run begins: its own checkpoint, its trunk's, or nothing.

    Returns:
        The checkpoint, the trunk's metrics up to the branch, and the step at which the trunk
        diverged if that leaves nothing to branch from.
    """
    start = checkpoint.latest(folder.checkpoints, at_most=branch.n_steps)
    if not branch.branch_step:
        return start, [], None
    rows = [row for row in trunk.metrics() if row["step"] <= branch.branch_step]
    if start is not None:
        return start, rows, None
    broken_at = _diverged_at(trunk)
    if broken_at is not None and broken_at <= branch.branch_step:
        return None, rows, broken_at
    path = checkpoint.path_of(trunk.checkpoints, branch.branch_step)
    return checkpoint.load(path), rows, None


class Outcome:
    """How a supervised run ended; failed until told otherwise."""

    def __init__(self, folder: RunFolder, n_steps: int) -> None:
        self.folder = folder
        self.n_steps = n_steps
        self.exit_code = 1

    def finish(self, state: str, fitted: Fitted) -> None:
        """Set the final status: "completed" or "diverged"."""
        self.folder.set_status(
            state, step=fitted.step, n_steps=self.n_steps, reason=fitted.diverged
        )
        self.exit_code = 0 if state == "completed" else 1


@contextmanager
def supervised(
    folder: RunFolder, outlet: Outlet, card: RunCard, *, n_steps: int
) -> Iterator[Outcome]:
    """Keep `status.json`, `traceback.txt` and the outlet true whatever happens inside."""
    outcome = Outcome(folder, n_steps)
    folder.set_status("running", n_steps=n_steps)
    try:
        outlet.open(card)
        yield outcome
    except Exception as error:
        note_failure(folder, error, n_steps)
        raise
    except BaseException as error:  # interrupted by a person or the system
        folder.set_status("interrupted", n_steps=n_steps, reason=type(error).__name__)
        raise
    finally:
        outlet.close(outcome.exit_code)


def note_failure(folder: RunFolder, error: Exception, n_steps: int) -> None:
    """Store status and traceback of a failed run.

    On a full disk these cannot be written either; the original error then says so in a note.
    """
    text = "".join(traceback.format_exception(error))
    last = f"{type(error).__name__}: {error}".splitlines()[0]
    try:
        folder.write_traceback(text)
        folder.set_status("failed", n_steps=n_steps, reason=last)
    except OSError as second:
        error.add_note(f"the failure could not be noted in {folder.path}: {second}")


def fail_branches(job: Job, error: Exception) -> None:
    """After a trunk failed: note the failure in each branch that can no longer start."""
    study = _study(job)
    saved = checkpoint.steps_saved(study.trunk(job.trunk_id).checkpoints)
    for branch in job.branches:
        folder = study.run(branch.run_id)
        if branch.branch_step and branch.branch_step not in saved and not folder.is_finished():
            folder.create(yaml.safe_dump(job.branch_config(branch), sort_keys=False))
            note_failure(folder, error, branch.n_steps)


def _study(job: Job) -> Study:
    return Study.open(job.config["paths"]["runs_dir"], job.config["study"])


def _card(job: Job, folder: RunFolder, run_id: str, kind: str, config: dict[str, Any]) -> RunCard:
    study = str(job.config["study"])
    return RunCard(
        run_id=run_id,
        study=study,
        job_type=kind,
        unit=job.shape.unit,
        folder=folder.path.resolve(),
        tags=(study, job.shape.family, job.shape.label),
        config=config,
    )


def _resume_metrics(
    folder: RunFolder, outlet: Outlet, trunk_rows: list[dict[str, Any]], step: int
) -> None:
    """Keep the trunk's rows and this run's own up to `step`; replay them to the outlet."""
    shared = max((row["step"] for row in trunk_rows), default=0)
    own = [row for row in folder.metrics() if shared < row["step"] <= step]
    folder.reset_metrics([*trunk_rows, *own])
    for row in [*trunk_rows, *own]:
        outlet.log(row)


def _diverged_at(folder: RunFolder) -> int | None:
    status = folder.status()
    return status["step"] if status and status["state"] == "diverged" else None


def _seconds_of_trunk(trunk: RunFolder, branch: Branch) -> float:
    """Training time along the trunk up to the branch."""
    if not branch.branch_step:
        return 0.0
    path = checkpoint.path_of(trunk.checkpoints, branch.branch_step)
    return checkpoint.load(path).seconds if path.exists() else 0.0


def _keep_final_weights(folder: RunFolder, fitted: Fitted) -> None:
    """Replace the checkpoints of a finished run by its weights alone."""
    for step in checkpoint.steps_saved(folder.checkpoints):
        checkpoint.path_of(folder.checkpoints, step).unlink()
    weights = checkpoint.Checkpoint(fitted.step, fitted.model.state_dict(), {}, fitted.seconds, "")
    checkpoint.save(folder.checkpoints, weights)


def _forget_trunk_checkpoint(trunk: RunFolder, branch: Branch) -> None:
    """Drop the checkpoint this branch started from, unless a longer budget may go on from it."""
    saved = checkpoint.steps_saved(trunk.checkpoints)
    if branch.branch_step in saved[:-1]:
        checkpoint.path_of(trunk.checkpoints, branch.branch_step).unlink(missing_ok=True)
