"""Jobs trained in this process, an evaluator that fails on demand, and two ends compared."""

from __future__ import annotations

import torch

from fmscale.evaluation.language.language import HeldOutText
from fmscale.planning.job import Job
from fmscale.planning.store_plan import study_of
from fmscale.runs.record import RunRecord
from fmscale.training import checkpoint
from fmscale.training.run import train_branch, train_trunk


def train(job: Job) -> list[RunRecord]:
    """Train all runs of a job; returns their records."""
    train_trunk(job)
    for branch in job.branches:
        train_branch(job, branch)
    return [study_of(job).run(branch.run_id).record() for branch in job.branches]


def assert_same_end(job, other) -> None:
    """Weights, rows and numbers of all runs are the same, to the last bit."""
    for branch, twin in zip(job.branches, other.branches, strict=True):
        here, there = study_of(job).run(branch.run_id), study_of(other).run(twin.run_id)
        assert here.record().metrics == there.record().metrics
        assert here.metrics() == there.metrics()
        weights = [
            checkpoint.load(checkpoint.path_of(folder.checkpoints, branch.n_steps)).model
            for folder in (here, there)
        ]
        assert weights[0].keys() == weights[1].keys()
        for name in weights[0]:
            assert torch.equal(weights[0][name], weights[1][name]), name


class Breakable(HeldOutText):
    """Raises `error` where a test has set one."""

    error: Exception | None = None

    def __call__(self, model, data, objective):
        if self.error is not None:
            raise self.error
        yield from super().__call__(model, data, objective)


BREAKABLE = f"evaluation.evaluators.language._target_={__name__}.Breakable"
