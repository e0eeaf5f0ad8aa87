"""Trunks and cooldowns of several jobs as one batched computation, before their runs are finished.

A vmapped group leaves what each lone run would have left on its way: checkpoints, metrics, its loss
forecast. `train_trunk` and `train_branch` then find their steps done and write the records. What
goes wrong here costs little: the runs resume from their checkpoints one by one.
"""

from __future__ import annotations

import contextlib
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from fmscale.config.build import Parts
from fmscale.data.module import StepBatches
from fmscale.planning.job import Branch, Job
from fmscale.planning.store_plan import study_of
from fmscale.runs import config_file
from fmscale.runs.lock import Held
from fmscale.runs.store import RunFolder, Study
from fmscale.tracking.tracker import NoTracker
from fmscale.training import checkpoint
from fmscale.training.callbacks import (
    Diverged,
    DivergenceGuard,
    MetricsRecorder,
    ProgressReporter,
    StepCallback,
    Training,
)
from fmscale.training.distributed.sharding import load_optimizer
from fmscale.training.fit import Report, model_at, parts_of
from fmscale.training.loss_forecast import LossForecast
from fmscale.training.precision import FULL
from fmscale.training.run import branch_start, resume_metrics
from fmscale.training.saving import CheckpointCallback, CheckpointWriter, SavePolicy
from fmscale.training.stop_signals import InterruptionGuard
from fmscale.training.vmapped.step import VmapError, VmappedGroup


@dataclass(frozen=True)
class Member:
    """One run of a group, on one stretch of its path."""

    job: Job
    branch: Branch | None  # None: the trunk
    study: Study
    folder: RunFolder
    start: checkpoint.Checkpoint | None  # None: fresh weights
    keep_at: frozenset[int]  # optimizer steps; the last one ends the stretch

    @property
    def first(self) -> int:
        """Optimizer steps done before."""
        return self.start.step if self.start is not None else 0

    @property
    def stop(self) -> int:
        return max(self.keep_at)

    def callbacks(self, report: Report) -> list[StepCallback]:
        """What happens beside its steps; the group is saved as one."""
        branches = [self.branch] if self.branch is not None else self.job.branches
        return [
            DivergenceGuard(),
            MetricsRecorder(self.job, self.folder, NoTracker()),
            LossForecast(self.job, branches, self.study, self.folder, NoTracker()),
            ProgressReporter(self.folder, n_steps=self.stop, report=report),
        ]


@dataclass
class MemberTraining:
    """A member after a step, as callbacks see it."""

    group: VmappedGroup
    row: int  # of the group
    callbacks: list[StepCallback]
    writer: CheckpointWriter
    step: int = 0
    step_loss: float = 0.0
    lr: float = 0.0
    diverged: bool = False  # left to its lone run, which will say so

    def states(self) -> tuple[dict[str, Any], dict[str, Any]]:
        self.group.unstack()
        return self.group.models[self.row].state_dict(), self.group.optimizers[
            self.row
        ].state_dict()

    def stepped(self, step: int, loss: float, lr: float) -> None:
        self.step, self.step_loss, self.lr = step, loss, lr
        try:
            for callback in self.callbacks:
                callback.on_step_end(self)
        except Diverged:
            self.diverged = True


def train_group(jobs: Sequence[Job], report: Report) -> None:
    """Train jobs that differ in seed and rate alone, trunks first; VmapError if vmap cannot."""
    if any(job.trunk_steps for job in jobs):
        train_stretch([(job, None) for job in jobs], report)
    for place in range(len(jobs[0].branches)):
        train_stretch([(job, job.branches[place]) for job in jobs], report)


def train_stretch(wanted: Sequence[tuple[Job, Branch | None]], report: Report) -> None:
    """One stretch of all jobs: their trunks (None) or one of their runs each.

    Those at different points of it make groups apart.
    """
    with contextlib.ExitStack() as stack:
        groups: dict[Any, list[Member]] = defaultdict(list)
        for job, branch in wanted:
            with contextlib.suppress(Held):  # another process trains it
                member = _member(job, branch, stack)
                if member is not None:
                    groups[member.first, member.keep_at].append(member)
        for members in groups.values():
            if len(members) > 1:
                _fit(members, report)


