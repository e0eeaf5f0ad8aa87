"""Short measurements of this machine: how fast a size trains, and what bfloat16 would gain."""

from __future__ import annotations

import dataclasses
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from fmscale.config.build import Parts, build_model, build_parts
from fmscale.evaluation.runner import evaluate
from fmscale.planning.job import Job
from fmscale.runs.store import RunFolder
from fmscale.tracking.tracker import NoTracker
from fmscale.training.fit import Fitted, fit_steps
from fmscale.training.precision import FULL, bf16_speedup

WARM_STEPS = 5  # the first steps allocate memory
MEASURED_SECONDS = 0.5


def measure_speed(job: Job) -> dict[str, float]:
    """Seconds for an optimizer step and for the evaluation at the end of a run.

    The steps are those of a real run, recorder and checkpoint writer included, in a throw-away
    folder. Of a run in fp32 also `bf16_speedup`: how many times as fast bf16 steps are.
    """
    parts = dataclasses.replace(build_parts(job.config), tracker=NoTracker())
    warm = _train(job, parts, WARM_STEPS)
    n_steps = max(WARM_STEPS, round(MEASURED_SECONDS / (warm.seconds / WARM_STEPS)))
    fitted = _train(job, parts, n_steps)
    began = time.monotonic()
    evaluate(fitted.model, parts.data, parts.objective, parts.evaluators)
    seconds = {
        "seconds_per_step": fitted.seconds / n_steps,
        "seconds_eval": time.monotonic() - began,
    }
    if job.trainer.precision != FULL:
        return seconds
    return {**seconds, "bf16_speedup": _speedup(job, parts)}


def _speedup(job: Job, parts: Parts) -> float:
    model = build_model(job.config)
    if job.trainer.accelerator in ("auto", "gpu") and torch.cuda.is_available():
        model = model.cuda()
    device = next(model.parameters()).device
    indices = np.arange(min(job.config["batch_size"] // job.trainer.accumulate, parts.data.n_items))
    batch = {name: value.to(device) for name, value in parts.data.train_batch(indices).items()}
    return bf16_speedup(model, parts.objective, batch)


def _train(job: Job, parts: Parts, n_steps: int) -> Fitted:
    with tempfile.TemporaryDirectory() as folder:
        return fit_steps(
            job,
            parts,
            RunFolder(Path(folder)),
            start=None,
            stop_step=n_steps,
            multiplier=job.multiplier(parts.multiplier, job.branches[-1]),
            precision=job.trainer.precision,
            report=lambda event: None,
        )
