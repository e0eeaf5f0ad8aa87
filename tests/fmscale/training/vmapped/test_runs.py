"""Vmapped runs end with the records of lone runs."""

from __future__ import annotations

import os
import signal

import pytest

from fmscale.launching.vmapped_groups import groups_of
from fmscale.planning.store_plan import study_of
from fmscale.signals import Interrupted
from fmscale.training import checkpoint
from fmscale.training.run import train_branch, train_trunk
from fmscale.training.vmapped.runs import train_group
from fmscale.training.vmapped.step import VmapError, VmappedGroup

BUDGETS = "budget.tokens=[2560,5120]"
MEMBERS = [("seed=1", "optimizer.lr=0.003"), ("seed=2", "optimizer.lr=0.003"),
           ("seed=1", "optimizer.lr=0.01")]  # fmt: skip


def ignore(event) -> None:
    pass


def finish(job) -> None:
    train_trunk(job)
    for branch in job.branches:
        train_branch(job, branch)


def records(jobs) -> list[dict]:
    return [study_of(j).run(b.run_id).record().to_dict() for j in jobs for b in j.branches]


def jobs_in(tiny, plan_one, folder, *more):
    here = [*tiny, BUDGETS, "trainer.precision=32-true", f"paths.runs_dir={folder}", *more]
    return [plan_one([*here, *member]) for member in MEMBERS]


def equal(vmapped: list[dict], lone: list[dict]) -> None:
    for ours, theirs in zip(vmapped, lone, strict=True):
        assert ours["run_id"] == theirs["run_id"]
        assert ours["metrics"] == pytest.approx(theirs["metrics"], rel=1e-5)
        for name in ("n_tokens", "flops", "n_steps", "lr_peak", "status", "annealed"):
            assert ours[name] == theirs[name]


@pytest.mark.parametrize("more", [[], ["trainer.accumulate=2"], ["schedule=cosine"]])
def test_vmapped_runs_have_the_records_and_curves_of_lone_ones(tiny, plan_one, tmp_path, more):
    vmapped = jobs_in(tiny, plan_one, tmp_path / "vmapped", *more)
    lone = jobs_in(tiny, plan_one, tmp_path / "lone", *more)
    train_group(vmapped, ignore)
    for job in vmapped:  # every step has been taken
        for branch in job.branches:
            folder = study_of(job).run(branch.run_id)
            assert branch.n_steps in checkpoint.steps_saved(folder.checkpoints)
    for job in (*vmapped, *lone):
        finish(job)
    equal(records(vmapped), records(lone))
    for ours, theirs in zip(vmapped, lone, strict=True):
        branch = ours.branches[-1]
        ours_rows, theirs_rows = (study_of(j).run(branch.run_id).metrics() for j in (ours, theirs))
        assert [r["step"] for r in ours_rows] == [r["step"] for r in theirs_rows]
        for a, b in zip(ours_rows, theirs_rows, strict=True):
            assert a == pytest.approx(b, rel=1e-5)


def test_an_interrupted_group_is_finished_by_lone_runs(tiny, plan_one, tmp_path, monkeypatch):
    vmapped = jobs_in(tiny, plan_one, tmp_path / "vmapped", "trainer.checkpoint_every_seconds=0")
    lone = jobs_in(tiny, plan_one, tmp_path / "lone")
    steps = 0

    from fmscale.training.vmapped import runs as vmapped_runs

    take = vmapped_runs.VmappedGroup.step

    def counted(self, *arguments):
        nonlocal steps
        steps += 1
        if steps == 20:
            raise KeyboardInterrupt
        return take(self, *arguments)

    monkeypatch.setattr(vmapped_runs.VmappedGroup, "step", counted)
    with pytest.raises(KeyboardInterrupt):
        train_group(vmapped, ignore)
    monkeypatch.undo()
    saved = [checkpoint.steps_saved(study_of(j).trunk(j.trunk_id).checkpoints) for j in vmapped]
    assert [max(found) for found in saved] == [19, 19, 19]
    for job in (*vmapped, *lone):
        finish(job)
    equal(records(vmapped), records(lone))


def test_a_diverging_member_is_left_to_its_lone_run(tiny, plan_one, tmp_path):
    wild = plan_one([*tiny, BUDGETS, "trainer.precision=32-true", "seed=3", "optimizer.lr=1e30",
                     "trainer.gradient_clip_val=null"])  # fmt: skip
    calm = plan_one([*tiny, BUDGETS, "trainer.precision=32-true", "seed=3", "optimizer.lr=0.003",
                     "trainer.gradient_clip_val=null"])  # fmt: skip
    train_group([wild, calm], ignore)
    for job in (wild, calm):
        finish(job)
    assert {r["status"] for r in records([wild])} == {"diverged"}
    assert {r["status"] for r in records([calm])} == {"completed"}


def test_only_seed_and_rate_may_differ_within_a_group(tiny, plan_one, tmp_path):
    jobs = jobs_in(tiny, plan_one, tmp_path / "runs")
    other = plan_one([*tiny, BUDGETS, "trainer.precision=32-true", "batch_size=8",
                      f"paths.runs_dir={tmp_path / 'runs'}"])  # fmt: skip
    assert groups_of(dict(enumerate([*jobs, other])), 8) == [tuple(range(len(jobs)))]
    assert [len(group) for group in groups_of(dict(enumerate(jobs)), 2)] == [2]
    assert groups_of(dict(enumerate(jobs)), 1) == []


def test_dropout_and_half_precision_are_refused(tiny, plan_one):
    dropping = [plan_one([*tiny, BUDGETS, "model.dropout=0.1", f"seed={s}"]) for s in (1, 2)]
    with pytest.raises(VmapError, match="dropout"):
        train_group(dropping, ignore)
    half = [plan_one([*tiny, BUDGETS, "trainer.precision=bf16-mixed", f"seed={s}"]) for s in (1, 2)]
    with pytest.raises(VmapError, match="32-true"):
        train_group(half, ignore)


def test_a_signal_to_stop_waits_until_the_step_of_all_is_saved(
    tiny, plan_one, tmp_path, monkeypatch
):
    vmapped = jobs_in(tiny, plan_one, tmp_path / "vmapped")  # the next save: a minute away
    take, before = VmappedGroup.step, signal.getsignal(signal.SIGTERM)

    def interrupted(self, *arguments):
        if self.n_updates == 19:
            os.kill(os.getpid(), signal.SIGTERM)
        return take(self, *arguments)

    monkeypatch.setattr(VmappedGroup, "step", interrupted)
    with pytest.raises(Interrupted):
        train_group(vmapped, ignore)
    assert signal.getsignal(signal.SIGTERM) == before
    saved = [checkpoint.steps_saved(study_of(j).trunk(j.trunk_id).checkpoints) for j in vmapped]
    assert saved == [[20]] * 3
