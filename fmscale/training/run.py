"""The life of a trunk and of a run in the store: begun, resumed, finished, failed, recorded."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import time
from typing import Any

from fmscale.config.build import Parts, build_model
from fmscale.data.item_order import supplies
from fmscale.errors import ConfigError
from fmscale.evaluation.runner import check_evaluators, evaluate
from fmscale.planning.job import Branch, Job
from fmscale.planning.store_plan import segments_to, study_of
from fmscale.runs import config_file
from fmscale.runs.lock import Held, RunLock
from fmscale.runs.store import RunFolder, Study, now
from fmscale.sizing import counted_as
from fmscale.tracking.tracker import RunInfo, Tracker
from fmscale.training import checkpoint, sharded_checkpoint
from fmscale.training.callbacks import StepCallback, metrics_row
from fmscale.training.fit import Fitted, Report, fit_steps, parts_of
from fmscale.training.loss_forecast import LossForecast
from fmscale.training.periodic_evaluation import PeriodicEvaluation
from fmscale.training.record import make_record
from fmscale.training.run_status import keeping_status
from fmscale.training.shape_check import check_shapes


def ignore(event: dict[str, Any]) -> None:
    """A report that is dropped."""


def check(job: Job) -> None:
    """Build every part and prepare the data, so that mistakes show before any compute is spent.

    Raises:
        ConfigError: for anything a constructor refuses, or a budget beyond the unique data.
    """
    parts = parts_of(job, job.config)
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
    check_shapes(job, parts)


def train_trunk(job: Job, report: Report = ignore) -> None:
    """Train the shared part and leave a checkpoint where each unfinished branch starts.

    Reports `branch_ready` for each branch as soon as it can start. A trunk that diverges stops;
    its branches are recorded as diverged by `train_branch`.

    Raises:
        Held: if another process trains this trunk now.
    """
    if not job.trunk_steps:
        return
    study = study_of(job)
    with study.trunk(job.trunk_id).lock() as lock:
        _train_trunk(job, study, lock, report)


def _train_trunk(job: Job, study: Study, lock: RunLock, report: Report) -> None:
    folder = study.trunk(job.trunk_id).under(lock)
    unfinished = [b for b in job.branches if not study.run(b.run_id).is_finished()]
    needed = _steps_needed(study, job)
    sharded_checkpoint.assemble(folder.checkpoints)
    checkpoint.set_broken_aside(folder.checkpoints)
    saved = checkpoint.steps_saved(folder.checkpoints)

    def ready(step: int) -> None:
        for branch in unfinished:
            if branch.branch_step == step:
                report({"event": "branch_ready", "run_id": branch.run_id})

    missing = [b.branch_step for b in unfinished if b.branch_step and b.branch_step not in saved]
    for step in {b.branch_step for b in unfinished} - set(missing):
        ready(step)
    if not missing or _diverged_at(folder) is not None:
        return

    folder.create(config_file.write(job.config))
    parts = parts_of(job, job.config)
    info = _info(job, folder, "trunk", job.config)
    segments = segments_to(missing, dict.fromkeys(saved))
    n_steps, begin = max(missing), segments[0].start
    with keeping_status(folder, parts.tracker, info, n_steps=n_steps, step=begin) as outcome:
        for segment in segments:
            start = checkpoint.latest(folder.checkpoints, at_most=segment.start)
            retraced = any(step > segment.stop for step in saved)  # its rows are there
            if not retraced:
                resume_metrics(folder, parts.tracker, [], start.step if start else 0, None)
            fitted = fit_steps(
                job,
                parts,
                folder,
                start=start,
                stop_step=segment.stop,
                multiplier=job.multiplier(parts.multiplier),
                precision=start.precision if start else job.trainer.precision,
                keep_at=needed,
                report=report,
                record=not retraced,
                observers=_observers(job, parts, folder, unfinished, None),
                on_saved=ready,
            )
            if fitted.diverged:
                break
        outcome.finish("diverged" if fitted.diverged else "completed", fitted)


def train_branch(job: Job, branch: Branch, report: Report = ignore) -> None:
    """Train, evaluate and record one unfinished run; Held if another process trains it."""
    study = study_of(job)
    folder = study.run(branch.run_id)
    if folder.is_finished():
        return
    with folder.lock() as lock:
        if not folder.is_finished():  # not even by whoever held the lock until now
            _train_branch(job, branch, study, lock, report)
    _tidy_trunk(study, job)


def _train_branch(job: Job, branch: Branch, study: Study, lock: RunLock, report: Report) -> None:
    folder = study.run(branch.run_id).under(lock)
    config = job.branch_config(branch)
    folder.create(config_file.write(config))
    folder.clear_traceback()
    parts = parts_of(job, config)
    started_at = now()
    trunk = study.trunk(job.trunk_id)
    info = _info(job, folder, "run", config)
    sharded_checkpoint.assemble(folder.checkpoints)
    start, trunk_rows, broken_at = branch_start(branch, folder, trunk)
    begin = start.step if start else 0
    with keeping_status(folder, parts.tracker, info, n_steps=branch.n_steps, step=begin) as outcome:
        resume_metrics(folder, parts.tracker, trunk_rows, begin, branch.n_steps)
        precision = start.precision if start else job.trainer.precision
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
                observers=_observers(job, parts, folder, [branch], branch.n_steps),
            )
        measured, seconds_eval = None, None
        if not fitted.diverged:
            began = time.monotonic()
            measured = evaluate(fitted.model, parts.data, parts.objective, parts.evaluators)
            seconds_eval = time.monotonic() - began
            if broken := [k for k, v in measured.metrics.items() if not math.isfinite(v)]:
                diverged = f"{', '.join(broken)} not finite after {fitted.step} steps"
                fitted, measured = dataclasses.replace(fitted, diverged=diverged), None
        if measured is not None:
            annealed = branch.cooldown_steps > 0
            row = metrics_row(job, branch.n_steps, measured.logged, annealed=annealed)
            folder.append_metrics(row)
            parts.tracker.log(row)
            for name, table in measured.tables.items():
                folder.write_table(name, table)
                parts.tracker.table(name, table)
        seconds_trunk = start.seconds_trunk if start else 0.0
        record = make_record(
            job,
            branch,
            parts,
            fitted,
            measured,
            precision=precision,
            seconds_before=seconds_trunk,
            seconds_eval=seconds_eval,
            started_at=started_at,
        )
        folder.verify()
        # Weights before the record, and the rest goes after it: killed anywhere in between, the
        # run is measured again and nothing is lost.
        final = checkpoint.Checkpoint(
            fitted.step, fitted.model.state_dict(), {}, fitted.seconds, precision, seconds_trunk
        )
        checkpoint.save(folder.checkpoints, final)
        folder.write_record(record)
        keep = {fitted.step} if job.trainer.keep_final_weights else ()
        checkpoint.prune(folder.checkpoints, keep=keep, newest=0)
        parts.tracker.summarize(record.flat())
        outcome.finish(record.status, fitted)


def branch_start(
    branch: Branch, folder: RunFolder, trunk: RunFolder
) -> tuple[checkpoint.Checkpoint | None, list[dict[str, Any]], int | None]:
    """Where a run begins: its own checkpoint, its trunk's, or nothing.

    Should the trunk's checkpoint be broken or gone, an earlier one serves: up to the cooldown the
    run's own schedule is the trunk's.

    Returns:
        The checkpoint, the trunk's metrics up to there, and the step at which the trunk diverged
        if that leaves nothing to branch from.
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
    start = checkpoint.latest(trunk.checkpoints, at_most=branch.branch_step)
    if start is None:
        return None, [], None
    start = start._replace(seconds_trunk=start.seconds)
    return start, [row for row in rows if row["step"] <= start.step], None


