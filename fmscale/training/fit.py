"""Optimizer steps from one point of a path to another: the only place that calls `Trainer.fit`."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from fmscale.config.build import Parts, build_model, build_parts, build_shape
from fmscale.data.module import StepBatches, StepDataModule
from fmscale.objectives.pair_encoding import all_ranks_together
from fmscale.planning import content
from fmscale.planning.job import Job
from fmscale.runs.store import RunFolder
from fmscale.training import checkpoint, sharded_checkpoint
from fmscale.training.callbacks import (
    Diverged,
    DivergenceGuard,
    MetricsRecorder,
    ProgressReporter,
    StepCallback,
)
from fmscale.training.checkpoint import Checkpoint
from fmscale.training.distributed.ranks import FitRequest, current_ranks, naming_lost_ranks
from fmscale.training.distributed.sharding import whole
from fmscale.training.distributed.world import World
from fmscale.training.distributed_callbacks import Follower, RanksGuard, SharedDecision
from fmscale.training.module import TrainingModule
from fmscale.training.saving import CheckpointCallback, CheckpointWriter, SavePolicy
from fmscale.training.stop_signals import InterruptionGuard
from fmscale.training.trainer import build_trainer
from fmscale.training.utilization import matmul_rate, utilization

Report = Callable[[dict[str, Any]], None]


@dataclass(frozen=True)
class Fitted:
    """A model after training."""

    model: nn.Module
    step: int  # optimizer steps done along the path
    seconds: float  # training time along the path
    diverged: str | None  # what happened, if the loss ceased to be a number


def parts_of(job: Job, config: dict[str, Any]) -> Parts:
    """What a run is made of; smaller parts of a batch, where memory was short, are not its own.

    Raises:
        ConfigError: if files or code are no longer what they were when the run was planned.
    """
    content.check(config)
    if job.chunk_size is None:
        return build_parts(config)
    objective = {**config["objective"], "chunk_size": job.chunk_size}
    return build_parts({**config, "objective": objective})


def model_at(job: Job, start: Checkpoint | None) -> nn.Module:
    """A job's model as a checkpoint has it; None: with fresh weights."""
    torch.manual_seed(job.config["seed"])
    model = build_model(job.config)
    if start is not None:
        model.load_state_dict(start.model)
    return model


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
    observers: Sequence[StepCallback] = (),
    on_saved: Callable[[int], None] = lambda step: None,
) -> Fitted:
    """Train from `start` (None: fresh weights) until `stop_step` optimizer steps are done.

    Args:
        folder: receives metrics, checkpoints and status.
        multiplier: optimizer step -> factor on the peak learning rate.
        precision: "32-true" or "bf16-mixed".
        keep_at: steps whose checkpoints are kept.
        report: called with progress.
        record: whether rows are written; False where an earlier training has left them.
        observers: look at the run after each step, once its row is written; not where none is.
        on_saved: called with each step of `keep_at` once its checkpoint is on disk.

    Raises:
        Interrupted: after a signal to stop, when the step is done and saved.
    """
    first = start.step if start is not None else 0
    if start is not None and first >= stop_step:
        model = model_at(job, start)
        return Fitted(model, first, start.seconds, _broken(model, first))

    settings = job.trainer
    ranks = current_ranks()
    group = ranks.orders if ranks is not None and settings.strategy == "fsdp" else None
    policy = SavePolicy(keep_at, settings.checkpoint_every_seconds)
    writer = CheckpointWriter(folder, policy, settings.keep_checkpoints, start, precision, group)
    leading: list[StepCallback] = []
    if ranks is None:
        saving = CheckpointCallback(policy, writer.write, on_saved=on_saved)
        guard = InterruptionGuard(saving)
    else:
        decision = SharedDecision(ranks, policy)
        saving = CheckpointCallback(policy, writer.write, on_saved=on_saved, due=decision.due)
        leading, guard = [decision], RanksGuard(decision, saving)
        ranks.lead(
            FitRequest(
                config=job.config,
                accumulate=settings.accumulate,
                chunk_size=job.chunk_size,
                folder=str(folder.path.resolve()),
                start=start,
                factors=tuple(multiplier(step) for step in range(first, stop_step)),
                precision=precision,
            )
        )
    share = functools.partial(utilization, job, ceiling=matmul_rate(settings, precision))
    recorder = MetricsRecorder(job, folder, parts.tracker, share)
    callbacks = [
        *leading,
        DivergenceGuard(),  # first: nothing of a broken step is recorded or saved
        *([recorder, *observers] if record else []),
        saving,
        ProgressReporter(folder, n_steps=stop_step, report=report),
        guard,  # last: the step it ends with is recorded like any other
    ]
    model, diverged = _fit(
        job, parts, start, stop_step, multiplier, precision=precision, callbacks=callbacks
    )
    fitted = Fitted(
        model,
        step=diverged.step if diverged is not None else stop_step,
        seconds=writer.seconds,
        diverged=str(diverged) if diverged is not None else _broken(model, stop_step),
    )
    if ranks is not None:
        ranks.fitting = False
    if group is not None:  # ordinary checkpoints of those in parts
        if keep_at or fitted.diverged:
            sharded_checkpoint.assemble(folder.checkpoints)
        else:
            end = writer.state(fitted.step, fitted.model.state_dict(), {})
            checkpoint.save(folder.checkpoints, end)
            sharded_checkpoint.discard(folder.checkpoints)
    return fitted


