"""Stopped anywhere, by whatever, and gone on with: the same bits as an unbroken run."""

from __future__ import annotations

import json
import os
import signal

import pytest
import torch
import yaml

from fmscale.errors import ConfigError
from fmscale.planning.store_plan import study_of
from fmscale.runs.lock import Held, LockLost
from fmscale.runs.store import RunFolder
from fmscale.signals import Interrupted
from fmscale.training import checkpoint, run, run_status
from fmscale.training.callbacks import MetricsRecorder
from fmscale.training.module import TrainingModule
from tests.helpers.training import assert_same_end, train

BUDGETS = "budget.tokens=[2560,5120]"  # 40 and 80 steps of 4 x 16 tokens; branches at 32 and 64
CLIP_BUDGETS = "budget.samples=[320,640]"  # 20 and 40 steps of 16 pairs; branches at 16 and 32


def saved_steps(folder: RunFolder) -> list[int]:
    return checkpoint.steps_saved(folder.checkpoints)


def at_step(monkeypatch, step: int, action) -> None:
    """Do something right after one optimizer step of whatever is trained next."""
    plain = MetricsRecorder.on_step_end

    def on_step_end(self, module):
        plain(self, module)
        if module.step == step:
            monkeypatch.setattr(MetricsRecorder, "on_step_end", plain)
            action()

    monkeypatch.setattr(MetricsRecorder, "on_step_end", on_step_end)


def die() -> None:
    raise KeyboardInterrupt


CASES = {
    "gpt": ([BUDGETS], [], (23, 51, 70)),  # in the trunk twice, in the last cooldown once
    "dropout, accumulation, other loader workers": (
        [BUDGETS, "model.dropout=0.1", "trainer.accumulate=2"],
        ["trainer.loader_workers=2"],
        (23, 70),
    ),
    "clip": ([CLIP_BUDGETS], [], (9, 38)),
}


@pytest.mark.parametrize("case", CASES)
def test_a_killed_run_ends_in_the_same_bits(tiny, tiny_clip, plan_one, tmp_path, monkeypatch, case):
    overrides, changes, kills = CASES[case]
    base = [*(tiny_clip if case == "clip" else tiny), *overrides]
    calm = plan_one([*base, f"paths.runs_dir={tmp_path / 'calm'}"])
    train(calm)
    job = plan_one([*base, "trainer.checkpoint_every_seconds=0", *changes])
    for step in kills:
        at_step(monkeypatch, step, die)
        with pytest.raises((KeyboardInterrupt, SystemExit)):
            train(job)
    train(job)
    assert_same_end(job, calm)


