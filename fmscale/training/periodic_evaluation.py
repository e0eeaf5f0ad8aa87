"""The evaluators of a run, on its way: what it can do before it is finished."""

from __future__ import annotations

import time

import torch

from fmscale.config.build import Parts
from fmscale.evaluation.runner import evaluate
from fmscale.planning.job import Job
from fmscale.runs.store import RunFolder
from fmscale.training.callbacks import StepCallback, metrics_row
from fmscale.training.module import TrainingModule
from fmscale.training.saving import CheckpointCallback


class PeriodicEvaluation(StepCallback):
    """Runs all evaluators every so many steps; nothing of it changes a number of the training.

    The metrics are rows of `metrics.jsonl`, marked as not annealed: they are not what the same
    budget would reach with a cooldown. Tables are kept as `<name>_at_<step>`. The time is not
    counted as training.

    Args:
        folder: of the trunk or run that trains.
        every: optimizer steps from one evaluation to the next; the last step is left out where
            the run is measured at its end anyway.
        end: that last step; None for a trunk.
    """

    def __init__(
        self, job: Job, folder: RunFolder, parts: Parts, *, every: int, end: int | None
    ) -> None:
        self.job, self.folder, self.parts, self.every, self.end = job, folder, parts, every, end

    def on_step_end(self, module: TrainingModule) -> None:
        if module.step % self.every or module.step == self.end:
            return
        began, step, parts = time.monotonic(), module.step, self.parts
        devices = [module.device] if module.device.type == "cuda" else []
        with torch.random.fork_rng(devices=devices):
            measured = evaluate(module.model, parts.data, parts.objective, parts.evaluators)
        row = metrics_row(self.job, step, measured.logged)
        self.folder.append_metrics(row)
        parts.tracker.log(row)
        for name, rows in measured.tables.items():
            self.folder.write_table(f"{name}_at_{step}", rows)
        for callback in module.trainer.callbacks:  # type: ignore[attr-defined]
            if isinstance(callback, CheckpointCallback):
                callback.policy.paused += time.monotonic() - began