def _member(job: Job, branch: Branch | None, stack: contextlib.ExitStack) -> Member | None:
    """A run with something left to do on this stretch, its folder locked."""
    study = study_of(job)
    trunk = study.trunk(job.trunk_id)
    if branch is None:
        open_steps = {
            b.branch_step for b in job.branches if not study.run(b.run_id).is_finished()
        } - {0}
        saved = checkpoint.steps_saved(trunk.checkpoints)
        missing = open_steps - set(saved)
        # Where a checkpoint lies beyond the first that is missing, a lone trunk resumes from it.
        if not missing or max(saved, default=0) > min(missing):
            return None
        trunk = trunk.under(stack.enter_context(trunk.lock()))
        start = checkpoint.latest(trunk.checkpoints, at_most=min(missing))
        trunk.create(config_file.write(job.config))
        resume_metrics(trunk, NoTracker(), [], start.step if start else 0, None)
        return Member(job, None, study, trunk, start, frozenset(open_steps))
    folder = study.run(branch.run_id)
    if folder.is_finished():
        return None
    folder = folder.under(stack.enter_context(folder.lock()))
    start, rows, broken_at = branch_start(branch, folder, trunk)
    if broken_at is not None or (start is not None and start.step >= branch.n_steps):
        return None
    folder.create(config_file.write(job.branch_config(branch)))
    begin = start.step if start else 0
    resume_metrics(folder, NoTracker(), rows, begin, branch.n_steps)
    return Member(job, branch, study, folder, start, frozenset({branch.n_steps}))


def _fit(members: list[Member], report: Report) -> None:
    """Take the steps of one stretch with all members at once."""
    job = members[0].job
    parts = [parts_of(member.job, member.job.config) for member in members]
    known = {member.start.precision for member in members if member.start is not None}
    if (known or {job.trainer.precision}) != {FULL}:
        raise VmapError("vmapped runs are computed in fp32; set trainer.precision=32-true")
    models = [model_at(member.job, member.start) for member in members]
    optimizers = [part.optimizer(model) for part, model in zip(parts, models, strict=True)]
    for member, optimizer in zip(members, optimizers, strict=True):
        if member.start is not None:
            load_optimizer(optimizer, member.start.optimizer)
    clip, compile = job.trainer.gradient_clip_val, job.trainer.compile
    group = VmappedGroup(models, optimizers, parts[0].objective, clip=clip, compile=compile)
    _walk(members, parts, group, report)


def _walk(members: list[Member], parts: list[Parts], group: VmappedGroup, report: Report) -> None:
    first = members[0]
    settings, stop = first.job.trainer, first.stop
    multiplier = first.job.multiplier(parts[0].multiplier, first.branch)
    for member in members:
        member.folder.set_status("running", step=member.first, n_steps=stop)
    policy = SavePolicy(first.keep_at, settings.checkpoint_every_seconds, len(members))
    runs = [
        MemberTraining(group, row, member.callbacks(report), CheckpointWriter(
            member.folder, policy, settings.keep_checkpoints, member.start, FULL))
        for row, member in enumerate(members)
    ]  # fmt: skip

    def write(module: Training) -> None:
        for run in runs:
            if not run.diverged:
                run.writer.write(run)

    saving = CheckpointCallback(policy, write)
    with InterruptionGuard(saving).watching() as guard:
        for step, micro in _batches(members, parts):
            factor = multiplier(step)
            losses = group.step(micro, factor)
            for run, member, loss in zip(runs, members, losses, strict=True):
                run.stepped(step + 1, loss, member.job.lr_peak * factor)
            saving.on_step_end(runs[0])
            guard.on_step_end(runs[0])
            if all(run.diverged for run in runs):
                return
    for run, member in zip(runs, members, strict=True):
        if member.branch is None and not run.diverged:
            member.folder.set_status("completed", step=stop, n_steps=stop)


def _batches(
    members: list[Member], parts: list[Parts]
) -> Iterator[tuple[int, list[list[dict[str, Any]]]]]:
    """For each step, its micro-batches; each one batch a member."""
    accumulate = members[0].job.trainer.accumulate
    streams = [
        StepBatches(
            part.data,
            seed=member.job.config["seed"],
            batches=member.job.batches,
            accumulate=accumulate,
            start_step=member.first,
            stop_step=member.stop,
        )
        for member, part in zip(members, parts, strict=True)
    ]
    for place, step in enumerate(range(members[0].first, members[0].stop)):
        numbers = range(place * accumulate, (place + 1) * accumulate)
        yield step, [[stream[number] for stream in streams] for number in numbers]
