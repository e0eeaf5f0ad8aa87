"""A sweep: its jobs, what is left of them, what that costs, what other studies have trained."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property
from typing import Any

from fmscale.planning.estimates import seconds_of
from fmscale.planning.job import Branch, Job
from fmscale.planning.store_plan import StorePlan, merge, plan_in_store, study_of
from fmscale.runs.reuse import adopt_run, adopt_trunk, trunk_steps
from fmscale.runs.store import Study
from fmscale.sizing import counted_as


class Sweep:
    """Jobs that are trained together.

    The store is asked once what is left; what happens later, whoever trains has to follow.

    Args:
        jobs: those with the same trunk become one, with the budgets of all.
    """

    def __init__(self, jobs: Iterable[Job]) -> None:
        self.jobs = merge(jobs)

    @cached_property
    def plans(self) -> list[StorePlan]:
        """What each job still needs, given what lies in the store."""
        return [plan_in_store(job) for job in self.jobs]

    @property
    def left(self) -> dict[int, tuple[Branch, ...]]:
        """Runs to be trained, by the index of their job; without jobs that need none."""
        return {index: plan.left for index, plan in enumerate(self.plans) if plan.left}

    @property
    def n_runs(self) -> int:
        return sum(len(job.branches) for job in self.jobs)

    @property
    def n_left(self) -> int:
        return sum(len(branches) for branches in self.left.values())

    @property
    def flops(self) -> float:
        """Training FLOPs of what is left."""
        return sum(plan.flops for plan in self.plans)

    @property
    def seconds(self) -> float:
        """Rough duration of what is left, on one worker of this machine."""
        return sum(seconds_of(plan.job, plan.steps) for plan in self.plans)

    def check_limits(self, n_workers: int, seconds: float | None = None) -> None:
        """ConfigError if what is left costs more than a limit, with `n_workers` jobs at a time."""
        how = "measured" if seconds is not None else "estimated; fmscale plan measures it"
        hours = (self.seconds if seconds is None else seconds) / n_workers / 3600
        flops = self.flops
        for job in self.jobs:
            job.limits.check(flops, hours, how)

    def by_study(self) -> dict[Study, list[Job]]:
        """The jobs of each study."""
        found: dict[Study, list[Job]] = {}
        for job in self.jobs:
            found.setdefault(study_of(job), []).append(job)
        return found

    def take_over(self) -> list[str]:
        """Bring what other studies of the store have trained into the jobs' own study.

        Finished runs are taken as they are; of a trunk, the checkpoints that the missing runs start
        from or that their trunk resumes from. What another process trains now is left to it.

        Returns:
            The ids of the runs taken over.
        """
        taken = []
        for index, plan in enumerate(self.plans):
            study = study_of(plan.job)
            taken += [branch.run_id for branch, source in plan.adopted if adopt_run(source, study)]
            saved = trunk_steps(study, plan.job.trunk_id)
            starts = {segment.start for segment in plan.segments}
            for step in sorted(starts | {branch.branch_step for branch in plan.left}):
                owner = saved.get(step)
                if owner is not None:
                    source = Study(study.path.parent / owner).trunk(plan.job.trunk_id)
                    adopt_trunk(source, study, step)
            if plan.adopted:  # not what another process is at: that is waited for
                self.plans[index] = plan_in_store(plan.job, elsewhere=False)
        return taken


def manifest_entries(job: Job) -> dict[str, dict[str, Any]]:
    """What a study's manifest keeps of each run of a job."""
    return {
        branch.run_id: {
            "trunk_id": job.trunk_id,
            "model": job.shape.label,
            "seed": job.config["seed"],
            f"n_{counted_as(job.shape.unit)}": branch.n_units,
            "n_steps": branch.n_steps,
            "branch_step": branch.branch_step,
            "flops": job.flops(branch.n_units)["flops"],
        }
        for branch in job.branches
    }
