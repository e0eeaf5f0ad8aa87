"""The evaluators of a run, on its way: what it can do before it is finished."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch

from fmscale.build import Parts
from fmscale.evaluation.runner import evaluate
from fmscale.runs.store import RunFolder
from fmscale.training.callbacks import CheckpointWriter, StepCallback
from fmscale.training.module import TrainingModule


class MidwayEvaluation(StepCallback):
    """Runs all evaluators every so many steps; nothing of it changes a number of the training.

    The metrics are rows of `metrics.jsonl`, marked as not annealed: they are not what the same
    budget would reach with a cooldown. Tables are kept as `<name>_at_<step>`. The time is not
    counted as training.

    Args:
        folder: of the trunk or run that trains.
        every: optimizer steps from one evaluation to the next; the last step is left out where
            the run is measured at its end anyway.
        end: that last step; None for a trunk.
        row_at: step -> the axes of a row.
    """

    def __init__(
        self,
        folder: RunFolder,
        parts: Parts,
        *,
        every: int,
        end: int | None,
        row_at: Callable[[int], dict[str, Any]],
    ) -> None:
        self.folder = folder
        self.parts = parts
        self.every = every
        self.end = end
        self.row_at = row_at

    def on_step_end(self, module: TrainingModule) -> None:
        if module.step % self.every or module.step == self.end:
            return
        began, step, parts = time.monotonic(), module.step, self.parts
        devices = [module.device] if module.device.type == "cuda" else []
        with torch.random.fork_rng(devices=devices):
            measured = evaluate(module.model, parts.data, parts.objective, parts.evaluators)
        row = {**self.row_at(step), **measured.logged, "annealed": False}
        self.folder.append_metrics(row)
        parts.outlet.log(row)
        for name, rows in measured.tables.items():
            self.folder.write_table(f"{name}_at_{step}", rows)
        for callback in module.trainer.callbacks:  # type: ignore[attr-defined]
            if isinstance(callback, CheckpointWriter):
                callback.paused += time.monotonic() - began
