"""The cheapest way to a grid: known costs, and what the store saves."""

from __future__ import annotations

import dataclasses
import itertools
from concurrent.futures import ThreadPoolExecutor

import pytest

from fmscale.planning.store_plan import Segment, merge, plan_in_store, study_of
from fmscale.planning.sweep import Sweep
from fmscale.runs.reuse import trunk_steps
from fmscale.runs.store import Study
from fmscale.training import run
from fmscale.training.checkpoint import steps_saved
from tests.helpers.training import train

WARM = "schedule.warmup_units=256"  # the same trunk whatever the budgets


def test_an_empty_store_costs_the_trunk_once_and_every_cooldown(tiny, plan_one):
    job = plan_one([*tiny, WARM, "budget.tokens=[2560,5120,10240]"])  # 40, 80, 160 steps
    plan = plan_in_store(job)
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
    plan = plan_in_store(large)
    assert [b.n_steps for b in plan.done] == [40, 80]
    assert plan.segments == (Segment(64, 128),)
    assert plan.steps == 64 + 32
    train(large)
    assert plan_in_store(large).steps == 0


def test_another_study_gives_its_runs_and_its_trunk(tiny, plan_one):
    first = plan_one([*tiny, WARM, "study=first", "budget.tokens=[2560,5120]"])
    train(first)
    second = plan_one([*tiny, WARM, "study=second", "budget.tokens=[5120,10240]"])
    plan = plan_in_store(second)
    assert [b.n_steps for b, _ in plan.adopted] == [80]
    assert [b.n_steps for b in plan.left] == [160]
    assert plan.segments == (Segment(64, 128, "first"),)

    here, there = study_of(second), study_of(first)
    assert trunk_steps(here, second.trunk_id)[64] == "first"
    (taken,) = Sweep([second]).take_over()
    stored = [study.run(taken).path / "record.json" for study in (here, there)]
    assert stored[0].read_bytes() == stored[1].read_bytes()
    assert here.run(taken).record().study == "second"
    assert trunk_steps(here, second.trunk_id)[64] is None
    assert Sweep([second]).take_over() == []
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


def test_a_trunk_is_trained_as_planned_around_what_is_saved(tiny, plan_one, monkeypatch):
    grid = [*tiny, WARM, "trainer.log_every_steps=4"]
    middle = plan_one([*grid, "budget.tokens=5120"])
    train(middle)  # leaves a checkpoint after 64 steps
    full = plan_one([*grid, "budget.tokens=[2560,5120,10240]"])
    planned = plan_in_store(full)
    assert planned.segments == (Segment(0, 32), Segment(64, 128))
    trained = []
    plain = run.fit_steps

    def fit_steps(*arguments, start, stop_step, **others):
        trained.append((start.step if start else 0, stop_step))
        return plain(*arguments, start=start, stop_step=stop_step, **others)

    monkeypatch.setattr(run, "fit_steps", fit_steps)
    run.train_trunk(full)
    assert trained == [(0, 32), (64, 128)]
    train(full)
    monkeypatch.setattr(run, "fit_steps", plain)
    alone = plan_one([*grid, "study=alone", "budget.tokens=[2560,5120,10240]"])
    train(alone)
    here, there = study_of(full), study_of(alone)
    assert here.trunk(full.trunk_id).metrics() == there.trunk(full.trunk_id).metrics()
    for branch in alone.branches:
        assert here.run(branch.run_id).metrics() == there.run(branch.run_id).metrics()
        expected = there.run(branch.run_id).record().metrics
        assert here.run(branch.run_id).record().metrics == expected


def test_what_another_process_trains_is_not_taken_over(tiny, plan_one):
    first = plan_one([*tiny, WARM, "study=first", "budget.tokens=[2560,5120]"])
    train(first)
    second = plan_one([*tiny, WARM, "study=second", "budget.tokens=[2560,10240]"])
    here = study_of(second)
    folder, trunk = here.run(second.branches[0].run_id), here.trunk(second.trunk_id)
    with folder.lock(), trunk.lock():
        trunk.append_metrics({"step": 1})
        assert Sweep([second]).take_over() == []
        assert not folder.is_finished()
        assert trunk.metrics() == [{"step": 1}]
    assert Sweep([second]).take_over() == [folder.run_id]
    assert [row["step"] for row in trunk.metrics()] == list(range(2, 65, 2))
    assert Sweep([second]).take_over() == []


def test_sweeps_that_take_over_the_same_runs_at_once_leave_them_whole(tiny, plan_one):
    first = plan_one([*tiny, WARM, "study=first", "budget.tokens=[2560,5120]"])
    train(first)
    branch = first.branches[0]
    there = study_of(first).run(branch.run_id)
    there.write_table("loss_by_position", [{"position": 1, "loss": 2.0}])
    for name in ("second", "third", "fourth"):
        second = plan_one([*tiny, WARM, f"study={name}", "budget.tokens=[2560,5120]"])
        with ThreadPoolExecutor(4) as crowd:
            taken = list(crowd.map(lambda job: Sweep([job]).take_over(), [second] * 4))
        assert sorted(itertools.chain(*taken)) == sorted(b.run_id for b in first.branches)
        here = study_of(second).run(branch.run_id)
        assert here.record() == dataclasses.replace(there.record(), study=name)
        assert here.tables() == there.tables()
        assert here.metrics() == there.metrics()
        assert steps_saved(here.checkpoints) == [40]
        assert not [p for p in study_of(second).path.rglob(".*") if p.name[:6] != ".index"]


def test_jobs_of_one_trunk_are_merged(tiny, plan_one):
    jobs = [plan_one([*tiny, WARM, f"budget.tokens={d}"]) for d in (2560, 5120, 2560)]
    (merged,) = merge(jobs)
    assert [b.run_id for b in merged.branches] == [jobs[0].branches[0].run_id,
                                                   jobs[1].branches[0].run_id]  # fmt: skip
    (plan,) = Sweep(jobs).plans
    assert plan.steps == 64 + 8 + 16
    other = plan_one([*tiny, WARM, "budget.tokens=2560", "seed=2"])
    assert len(merge([*jobs, other])) == 2


def test_a_run_begun_here_gives_way_to_the_finished_one(tiny, plan_one):
    first = plan_one([*tiny, WARM, "study=first", "budget.tokens=2560"])
    train(first)
    second = plan_one([*tiny, WARM, "study=second", "budget.tokens=2560"])
    here = study_of(second)
    here.run(second.branches[0].run_id).create("seed: 1\n")
    Sweep([second]).take_over()
    assert here.run(second.branches[0].run_id).is_finished()
    assert [p.name for p in here.path.iterdir()] == [second.branches[0].run_id]
