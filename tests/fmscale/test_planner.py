"""The cheapest way to a grid: known costs, and what the store saves."""

from __future__ import annotations

import pytest

from fmscale.planner import Segment, merge, plan_job, plan_jobs, study_of, take_over
from fmscale.runs.reuse import trunk_steps
from fmscale.runs.store import Study
from fmscale.training import run

WARM = "schedule.warmup_units=256"  # the same trunk whatever the budgets


def train(job) -> None:
    run.train_trunk(job)
    for branch in job.branches:
        run.train_branch(job, branch)


def test_an_empty_store_costs_the_trunk_once_and_every_cooldown(tiny, plan_one):
    job = plan_one([*tiny, WARM, "budget.tokens=[2560,5120,10240]"])  # 40, 80, 160 steps
    plan = plan_job(job)
    assert [b.n_steps for b in plan.left] == [40, 80, 160]
    assert plan.segments == (Segment(0, 128),)
    assert plan.steps == 128 + 8 + 16 + 32
    per_step = job.flops(job.units_per_step)["flops"]
    assert plan.flops == pytest.approx(184 * per_step)
    assert plan.flops == plan.flops_fresh
    assert plan.flops_apart == pytest.approx(280 * per_step)


def test_a_larger_budget_extends_the_trunk_from_its_checkpoint(tiny, plan_one):
    small = plan_one([*tiny, WARM, "budget.tokens=[2560,5120]"])
    train(small)
    large = plan_one([*tiny, WARM, "budget.tokens=[2560,5120,10240]"])
    assert large.trunk_id == small.trunk_id
    plan = plan_job(large)
    assert [b.n_steps for b in plan.done] == [40, 80]
    assert plan.segments == (Segment(64, 128),)
    assert plan.steps == 64 + 32
    train(large)
    assert plan_job(large).steps == 0


def test_another_study_gives_its_runs_and_its_trunk(tiny, plan_one):
    first = plan_one([*tiny, WARM, "study=first", "budget.tokens=[2560,5120]"])
    train(first)
    second = plan_one([*tiny, WARM, "study=second", "budget.tokens=[5120,10240]"])
    plan = plan_job(second)
    assert [b.n_steps for b, _ in plan.adopted] == [80]
    assert [b.n_steps for b in plan.left] == [160]
    assert plan.segments == (Segment(64, 128, "first"),)

    here, there = study_of(second), study_of(first)
    assert trunk_steps(here, second.trunk_id)[64] == "first"
    (taken,) = take_over([second])
    assert here.run(taken).record() == there.run(taken).record()
    assert trunk_steps(here, second.trunk_id)[64] is None
    assert take_over([second]) == []
    train(second)

    # The same numbers as a store that never saw the first study.
    alone = plan_one([*tiny, WARM, "study=alone", "budget.tokens=[5120,10240]"])
    (here.path.parent / "first").rename(here.path.parent.parent / "first")
    (here.path.parent / "second").rename(here.path.parent.parent / "second")
    train(alone)
    moved = Study(here.path.parent.parent / "second")
    for branch in alone.branches:
        expected = study_of(alone).run(branch.run_id)
        assert moved.run(branch.run_id).record().metrics == expected.record().metrics
        losses = [r["train/loss"] for r in expected.metrics() if "train/loss" in r]
        ours = [r["train/loss"] for r in moved.run(branch.run_id).metrics() if "train/loss" in r]
        assert ours == losses


def test_jobs_of_one_trunk_are_merged(tiny, plan_one):
    jobs = [plan_one([*tiny, WARM, f"budget.tokens={d}"]) for d in (2560, 5120, 2560)]
    (merged,) = merge(jobs)
    assert [b.run_id for b in merged.branches] == [jobs[0].branches[0].run_id,
                                                   jobs[1].branches[0].run_id]  # fmt: skip
    (plan,) = plan_jobs(jobs)
    assert plan.steps == 64 + 8 + 16
    other = plan_one([*tiny, WARM, "budget.tokens=2560", "seed=2"])
    assert len(merge([*jobs, other])) == 2


def test_a_run_begun_here_gives_way_to_the_finished_one(tiny, plan_one):
    first = plan_one([*tiny, WARM, "study=first", "budget.tokens=2560"])
    train(first)
    second = plan_one([*tiny, WARM, "study=second", "budget.tokens=2560"])
    here = study_of(second)
    here.run(second.branches[0].run_id).create("seed: 1\n")
    take_over([second])
    assert here.run(second.branches[0].run_id).is_finished()
    assert [p.name for p in here.path.iterdir()] == [second.branches[0].run_id]
