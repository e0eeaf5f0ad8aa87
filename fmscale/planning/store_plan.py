"""The cheapest way to a grid of runs: what is done, what another study has, what a trunk must add.

Runs of one trunk share its steps, and a trunk resumes from its last checkpoint, so a larger budget
asked for later costs only the steps beyond. Ids do not depend on the study: what another study of
the same store has trained is taken over instead of trained again.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from fmscale.planning.earlier import finished_of, trained_as
from fmscale.planning.job import Branch, Job
from fmscale.runs.reuse import finished_elsewhere, others, trunk_steps
from fmscale.runs.store import RunFolder, Study
from fmscale.sizing import counted_as


@dataclass(frozen=True)
class Segment:
    """Steps of a trunk that are to be trained: from a checkpoint (0: from the start) to a step."""

    start: int
    stop: int
    study: str | None = None  # whose checkpoint it is; None: this study's, or none


@dataclass(frozen=True)
class StorePlan:
    """What one trunk and its runs still need."""

    job: Job
    done: tuple[Branch, ...]
    adopted: tuple[tuple[Branch, RunFolder], ...]  # finished in another study
    left: tuple[Branch, ...]
    segments: tuple[Segment, ...]

    @property
    def branches(self) -> tuple[Branch, ...]:
        """All runs of the job."""
        return self.job.branches

    @property
    def steps(self) -> int:
        """Optimizer steps to be trained."""
        trunk = sum(segment.stop - segment.start for segment in self.segments)
        return trunk + sum(branch.n_steps - branch.branch_step for branch in self.left)

    def steps_of(self, branch: Branch) -> int:
        """What one run adds to `steps`: its cooldown, and the trunk that no shorter run needs."""
        if branch not in self.left:
            return 0
        before = max((b.branch_step for b in self.left if b.n_steps < branch.n_steps), default=0)
        trunk = sum(
            max(0, min(segment.stop, branch.branch_step) - max(segment.start, before))
            for segment in self.segments
        )
        return trunk + branch.n_steps - branch.branch_step

    def work(self, branch: Branch) -> str:
        """What is to be done for one run, in a word or two."""
        if branch in self.done:
            return "done"
        for adopted, folder in self.adopted:
            if adopted == branch:
                return f"from {folder.path.parent.name}"
        return "train"

    @property
    def flops(self) -> float:
        """Training FLOPs of these steps."""
        trunk = sum(self._flops(segment.start, segment.stop) for segment in self.segments)
        return trunk + self._cooldowns(self.left)

    @property
    def flops_fresh(self) -> float:
        """FLOPs of the same runs with a shared trunk, but with nothing taken from the store."""
        return self._flops(0, self.job.trunk_steps) + self._cooldowns(self.branches)

    @property
    def flops_apart(self) -> float:
        """FLOPs of the same runs, each trained by itself from the start."""
        return sum(self._flops(0, branch.n_steps) for branch in self.branches)

    def _cooldowns(self, branches: Iterable[Branch]) -> float:
        return sum(self._flops(branch.branch_step, branch.n_steps) for branch in branches)

    def _flops(self, start: int, stop: int) -> float:
        batches = self.job.batches  # the batch may grow on the way
        return self.job.flops(batches.n_units(stop) - batches.n_units(start))["flops"]


def plan_in_store(job: Job, *, elsewhere: bool = True) -> StorePlan:
    """What a job still needs, given the store; without `elsewhere`, given its own study alone."""
    study = study_of(job)
    done, adopted, left = [], [], []
    for branch in job.branches:
        if study.run(branch.run_id).is_finished():
            done.append(branch)
        elif elsewhere and (other := finished_elsewhere(study, branch.run_id)) is not None:
            adopted.append((branch, other))
        else:
            left.append(branch)
    saved = trunk_steps(study, job.trunk_id, elsewhere=elsewhere)
    wanted = {b.branch_step for b in left if b.branch_step} - set(saved)
    return StorePlan(job, tuple(done), tuple(adopted), tuple(left), segments_to(wanted, saved))


def segments_to(wanted: Iterable[int], saved: Mapping[int, str | None]) -> tuple[Segment, ...]:
    """The fewest steps that leave a trunk's checkpoint at each of `wanted`.

    Args:
        wanted: steps without a checkpoint.
        saved: steps with one -> the study that has it; None: this one.
    """
    segments: list[Segment] = []
    for stop in sorted(wanted):
        start = max((step for step in saved if step <= stop), default=0)
        if segments and start <= segments[-1].stop:
            segments[-1] = Segment(segments[-1].start, stop, segments[-1].study)
        else:
            segments.append(Segment(start, stop, saved.get(start)))
    return tuple(segments)


def under_known_ids(job: Job) -> Job:
    """The job, under the ids of release 0.1.0 where the store holds finished runs of its trunk.

    Only if these runs are known to be of the same precision and text; and not in a study that has
    begun the job under the ids of this release.
    """
    study = study_of(job)
    if study.trunk(job.trunk_id).path.exists() or any(
        study.run(branch.run_id).path.exists() for branch in job.branches
    ):
        return job
    for asked in ("auto", job.trainer.precision):
        earlier = Job.plan({**job.config, "earlier": {"precision": asked}}, job.shape)
        for where in (study, *others(study)):
            records = finished_of(where, earlier.trunk_id)
            if records and trained_as(job.config, records):
                return earlier
    return job


def study_of(job: Job) -> Study:
    """The study folder a job writes to."""
    return Study.open(job.config["paths"]["runs_dir"], str(job.config["study"]))


def merge(jobs: Iterable[Job]) -> list[Job]:
    """Jobs that train the same trunk become one, with the budgets of all.

    Only where they differ in nothing but their budgets: a run's configuration is its own.
    """
    merged: dict[str, Job] = {}
    for job in jobs:
        key = f"{job.trunk_id} {_without_budget(job)}"
        merged[key] = _union(merged[key], job) if key in merged else job
    return list(merged.values())


def _union(first: Job, second: Job) -> Job:
    known = {branch.run_id for branch in first.branches}
    if all(branch.run_id in known for branch in second.branches):
        return first
    n_units = sorted({branch.n_units for job in (first, second) for branch in job.branches})
    epochs = max(job.config["budget"]["max_epochs"] for job in (first, second))
    budget = {counted_as(first.shape.unit): n_units, "max_epochs": epochs}
    # Learning rate and warm-up are numbers in a planned configuration, so the ids stay.
    joined = Job.plan({**first.config, "budget": budget}, first.shape)
    assert joined.trunk_id == first.trunk_id, (joined.trunk_id, first.trunk_id)
    return joined


def _without_budget(job: Job) -> dict[str, Any]:
    return {key: value for key, value in job.config.items() if key != "budget"}
