"""What happens beside the training steps: recording, checkpoints, the watch for divergence."""

from __future__ import annotations

import math
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection
from typing import Any

import pytorch_lightning as pl

from fmscale.runs.store import RunFolder
from fmscale.training import checkpoint
from fmscale.training.module import TrainingModule
from fmscale.training.outlet import Outlet

PROGRESS_EVERY_SECONDS = 0.5  # reports to the sweep's display
STATUS_EVERY_SECONDS = 10.0  # heartbeat in status.json


class Diverged(Exception):
    """The loss is no longer a number; the run is kept with this status."""

    def __init__(self, step: int, loss: float) -> None:
        super().__init__(f"loss is {loss} after {step} steps")
        self.step = step


class StepCallback(pl.Callback, ABC):
    """Base of callbacks that act once per optimizer step, not per micro-batch."""

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if (batch_idx + 1) % pl_module.accumulate == 0:
            self.on_step_end(pl_module)

    @abstractmethod
    def on_step_end(self, module: TrainingModule) -> None:
        """Called after each optimizer step; `module.step` counts it already."""


class DivergenceGuard(StepCallback):
    """Stops a run whose loss is NaN or infinite: more steps would only burn compute."""

    def on_step_end(self, module: TrainingModule) -> None:
        if not math.isfinite(module.step_loss):
            raise Diverged(module.step, module.step_loss)


class MetricsRecorder(StepCallback):
    """Appends rows to `metrics.jsonl` and hands them to the outlet."""

    def __init__(
        self,
        folder: RunFolder,
        outlet: Outlet,
        *,
        every: int,
        row_at: Callable[[int], dict[str, Any]],
        utilization: Callable[[float], float | None],
    ) -> None:
        """Args:
        every: optimizer steps between rows.
        row_at: step -> the axes of a row: step, tokens or samples, flops.
        utilization: FLOP/s -> the share of this machine's speed, or None; it goes to the outlet
            alone, since a repeated run has the same rows but not the same speed.
        """
        self.folder = folder
        self.outlet = outlet
        self.every = every
        self.row_at = row_at
        self.utilization = utilization
        self.marked: tuple[float, float] | None = None  # flops and clock at the last row

    def on_step_end(self, module: TrainingModule) -> None:
        if module.step % self.every == 0:
            row = {
                **self.row_at(module.step),
                "lr": module.lr,
                "train/loss": module.step_loss,
                "annealed": False,
            }
            self.folder.append_metrics(row)
            self.outlet.log({**row, **self._speed(row["flops"])})

    def _speed(self, flops: float) -> dict[str, float]:
        """Utilization since the last row; nothing at the first."""
        now, before = time.monotonic(), self.marked
        self.marked = flops, now
        if before is None or now <= before[1]:
            return {}
        share = self.utilization((flops - before[0]) / (now - before[1]))
        return {} if share is None else {"speed/flops_utilization": share}


class CheckpointWriter(StepCallback):
    """Saves at given steps, and every so often in between so that little is lost to a kill."""

    def __init__(
        self,
        folder: RunFolder,
        *,
        keep_at: Collection[int],
        keep_newest: int,
        every_seconds: float,
        start: checkpoint.Checkpoint | None,
        precision: str,
        on_saved: Callable[[int], None],
    ) -> None:
        """Args:
        keep_at: steps after which a checkpoint is kept, e.g. where branches leave a trunk.
        keep_newest: how many of the checkpoints in between are kept.
        every_seconds: pause between these; longer where saving takes long.
        start: where this fit began; None: fresh weights.
        on_saved: told each step of `keep_at` once it is on disk.
        """
        self.folder = folder
        self.keep_at = frozenset(keep_at)
        self.keep_newest = keep_newest
        self.every_seconds = every_seconds
        self.start = start
        self.precision = precision
        self.on_saved = on_saved
        self.began = self.saved_at = time.monotonic()
        self.paused = self.took = 0.0

    @property
    def seconds(self) -> float:
        """Training time along the path so far, without the time spent saving."""
        before = self.start.seconds if self.start is not None else 0.0
        return before + time.monotonic() - self.began - self.paused

    def on_train_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        self.began = self.saved_at = time.monotonic()

    def on_step_end(self, module: TrainingModule) -> None:
        if module.step in self.keep_at:
            self.save(module)
            self.on_saved(module.step)
        elif time.monotonic() - self.saved_at > checkpoint.pause(self.every_seconds, self.took):
            self.save(module)

    def state(self, module: TrainingModule) -> checkpoint.Checkpoint:
        """What has been trained so far."""
        return checkpoint.Checkpoint(
            step=module.step,
            model=module.model.state_dict(),
            optimizer=module.trainer.optimizers[0].state_dict(),
            seconds=self.seconds,
            precision=self.precision,
            seconds_trunk=self.start.seconds_trunk if self.start is not None else 0.0,
        )

    def save(self, module: TrainingModule) -> None:
        """Write a checkpoint now, and drop those that the policy no longer keeps."""
        began = time.monotonic()
        self.folder.verify()
        checkpoint.save(self.folder.checkpoints, self.state(module))
        checkpoint.prune(self.folder.checkpoints, keep=self.keep_at, newest=self.keep_newest)
        self.saved_at = time.monotonic()
        self.took = self.saved_at - began
        self.paused += self.took


class ProgressReporter(StepCallback):
    """Tells the sweep's display, and now and then `status.json`, how far a run is."""

    def __init__(
        self, folder: RunFolder, *, n_steps: int, report: Callable[[dict[str, Any]], None]
    ) -> None:
        self.folder = folder
        self.n_steps = n_steps
        self.report = report
        self.reported_at = self.status_at = time.monotonic()

    def on_step_end(self, module: TrainingModule) -> None:
        now = time.monotonic()
        if now - self.reported_at > PROGRESS_EVERY_SECONDS:
            self.reported_at = now
            self.report({"event": "progress", "run_id": self.folder.run_id, "step": module.step})
        if now - self.status_at > STATUS_EVERY_SECONDS:
            self.status_at = now
            self.folder.set_status("running", step=module.step, n_steps=self.n_steps)
