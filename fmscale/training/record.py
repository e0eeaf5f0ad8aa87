"""From a finished run to its record."""

from __future__ import annotations

from typing import Any

import torch

from fmscale.config.build import Parts
from fmscale.data.item_order import Order, item_order
from fmscale.data.protocol import TrainingData
from fmscale.data.text.mixture_order import MixtureOrder
from fmscale.evaluation.runner import Measured
from fmscale.planning.job import Branch, Job
from fmscale.runs.hyperparameters import SECTIONS
from fmscale.runs.provenance import environment, git_state
from fmscale.runs.record import Evaluation, RunRecord
from fmscale.runs.store import now
from fmscale.sizing import FLOPS_FORMULA, counted_as
from fmscale.training.distributed.ranks import current_ranks
from fmscale.training.fit import Fitted
from fmscale.training.utilization import matmul_rate, utilization

HYPERPARAMETERS = (*SECTIONS, "rules")
PARTS = ("image", "text")  # whose forward pass has a column of its own


def make_record(
    job: Job,
    branch: Branch,
    parts: Parts,
    fitted: Fitted,
    measured: Measured | None,
    *,
    precision: str,
    seconds_before: float,
    seconds_eval: float | None,
    started_at: str,
) -> RunRecord:
    """The record of one run.

    Args:
        fitted: the model after training; a diverged one counts only the steps it made.
        measured: final metrics; None for a run that diverged.
        seconds_before: training time of the trunk up to the branch.
    """
    shape = job.shape
    unit = counted_as(shape.unit)
    n_units = job.batches.n_units(fitted.step)
    per_item = parts.data.units_per_item
    order = item_order(parts.data, job.config["seed"])
    speed = n_units / fitted.seconds if fitted.seconds > 0 else None
    counts: dict[str, Any] = {
        f"n_{unit}": n_units,
        f"n_{unit}_unique": order.n_distinct(n_units // per_item) * per_item,
        f"{unit}_per_second": speed,
    }
    flops: dict[str, Any] = dict(job.flops(n_units))
    ceiling = matmul_rate(job.trainer, precision)
    config = job.branch_config(branch)
    return RunRecord(
        run_id=branch.run_id,
        study=str(config["study"]),
        family=shape.family,
        unit=shape.unit,
        family_metrics=list(shape.metrics),
        model=shape.label,
        trunk_id=job.trunk_id,
        seed=config["seed"],
        status="diverged" if fitted.diverged else "completed",
        annealed=branch.cooldown_steps > 0 and not fitted.diverged,
        schedule=job.schedule.name,
        n_params_total=shape.n_params_total,
        n_params_non_embedding=shape.n_params_non_embedding,
        n_params_matmul=shape.n_params_matmul,
        n_params_by_group=shape.param_groups(),
        **counts,
        **flops,
        flops_marginal=job.marginal_flops(branch),
        flops_formula=FLOPS_FORMULA["flops"],
        **{f"forward_macs_{k}": n for k, n in shape.forward_macs().items() if k in PARTS},
        n_steps=fitted.step,
        batch_size=config["batch_size"],
        batch_tokens=job.units_per_step if unit == "tokens" else None,
        warmup_steps=job.warmup_steps,
        cooldown_steps=branch.cooldown_steps,
        lr_peak=job.lr_peak,
        hyperparameters={key: config[key] for key in HYPERPARAMETERS if key in config},
        data={**parts.data.describe(), **_drawn(order, n_units // per_item, parts.data)},
        environment={
            **environment(),
            "precision": precision,
            "n_threads": torch.get_num_threads(),
            "device": _device_name(job),
            # Smaller than asked for where memory was short.
            "micro_batches": job.trainer.accumulate,
            "n_processes": ranks.world.size if (ranks := current_ranks()) is not None else 1,
            **({"chunk_size": job.chunk_size} if job.chunk_size is not None else {}),
        },
        git=git_state(),
        seconds_train=fitted.seconds,
        seconds_train_marginal=fitted.seconds - seconds_before,
        seconds_eval=seconds_eval,
        matmul_flops_per_second=ceiling,
        flops_utilization=(
            utilization(job, flops["flops"] / fitted.seconds, ceiling)
            if fitted.seconds > 0
            else None
        ),
        val_batch_size=parts.data.val_batch_size,
        metrics=measured.metrics if measured else {},
        units=measured.units if measured else {},
        evaluations=evaluations(config, measured) if measured else [],
        started_at=started_at,
        finished_at=now(),
    )


def evaluations(config: dict[str, Any], measured: Measured) -> list[Evaluation]:
    """Which evaluator, with which settings, gave which metrics."""
    settings = config["evaluation"]["evaluators"]
    commit = git_state()["commit"]
    return [
        Evaluation(name, settings[name], metrics, now(), commit)
        for name, metrics in measured.evaluators.items()
    ]


def _drawn(order: Order, n_items: int, data: TrainingData) -> dict[str, Any]:
    """What a mixture took from each source: tokens, and passes over its unique ones."""
    if not isinstance(order, MixtureOrder):
        return {}
    counts = order.counts(n_items)
    sizes = dict(zip(order.names, order.sizes.tolist(), strict=True))
    return {
        "n_tokens_by_source": {k: n * data.units_per_item for k, n in counts.items()},
        "epochs_by_source": {k: n / sizes[k] for k, n in counts.items()},
    }


def _device_name(job: Job) -> str:
    settings: Any = job.trainer
    if settings.accelerator in ("auto", "gpu") and torch.cuda.is_available():
        return torch.cuda.get_device_name()
    return "cpu"
