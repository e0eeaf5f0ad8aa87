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
    ) -> None:
        """Args:
        every: optimizer steps between rows.
        row_at: step -> the axes of a row: step, tokens or samples, flops.
        """
        self.folder = folder
        self.outlet = outlet
        self.every = every
        self.row_at = row_at

    def on_step_end(self, module: TrainingModule) -> None:
        if module.step % self.every == 0:
            row = {
                **self.row_at(module.step),
                "lr": module.lr,
                "train/loss": module.step_loss,
                "annealed": False,
            }
            self.folder.append_metrics(row)
            self.outlet.log(row)


class CheckpointWriter(StepCallback):
    """Saves at given steps, and every so often in between so that little is lost to a kill."""

    def __init__(
        self,
        folder: RunFolder,
        *,
        keep_at: Collection[int],
        every_seconds: float,
        seconds_before: float,
        precision: str,
        on_saved: Callable[[int], None],
    ) -> None:
        """Args:
        keep_at: steps after which a checkpoint is kept, e.g. where branches leave a trunk.
        every_seconds: pause between the checkpoints in between; each replaces the last.
        seconds_before: training time before this fit.
        on_saved: told each step of `keep_at` once it is on disk.
        """
        self.folder = folder
        self.keep_at = frozenset(keep_at)
        self.every_seconds = every_seconds
        self.seconds_before = seconds_before
        self.precision = precision
        self.on_saved = on_saved
        self.passing: int | None = None  # step of the latest checkpoint in between
        self.started = self.saved_at = time.monotonic()
        self.paused = 0.0

    @property
    def seconds(self) -> float:
        """Training time along the path so far, without the time spent saving."""
        return self.seconds_before + time.monotonic() - self.started - self.paused

    def on_train_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        self.started = self.saved_at = time.monotonic()

    def on_step_end(self, module: TrainingModule) -> None:
        if module.step in self.keep_at:
            self._save(module)
            self.on_saved(module.step)
        elif time.monotonic() - self.saved_at > self.every_seconds:
            before = self.passing
            self._save(module)
            self.passing = module.step
            if before is not None:
                checkpoint.path_of(self.folder.checkpoints, before).unlink(missing_ok=True)

    def _save(self, module: TrainingModule) -> None:
        began = time.monotonic()
        state = checkpoint.Checkpoint(
            step=module.step,
            model=module.model.state_dict(),
            optimizer=module.trainer.optimizers[0].state_dict(),
            seconds=self.seconds,
            precision=self.precision,
        )
        checkpoint.save(self.folder.checkpoints, state)
        self.saved_at = time.monotonic()
        self.paused += self.saved_at - began


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