def _broken(model: nn.Module, step: int) -> str | None:
    """What is wrong with weights whose loss nobody has seen yet; None if they are sound."""
    if all(bool(parameter.isfinite().all()) for parameter in model.parameters()):
        return None
    return f"weights are not finite after {step} steps"


def fit_along(request: FitRequest) -> None:
    """What the other ranks do while rank 0 is in `fit_steps`."""
    ranks = current_ranks()
    assert ranks is not None
    job = Job.plan(request.config, build_shape(request.config)).in_parts(
        request.accumulate, request.chunk_size
    )
    first = request.start.step if request.start is not None else 0
    decision, saving = SharedDecision(ranks), None
    if job.trainer.strategy == "fsdp":  # else rank 0 saves alone
        policy = SavePolicy((), job.trainer.checkpoint_every_seconds)
        writer = CheckpointWriter(
            RunFolder(Path(request.folder)), policy, job.trainer.keep_checkpoints, request.start,
            request.precision, ranks.orders,
        )  # fmt: skip
        saving = CheckpointCallback(policy, writer.write, due=decision.due)
    _fit(
        job,
        parts_of(job, request.config),
        request.start,
        first + len(request.factors),
        lambda step: request.factors[step - first],
        precision=request.precision,
        callbacks=[decision, DivergenceGuard(), Follower(decision, saving)],
    )


def _fit(
    job: Job,
    parts: Parts,
    start: Checkpoint | None,
    stop_step: int,
    multiplier: Callable[[int], float],
    *,
    precision: str,
    callbacks: list[StepCallback],
) -> tuple[nn.Module, Diverged | None]:
    """Make the steps; every rank comes through here.

    Returns:
        The model, whole and on the CPU again if it was divided (on rank 0, else untrained); and
        the loss that ceased to be a number, if so.
    """
    settings, seed = job.trainer, job.config["seed"]
    world = ranks.world if (ranks := current_ranks()) is not None else None
    first = start.step if start is not None else 0
    model = model_at(job, start)
    module = TrainingModule(
        model,
        parts.objective,
        parts.optimizer,
        multiplier,
        seed=seed,
        accumulate=settings.accumulate,
        start_step=first,
        optimizer_state=start.optimizer if start is not None else None,
        gradient_clip_val=settings.gradient_clip_val,
        compile=settings.compile,
        rank=world.rank if world is not None else 0,
        sharded=world is not None and settings.strategy == "fsdp",
    )
    trainer = build_trainer(
        settings, precision=precision, n_steps=stop_step - first, callbacks=list(callbacks),
        world=world,
    )  # fmt: skip
    batches = StepBatches(
        parts.data,
        seed=seed,
        batches=job.batches,
        accumulate=settings.accumulate,
        start_step=first,
        stop_step=stop_step,
        rank=world.rank if world is not None else 0,
        n_ranks=world.size if world is not None else 1,
    )
    diverged = None
    try:
        with _together(world):
            trainer.fit(module, StepDataModule(batches, settings.loader_workers))
        assert module.step == stop_step, (module.step, stop_step)
    except Diverged as error:
        diverged = error
    if module.sharded:
        state = whole(model.state_dict())
        model = build_model(job.config)
        model.load_state_dict(state)
    return model, diverged


@contextlib.contextmanager
def _together(world: World | None) -> Iterator[None]:
    """Inside, all processes of `world` make steps on one batch; None: this one by itself."""
    if world is None:
        yield
        return
    with naming_lost_ranks(), all_ranks_together():
        yield
