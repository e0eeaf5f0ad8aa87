"""What happens beside the training steps: rows of metrics, progress, a guard against divergence."""

from __future__ import annotations

import math
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, Protocol

import pytorch_lightning as pl

from fmscale.planning.job import Job
from fmscale.runs.store import RunFolder
from fmscale.sizing import counted_as
from fmscale.tracking.tracker import Tracker

PROGRESS_EVERY_SECONDS = 0.5  # reports to the sweep's display
STATUS_EVERY_SECONDS = 10.0  # heartbeat in status.json


class Diverged(Exception):
    """The loss is no longer a number; the run is kept with this status."""

    def __init__(self, step: int, loss: float) -> None:
        super().__init__(f"loss is {loss} after {step} steps")
        self.step = step


class Training(Protocol):
    """A run after an optimizer step, taken by Lightning or within a group of runs."""

    @property
    def step(self) -> int:
        """Optimizer steps done since the very beginning."""

    step_loss: float
    lr: float

    def states(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """State dicts of the model and of its optimizer."""


class StepCallback(pl.Callback, ABC):
    """Base of callbacks that act once per optimizer step, not per micro-batch."""

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if (batch_idx + 1) % pl_module.accumulate == 0:
            self.on_step_end(pl_module)

    @abstractmethod
    def on_step_end(self, module: Any) -> None:
        """Called after each optimizer step; `module.step` counts it already."""


class DivergenceGuard(StepCallback):
    """Stops a run whose loss is NaN or infinite: more steps would only burn compute."""

    def on_step_end(self, module: Training) -> None:
        if not math.isfinite(module.step_loss):
            raise Diverged(module.step, module.step_loss)


def metrics_row(
    job: Job, step: int, values: dict[str, float], *, annealed: bool = False
) -> dict[str, Any]:
    """A row of `metrics.jsonl`: the axes after `step` optimizer steps, then `values`.

    Args:
        annealed: the learning rate has been brought down; only the end of a run can be.
    """
    n_units = job.batches.n_units(step)
    axes = {"step": step, counted_as(job.shape.unit): n_units, "flops": job.flops(n_units)["flops"]}
    return {**axes, **values, "annealed": annealed}


class MetricsRecorder(StepCallback):
    """Appends rows to `metrics.jsonl` and hands them to the tracker.

    Args:
        utilization: FLOP/s -> the share of this machine's speed, or None; it goes to the tracker
            alone, since a repeated run has the same rows but not the same speed.
    """

    def __init__(
        self,
        job: Job,
        folder: RunFolder,
        tracker: Tracker,
        utilization: Callable[[float], float | None] = lambda rate: None,
    ) -> None:
        self.job, self.folder, self.tracker, self.utilization = job, folder, tracker, utilization
        self.marked: tuple[float, float] | None = None  # flops and clock at the last row

    def on_step_end(self, module: Training) -> None:
        if module.step % self.job.trainer.log_every_steps == 0:
            values = {"lr": module.lr, "train/loss": module.step_loss}
            row = metrics_row(self.job, module.step, values)
            self.folder.append_metrics(row)
            self.tracker.log({**row, **self._speed(row["flops"])})

    def _speed(self, flops: float) -> dict[str, float]:
        """Utilization since the last row; nothing at the first."""
        now, before = time.monotonic(), self.marked
        self.marked = flops, now
        if before is None or now <= before[1]:
            return {}
        share = self.utilization((flops - before[0]) / (now - before[1]))
        return {} if share is None else {"speed/flops_utilization": share}


class ProgressReporter(StepCallback):
    """Tells the sweep's display, and now and then `status.json`, how far a run is."""

    def __init__(
        self, folder: RunFolder, *, n_steps: int, report: Callable[[dict[str, Any]], None]
    ) -> None:
        self.folder = folder
        self.n_steps = n_steps
        self.report = report
        self.reported_at = self.status_at = time.monotonic()

    def on_step_end(self, module: Training) -> None:
        now = time.monotonic()
        if now - self.reported_at > PROGRESS_EVERY_SECONDS:
            self.reported_at = now
            self.report({"event": "progress", "run_id": self.folder.run_id, "step": module.step})
        if now - self.status_at > STATUS_EVERY_SECONDS:
            self.status_at = now
            self.folder.set_status("running", step=module.step, n_steps=self.n_steps)
