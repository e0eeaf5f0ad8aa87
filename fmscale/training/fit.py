"""Optimizer steps from one point of a path to another: the only place that calls `Trainer.fit`."""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from fmscale.build import Parts, build_model
from fmscale.data.module import StepBatches, StepDataModule
from fmscale.job import Job
from fmscale.runs.store import RunFolder
from fmscale.training.callbacks import (
    CheckpointWriter,
    Diverged,
    DivergenceGuard,
    MetricsRecorder,
    ProgressReporter,
    StepCallback,
)
from fmscale.training.checkpoint import Checkpoint
from fmscale.training.interruption import InterruptionGuard
from fmscale.training.module import TrainingModule
from fmscale.training.trainer import build_trainer
from fmscale.training.utilization import matmul_rate

Report = Callable[[dict[str, Any]], None]


@dataclass(frozen=True)
class Fitted:
    """A model after training."""

    model: nn.Module
    step: int  # optimizer steps done along the path
    seconds: float  # training time along the path
    diverged: str | None  # what happened, if the loss ceased to be a number


def axes(job: Job, step: int) -> dict[str, float]:
    """The horizontal axes of a metrics row after `step` optimizer steps."""
    n_units = job.pace.n_units(step)
    return {"step": step, job.shape.unit: n_units, "flops": job.flops(n_units)["flops"]}


def fit_steps(
    job: Job,
    parts: Parts,
    folder: RunFolder,
    *,
    start: Checkpoint | None,
    stop_step: int,
    multiplier: Callable[[int], float],
    precision: str,
    keep_at: Collection[int] = (),
    report: Report,
    record: bool = True,
    watches: Sequence[StepCallback] = (),
    on_saved: Callable[[int], None] = lambda step: None,
    verify: Callable[[], None] = lambda: None,
) -> Fitted:
    """Train from `start` (None: fresh weights) until `stop_step` optimizer steps are done.

    Args:
        folder: receives metrics, checkpoints and status.
        multiplier: optimizer step -> factor on the peak learning rate.
        precision: "32-true" or "bf16-mixed".
        keep_at: steps whose checkpoints are kept.
        report: told about progress.
        record: whether rows are written; False where an earlier training has left them.
        watches: look at the run after each step, once its row is written; not where none is.
        on_saved: told each step of `keep_at` once its checkpoint is on disk.
        verify: raises if another process has taken this run; called before each checkpoint.

    Raises:
        Interrupted: after a signal to stop, when the step is done and saved.
    """
    torch.manual_seed(job.config["seed"])
    model = build_model(job.config)
    if start is not None:
        model.load_state_dict(start.model)
    start_step = start.step if start is not None else 0
    if start is not None and start_step >= stop_step:
        return Fitted(model, start_step, start.seconds, None)

    settings = job.trainer
    module = TrainingModule(
        model,
        parts.objective,
        parts.optimizer,
        multiplier,
        seed=job.config["seed"],
        accumulate=settings.accumulate,
        start_step=start_step,
        optimizer_state=start.optimizer if start is not None else None,
        gradient_clip_val=settings.gradient_clip_val,
        compile=settings.compile,
    )
    writer = CheckpointWriter(
        folder,
        keep_at=keep_at,
        keep_newest=settings.keep_checkpoints,
        every_seconds=settings.checkpoint_every_seconds,
        start=start,
        precision=precision,
        on_saved=on_saved,
        verify=verify,
    )
    recorder = MetricsRecorder(
        folder,
        parts.outlet,
        every=settings.log_every_steps,
        row_at=functools.partial(axes, job),
        ceiling=matmul_rate(settings, precision),
    )
    trainer = build_trainer(
        settings,
        precision=precision,
        n_steps=stop_step - start_step,
        callbacks=[
            DivergenceGuard(),  # first: nothing of a broken step is recorded or saved
            *([recorder, *watches] if record else []),
            writer,
            ProgressReporter(folder, n_steps=stop_step, report=report),
            InterruptionGuard(writer),  # last: the step it ends with is recorded like any other
        ],
    )
    batches = StepBatches(
        parts.data,
        seed=job.config["seed"],
        pace=job.pace,
        accumulate=settings.accumulate,
        start_step=start_step,
        stop_step=stop_step,
    )
    try:
        trainer.fit(module, StepDataModule(batches, settings.loader_workers))
    except Diverged as error:
        return Fitted(model, error.step, writer.seconds, str(error))
    assert module.step == stop_step, (module.step, stop_step)
    return Fitted(model, stop_step, writer.seconds, None)
