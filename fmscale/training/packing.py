"""Trunks and cooldowns of several jobs as one batched computation, before their runs are finished.

Packing only leaves what each lone run would have left on its way: checkpoints, metrics, and a look
at its course. `train_trunk` and `train_branch` then find their steps done, measure and write the
records. Whatever goes wrong here, the runs go on from their checkpoints one by one.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from fmscale import config_text
from fmscale.build import Parts, build_model, build_parts
from fmscale.data.module import StepBatches
from fmscale.job import Branch, Job
from fmscale.runs.lock import Held
from fmscale.runs.store import RunFolder, Study
from fmscale.training import checkpoint
from fmscale.training.callbacks import PROGRESS_EVERY_SECONDS, STATUS_EVERY_SECONDS
from fmscale.training.fit import Report, axes
from fmscale.training.outlet import NoOutlet
from fmscale.training.pack import Pack, PackError
from fmscale.training.run import branch_start, resume_metrics
from fmscale.training.watch import CourseWatch


@dataclass(frozen=True)
class Member:
    """One run of a pack, on one stretch of its path."""

    job: Job
    branch: Branch | None  # None: the trunk
    folder: RunFolder
    start: checkpoint.Checkpoint | None  # None: fresh weights
    stop: int  # optimizer step
    keep_at: frozenset[int]

    @property
    def first(self) -> int:
        """Optimizer steps done before."""
        return self.start.step if self.start is not None else 0


def train_pack(jobs: Sequence[Job], report: Report) -> None:
    """Train the trunks of some jobs together, then their cooldowns, budget by budget.

    Args:
        jobs: alike but for seed and learning rate.

    Raises:
        PackError: for models, optimizers or precisions that cannot be packed.
    """
    if any(job.trunk_steps for job in jobs):
        train_together([(job, None) for job in jobs], report)
    for place in range(len(jobs[0].branches)):
        train_together([(job, job.branches[place]) for job in jobs], report)


def train_together(wanted: Sequence[tuple[Job, Branch | None]], report: Report) -> None:
    """One stretch of all jobs: their trunks (None) or one of their runs each.

    Those at different points of it are packed apart.
    """
    with contextlib.ExitStack() as stack:
        packs: dict[int, list[Member]] = defaultdict(list)
        for job, branch in wanted:
            with contextlib.suppress(Held):  # somebody else is at it
                member = _member(job, branch, stack)
                if member is not None:
                    packs[member.first].append(member)
        for members in packs.values():
            if len(members) > 1:
                _fit(members, report)


def _member(job: Job, branch: Branch | None, stack: contextlib.ExitStack) -> Member | None:
    """A run with something left to do on this stretch, its folder locked."""
    study = Study.open(job.config["paths"]["runs_dir"], str(job.config["study"]))
    trunk = study.trunk(job.trunk_id)
    if branch is None:
        open_steps = {
            b.branch_step for b in job.branches if not study.run(b.run_id).is_finished()
        } - {0}
        saved = checkpoint.steps_saved(trunk.checkpoints)
        missing = open_steps - set(saved)
        # Where a checkpoint lies beyond the first that is missing, a lone trunk goes on from it.
        if not missing or max(saved, default=0) > min(missing):
            return None
        trunk = trunk.under(stack.enter_context(trunk.lock()))
        start = checkpoint.latest(trunk.checkpoints, at_most=min(missing))
        trunk.create(config_text.write(job.config))
        resume_metrics(trunk, NoOutlet(), [], start.step if start else 0, None)
        return Member(job, None, trunk, start, max(missing), frozenset(open_steps))
    folder = study.run(branch.run_id)
    if folder.is_finished():
        return None
    folder = folder.under(stack.enter_context(folder.lock()))
    start, rows, broken_at = branch_start(branch, folder, trunk)
    if broken_at is not None or (start is not None and start.step >= branch.n_steps):
        return None
    folder.create(config_text.write(job.branch_config(branch)))
    begin = start.step if start else 0
    resume_metrics(folder, NoOutlet(), rows, begin, branch.n_steps)
    return Member(job, branch, folder, start, branch.n_steps, frozenset({branch.n_steps}))


def _fit(members: list[Member], report: Report) -> None:
    """Take the steps of one stretch with all members at once."""
    job = members[0].job
    parts = [build_parts(member.job.config) for member in members]
    known = {member.start.precision for member in members if member.start is not None}
    if (known or {job.trainer.precision}) != {"32-true"}:
        raise PackError("packed runs are computed in fp32; set trainer.precision=32-true")
    models = [_model(member) for member in members]
    optimizers = [part.optimizer(model) for part, model in zip(parts, models, strict=True)]
    for member, optimizer in zip(members, optimizers, strict=True):
        if member.start is not None:
            peaks = [group["lr"] for group in optimizer.param_groups]
            optimizer.load_state_dict(member.start.optimizer)
            for group, peak in zip(optimizer.param_groups, peaks, strict=True):
                group["lr"] = peak  # the saved one had the schedule's factor in it
    settings = job.trainer
    pack = Pack(
        models,
        optimizers,
        parts[0].objective,
        clip=settings.gradient_clip_val,
        compile=settings.compile,
    )
    _walk(members, parts, pack, report)


def _model(member: Member) -> torch.nn.Module:
    torch.manual_seed(member.job.config["seed"])
    model = build_model(member.job.config)
    if member.start is not None:
        model.load_state_dict(member.start.model)
    return model


def _walk(members: list[Member], parts: list[Parts], pack: Pack, report: Report) -> None:
    job, stop = members[0].job, members[0].stop
    multiplier = job.multiplier(parts[0].multiplier, members[0].branch)
    watches = [_watch(member) for member in members]
    clock = Clock(len(members))
    for member in members:
        member.folder.set_status("running", step=member.first, n_steps=stop)
    alive = [True] * len(members)
    for step, micro in _batches(members, parts):
        factor = multiplier(step)
        losses = pack.step(micro, factor)
        done = step + 1
        for row, member in enumerate(members):
            alive[row] = alive[row] and math.isfinite(losses[row])
            if alive[row]:  # a diverged one is left to its lone run, which will say so
                _record(member, done, losses[row], member.job.lr_peak * factor)
                watches[row].look(done)
        clock.tick(members, done, report)
        if done in members[0].keep_at or clock.save_due(job.trainer.checkpoint_every_seconds):
            pack.unstack()
            _save(members, pack, alive, done, clock)
    for row, member in enumerate(members):
        if member.branch is None and alive[row]:
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
            pace=member.job.pace,
            accumulate=accumulate,
            start_step=member.first,
            stop_step=member.stop,
        )
        for member, part in zip(members, parts, strict=True)
    ]
    for place, step in enumerate(range(members[0].first, members[0].stop)):
        numbers = range(place * accumulate, (place + 1) * accumulate)
        yield step, [[stream[number] for stream in streams] for number in numbers]


def _record(member: Member, step: int, loss: float, lr: float) -> None:
    if step % member.job.trainer.log_every_steps == 0:
        row = {**axes(member.job, step), "lr": lr, "train/loss": loss, "annealed": False}
        member.folder.append_metrics(row)


def _watch(member: Member) -> CourseWatch:
    study = Study.open(member.job.config["paths"]["runs_dir"], str(member.job.config["study"]))
    branches = [member.branch] if member.branch is not None else member.job.branches
    return CourseWatch(member.job, branches, study, member.folder, NoOutlet())


def _save(
    members: list[Member], pack: Pack, alive: Collection[bool], step: int, clock: Clock
) -> None:
    """A checkpoint of every member that has not diverged, as its lone run would write it."""
    began = time.monotonic()
    for row, (member, sound) in enumerate(zip(members, alive, strict=True)):
        if not sound:
            continue
        member.folder.verify()
        before = member.start
        state = checkpoint.Checkpoint(
            step=step,
            model=pack.models[row].state_dict(),
            optimizer=pack.optimizers[row].state_dict(),
            seconds=(before.seconds if before else 0.0) + clock.share,
            precision="32-true",
            seconds_trunk=before.seconds_trunk if before else 0.0,
        )
        checkpoint.save(member.folder.checkpoints, state)
        newest = member.job.trainer.keep_checkpoints
        checkpoint.prune(member.folder.checkpoints, keep=member.keep_at, newest=newest)
    clock.saved(time.monotonic() - began)


class Clock:
    """Time of a pack: each member's share of it, and when to save and to tell."""

    def __init__(self, n_members: int, now: Callable[[], float] = time.monotonic) -> None:
        self.n_members = n_members
        self.now = now
        self.began = self.saved_at = self.told_at = self.status_at = now()
        self.paused = self.took = 0.0

    @property
    def share(self) -> float:
        """Training seconds of one member: the pack's time without saving, divided fairly."""
        return (self.now() - self.began - self.paused) / self.n_members

    def save_due(self, every_seconds: float) -> bool:
        return self.now() - self.saved_at > checkpoint.pause(every_seconds, self.took)

    def saved(self, seconds: float) -> None:
        self.saved_at, self.took = self.now(), seconds
        self.paused += seconds

    def tick(self, members: Sequence[Member], step: int, report: Report) -> None:
        """Tell the sweep's display, and now and then each status, how far the members are."""
        if self.now() - self.told_at > PROGRESS_EVERY_SECONDS:
            self.told_at = self.now()
            for member in members:
                report({"event": "progress", "run_id": member.folder.run_id, "step": step})
        if self.now() - self.status_at > STATUS_EVERY_SECONDS:
            self.status_at = self.now()
            for member in members:
                member.folder.set_status("running", step=step, n_steps=member.stop)