@pytest.mark.parametrize(("signum", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_waits_for_the_step_and_its_checkpoint(
    tiny, plan_one, tmp_path, monkeypatch, signum, code
):
    base = [*tiny, BUDGETS, "trainer.accumulate=2"]
    calm = plan_one([*base, f"paths.runs_dir={tmp_path / 'calm'}"])
    train(calm)
    job = plan_one(base)  # the next checkpoint of its own would be a minute away
    plain, seen = TrainingModule.training_step, []

    def training_step(self, batch, batch_idx):
        if batch_idx == 46 and not seen:  # the first micro-batch of step 24
            seen.append(batch_idx)
            os.kill(os.getpid(), signum)
        return plain(self, batch, batch_idx)

    monkeypatch.setattr(TrainingModule, "training_step", training_step)
    before = signal.getsignal(signum)
    with pytest.raises(Interrupted) as caught:
        run.train_trunk(job)
    assert caught.value.code == code
    assert signal.getsignal(signum) == before
    trunk = study_of(job).trunk(job.trunk_id)
    assert saved_steps(trunk) == [24]
    status = trunk.status()
    assert (status["state"], status["step"]) == ("interrupted", 24)
    assert status["reason"] == f"stopped by {signum.name}"
    assert not trunk.is_at_work()
    train(job)
    assert_same_end(job, calm)


def test_a_launchers_own_handler_has_its_say_after_the_checkpoint(tiny, plan_one, monkeypatch):
    job = plan_one([*tiny, BUDGETS])
    called = []

    def requeue(signum, frame):
        called.append(saved_steps(study_of(job).trunk(job.trunk_id)))
        raise SystemExit(7)

    before = signal.signal(signal.SIGTERM, requeue)
    at_step(monkeypatch, 11, lambda: os.kill(os.getpid(), signal.SIGTERM))
    try:
        with pytest.raises(SystemExit, match="7"):
            run.train_trunk(job)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert called == [[11]]


@pytest.mark.parametrize("damage", ["newest torn", "newest altered", "all torn", "branch point"])
def test_broken_checkpoints_are_named_and_cost_only_time(
    tiny, plan_one, tmp_path, monkeypatch, caplog, damage
):
    calm = plan_one([*tiny, BUDGETS, f"paths.runs_dir={tmp_path / 'calm'}"])
    train(calm)
    job = plan_one([*tiny, BUDGETS, "trainer.checkpoint_every_seconds=0"])
    trunk = study_of(job).trunk(job.trunk_id)
    if damage == "branch point":
        run.train_trunk(job)
        broken = [checkpoint.path_of(trunk.checkpoints, 64)]
    else:
        at_step(monkeypatch, 23, die)
        with pytest.raises((KeyboardInterrupt, SystemExit)):
            run.train_trunk(job)
        assert saved_steps(trunk) == [21, 22]
        steps = (21, 22) if damage == "all torn" else (22,)
        broken = [checkpoint.path_of(trunk.checkpoints, step) for step in steps]
    for path in broken:
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes(content if "altered" in damage else content[: len(content) // 3])
    if damage != "branch point":
        run.train_trunk(job)
    for branch in job.branches:  # alone, the branch makes up for what its trunk lacks
        run.train_branch(job, branch)
    for path in broken:
        assert str(path) in caplog.text
        assert "torn or altered" in caplog.text
    assert_same_end(job, calm)


def test_two_checkpoints_of_a_run_at_work_are_kept(tiny, plan_one, monkeypatch):
    every = "trainer.checkpoint_every_seconds=0"
    job = plan_one([*tiny, BUDGETS, every, "trainer.keep_checkpoints=3"])
    trunk = study_of(job).trunk(job.trunk_id)
    at_step(monkeypatch, 40, die)
    with pytest.raises((KeyboardInterrupt, SystemExit)):
        run.train_trunk(job)
    assert saved_steps(trunk) == [32, 37, 38, 39]
    debris = trunk.checkpoints / ".step_000000040.pt.abc"  # of a process killed while it wrote
    debris.write_bytes(b"half")
    train(job)
    assert not debris.exists()
    assert saved_steps(trunk) == [64]
    for branch in job.branches:
        assert saved_steps(study_of(job).run(branch.run_id)) == [branch.n_steps]


def test_nothing_is_kept_if_so_asked(tiny, plan_one):
    job = plan_one(
        [*tiny, BUDGETS, "trainer.keep_trunk_end=false", "trainer.keep_final_weights=false"]
    )
    train(job)
    assert list(study_of(job).path.rglob("*.pt")) == []


def test_a_trunks_checkpoint_stays_as_long_as_any_run_needs_it(tiny, plan_one):
    from fmscale.launching.preflight import submit
    from fmscale.planning.sweep import Sweep

    one = plan_one([*tiny, BUDGETS, "trainer.keep_trunk_end=false"])
    other = plan_one([*tiny, BUDGETS, "evaluation.evaluators.language.batch_size=8",
                      "trainer.keep_trunk_end=false"])  # fmt: skip
    assert other.trunk_id == one.trunk_id
    assert other.branches[0].run_id != one.branches[0].run_id
    submit(Sweep([one, other]))
    trunk = study_of(one).trunk(one.trunk_id)
    train(one)
    assert saved_steps(trunk) == [32, 64]
    run.train_branch(other, other.branches[0])
    assert saved_steps(trunk) == [64]
    run.train_branch(other, other.branches[1])
    assert saved_steps(trunk) == []


def test_a_kill_between_weights_and_record_doubles_nothing(tiny, plan_one, tmp_path, monkeypatch):
    calm = plan_one([*tiny, BUDGETS, f"paths.runs_dir={tmp_path / 'calm'}"])
    train(calm)
    job = plan_one([*tiny, BUDGETS])
    run.train_trunk(job)
    with monkeypatch.context() as patch:
        patch.setattr(RunFolder, "write_record", lambda self, record: die())
        for branch in job.branches:
            with pytest.raises(KeyboardInterrupt):
                run.train_branch(job, branch)
    for record, twin in zip(train(job), train(calm), strict=True):
        assert record.environment["precision"] == twin.environment["precision"] == "32-true"
        assert 0 < record.seconds_train_marginal < record.seconds_train
    assert_same_end(job, calm)


def test_who_was_taken_for_dead_writes_no_record(tiny, plan_one, monkeypatch):
    job = plan_one([*tiny, "budget.tokens=2560"])
    run.train_trunk(job)
    folder = study_of(job).run(job.branches[0].run_id)
    path = folder.path / "lock.json"

    def rob():
        path.write_text(json.dumps({**json.loads(path.read_text()), "token": "another"}))

    at_step(monkeypatch, 38, rob)
    with pytest.raises(LockLost):
        run.train_branch(job, job.branches[0])
    assert not folder.is_finished()
    assert folder.status()["state"] == "running"  # the other process's word, not ours


def test_a_run_in_other_hands_is_left_to_them(tiny, plan_one):
    job = plan_one([*tiny, BUDGETS])
    with study_of(job).trunk(job.trunk_id).lock(), pytest.raises(Held, match="is trained by"):
        run.train_trunk(job)
    run.train_trunk(job)
    branch = job.branches[0]
    with study_of(job).run(branch.run_id).lock(), pytest.raises(Held, match="is trained by"):
        run.train_branch(job, branch)


@pytest.mark.parametrize(
    "error",
    [
        MemoryError("3 GB"),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 3 GB"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:117] DefaultCPUAllocator: can't allocate "
                     "memory: you tried to allocate 3 bytes"),
    ],
)  # fmt: skip
def test_want_of_memory_has_a_status_of_its_own(tiny, plan_one, monkeypatch, error):
    job = plan_one([*tiny, BUDGETS])

    def fail(*arguments):
        raise error

    monkeypatch.setattr(TrainingModule, "training_step", fail)
    with pytest.raises(type(error)):
        run.train_trunk(job)
    run_status.fail_branches(job, error)
    for branch in job.branches:
        assert study_of(job).run(branch.run_id).status()["state"] == "oom"


def test_torch_says_that_memory_is_used_up_as_we_expect():
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**60)
    assert run_status.is_out_of_memory(caught.value)
    assert not run_status.is_out_of_memory(RuntimeError("size mismatch"))


def test_half_the_micro_batch_gives_the_same_run_to_rounding(tiny, plan_one, tmp_path):
    whole = plan_one([*tiny, BUDGETS, f"paths.runs_dir={tmp_path / 'whole'}"])
    halved = plan_one([*tiny, BUDGETS]).halved(1)
    assert halved.branches == whole.branches
    for record, twin in zip(train(halved), train(whole), strict=True):
        assert record.environment["micro_batches"] == 2
        assert record.n_tokens == twin.n_tokens
        assert record.metrics["val_loss"] == pytest.approx(twin.metrics["val_loss"], rel=5e-3)
    # Adam's division makes more of a rounding error with every step; the first ones show its size.
    rows = [study_of(job).trunk(job.trunk_id).metrics()[:5] for job in (halved, whole)]
    losses = [[row["train/loss"] for row in part] for part in rows]
    assert losses[0] == pytest.approx(losses[1], rel=2e-6)
    with pytest.raises(ConfigError, match="accumulate=8 does not divide batch_size=4"):
        halved.halved(2)


def test_half_the_pairs_at_once_give_the_same_contrastive_run_to_rounding(
    tiny_clip, plan_one, tmp_path
):
    base = [*tiny_clip, "budget.samples=160"]
    whole = plan_one([*base, f"paths.runs_dir={tmp_path / 'whole'}"])
    halved = plan_one(base).halved(2)
    (record,), (twin,) = train(halved), train(whole)
    assert record.run_id == twin.run_id
    assert record.environment["chunk_size"] == 4
    assert record.metrics["val_loss"] == pytest.approx(twin.metrics["val_loss"], rel=1e-4)
    stored = yaml.safe_load((study_of(halved).run(record.run_id).path / "config.yaml").read_text())
    assert stored["objective"] == whole.config["objective"]
    with pytest.raises(ConfigError, match="16 pairs at once cannot be halved 5 times"):
        halved.halved(5)