def _observers(
    job: Job, parts: Parts, folder: RunFolder, branches: list[Branch], end: int | None
) -> list[StepCallback]:
    """What looks at a run while it trains; `end` as for `resume_metrics`."""
    observers: list[StepCallback] = [
        LossForecast(job, branches, study_of(job), folder, parts.tracker)
    ]
    every = job.trainer.evaluate_every_steps
    if every is not None:
        observers.append(PeriodicEvaluation(job, folder, parts, every=every, end=end))
    return observers


def _info(job: Job, folder: RunFolder, kind: str, config: dict[str, Any]) -> RunInfo:
    about = (job.shape.family, job.shape.label, counted_as(job.shape.unit))
    return RunInfo.of(folder, config, *about, job_type=kind)


def resume_metrics(
    folder: RunFolder,
    tracker: Tracker,
    trunk_rows: list[dict[str, Any]],
    step: int,
    end: int | None,
) -> None:
    """Keep the trunk's rows and this run's own up to `step`; replay them to the tracker.

    Rows of a measurement at the end that came to no record go: it is made again.

    Args:
        end: last step of the run; None for a trunk, which is not measured at its end.
    """
    shared = max((row["step"] for row in trunk_rows), default=0)
    own = [
        row
        for row in folder.metrics()
        if shared < row["step"] <= step and ("train/loss" in row or row["step"] != end)
    ]
    folder.reset_metrics([*trunk_rows, *own])
    for row in [*trunk_rows, *own]:
        tracker.log(row)


def _diverged_at(folder: RunFolder) -> int | None:
    status = folder.status()
    return status["step"] if status and status["state"] == "diverged" else None


def _steps_needed(study: Study, job: Job) -> set[int]:
    """Steps of the trunk from which a run that is not finished will start, whoever asked for it."""
    planned = {
        run_id: entry.get("branch_step")
        for run_id, entry in study.manifest().items()
        if entry.get("trunk_id") == job.trunk_id
    }
    planned |= {branch.run_id: branch.branch_step for branch in job.branches}
    return {
        step for run_id, step in planned.items() if step and not study.run(run_id).is_finished()
    }


def _tidy_trunk(study: Study, job: Job) -> None:
    """Drop the trunk's checkpoints that no run needs any more.

    Its end stays, if `trainer.keep_trunk_end`: a longer budget later resumes from there.
    """
    folder = study.trunk(job.trunk_id)
    saved = checkpoint.steps_saved(folder.checkpoints)
    if not saved:
        return
    needed = _steps_needed(study, job)
    end = {max(saved)} if job.trainer.keep_trunk_end else set()
    newest = job.trainer.keep_checkpoints if needed - set(saved) else 0  # it is to resume
    with contextlib.suppress(Held), folder.lock():
        checkpoint.prune(folder.checkpoints, keep=needed | end, newest=newest)
