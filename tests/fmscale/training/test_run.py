"""Trunks, branches and resumed runs end exactly where unbroken runs end."""

from __future__ import annotations

import functools
import json
import math

import pytest
import torch

from fmscale.config.build import build_parts
from fmscale.errors import ConfigError
from fmscale.evaluation.language.language import HeldOutText
from fmscale.objectives.next_token import NextToken
from fmscale.planning.store_plan import study_of
from fmscale.runs.lock import LockLost
from fmscale.runs.store import RunFolder
from fmscale.training import checkpoint, run
from fmscale.training.fit import fit_steps
from tests.helpers.training import BREAKABLE, Breakable, train

BUDGETS = "budget.tokens=[2560,5120]"  # 40 and 80 steps of 4 x 16 tokens


def weights(job, branch) -> dict:
    folder = study_of(job).run(branch.run_id)
    return checkpoint.load(checkpoint.path_of(folder.checkpoints, branch.n_steps)).model


def assert_equal_bits(left: dict, right: dict) -> None:
    assert left.keys() == right.keys()
    for name in left:
        assert torch.equal(left[name], right[name]), name


@pytest.mark.parametrize("dropout", [0.0, 0.1])
def test_a_branch_equals_a_separate_wsd_run_bit_for_bit(tiny, plan_one, tmp_path, dropout):
    job = plan_one([*tiny, BUDGETS, f"model.dropout={dropout}"])
    train(job)
    parts = build_parts(job.config)
    for branch in job.branches:
        folder = RunFolder(tmp_path / f"apart-{branch.n_steps}")
        folder.path.mkdir()
        apart = fit_steps(  # one unbroken fit with the whole schedule: no trunk, no checkpoint
            job,
            parts,
            folder,
            start=None,
            stop_step=branch.n_steps,
            multiplier=functools.partial(
                parts.multiplier,
                warmup_steps=job.warmup_steps,
                n_steps=branch.n_steps,
                cooldown_steps=branch.cooldown_steps,
            ),
            precision="32-true",
            report=run.ignore,
        )
        assert_equal_bits(apart.model.state_dict(), weights(job, branch))


def test_budgets_trained_together_equal_budgets_trained_alone(tiny, plan_one, tmp_path):
    together = plan_one([*tiny, BUDGETS])
    records = train(together)
    warmup = f"schedule.warmup_units={together.warmup_steps * together.units_per_step}"
    for tokens, record in zip((2560, 5120), records, strict=True):
        alone = plan_one(
            [*tiny, f"budget.tokens={tokens}", warmup, f"paths.runs_dir={tmp_path / 'alone'}"]
        )
        (lone,) = train(alone)
        assert lone.run_id == record.run_id
        assert lone.metrics == record.metrics


def test_cosine_decays_to_its_floor_and_is_annealed(tiny, plan_one):
    job = plan_one([*tiny, BUDGETS, "schedule=cosine"])
    records = train(job)
    assert [r.annealed for r in records] == [True, True]
    assert [r.flops_marginal for r in records] == [r.flops for r in records]
    rates = [row["lr"] for row in study_of(job).run(records[0].run_id).metrics() if "lr" in row]
    assert max(rates) == pytest.approx(job.lr_peak, rel=1e-3)
    assert rates[-1] < 0.01 * job.lr_peak
    assert not (study_of(job).path / "trunks").exists()


def test_constant_runs_are_marked_as_not_annealed(tiny, plan_one):
    records = train(plan_one([*tiny, BUDGETS, "schedule=constant"]))
    assert [r.annealed for r in records] == [False, False]
    assert [r.n_steps for r in records] == [40, 80]


def test_a_flipped_bit_of_a_checkpoint_is_noticed(tmp_path):
    model = {"weight": torch.arange(1000.0)}
    path = checkpoint.save(tmp_path, checkpoint.Checkpoint(7, model, {}, 0.0, "32-true"))
    assert torch.equal(checkpoint.load(path).model["weight"], model["weight"])
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(ValueError, match="torn or altered"):
        checkpoint.load(path)


def test_finished_runs_are_left_alone(tiny, plan_one):
    job = plan_one([*tiny, BUDGETS])
    train(job)
    before = {p: p.stat().st_mtime_ns for p in study_of(job).path.rglob("*") if p.is_file()}
    train(job)
    assert {p: p.stat().st_mtime_ns for p in study_of(job).path.rglob("*") if p.is_file()} == before


def test_a_larger_budget_later_continues_the_trunk(tiny, plan_one):
    warmup = "schedule.warmup_units=256"
    first = plan_one([*tiny, "budget.tokens=2560", warmup])
    train(first)
    later = plan_one([*tiny, "budget.tokens=[2560,5120]", warmup])
    assert later.trunk_id == first.trunk_id
    steps = []
    run.train_trunk(later, steps.append)
    trunk = study_of(later).trunk(later.trunk_id)
    assert [row["step"] for row in trunk.metrics()] == list(range(2, 66, 2))
    assert {event["event"] for event in steps} - {"progress"} == {"branch_ready"}


def test_a_diverged_run_is_kept_with_its_status(tiny, plan_one):
    job = plan_one([*tiny, BUDGETS, "optimizer.lr=1e30"])
    for record in train(job):
        assert record.status == "diverged"
        assert record.metrics == {}
        assert not record.annealed
    status = study_of(job).run(job.branches[0].run_id).status()
    assert status["state"] == "diverged"
    assert "nan" in json.dumps(status) or "diverged" in status["reason"]


class PoisonedAtTheEnd(NextToken):
    """A finite loss whose gradient is infinite, at one call."""

    calls = 0

    def __call__(self, model, batch):
        out = super().__call__(model, batch)
        PoisonedAtTheEnd.calls += model.training
        if model.training and PoisonedAtTheEnd.calls == 40:
            weight = next(model.parameters())
            out["loss"] = out["loss"] + (weight.sum() - weight.sum().detach()) * 1e38 * 1e3
        return out


def test_weights_that_the_last_update_broke_are_a_divergence(tiny, plan_one, monkeypatch):
    monkeypatch.setattr(PoisonedAtTheEnd, "calls", 0)
    target = f"objective._target_={__name__}.PoisonedAtTheEnd"
    last = ["budget.tokens=2560", "schedule=cosine", target, "trainer.gradient_clip_val=null"]
    job = plan_one([*tiny, *last])
    run.train_branch(job, job.branches[0])
    folder = study_of(job).run(job.branches[0].run_id)
    assert folder.record().status == "diverged"
    assert folder.record().metrics == {}
    assert folder.status()["reason"] == "weights are not finite after 40 steps"


def test_a_run_too_short_to_cool_down_is_not_annealed(tiny, plan_one):
    job = plan_one([*tiny, "budget.tokens=[64,640]", "schedule.warmup_units=0"])
    assert [branch.cooldown_steps for branch in job.branches] == [0, 2]
    short, long = train(job)
    assert not short.annealed
    assert long.annealed
    rows = study_of(job).run(short.run_id).metrics()
    assert [row["annealed"] for row in rows] == [False]


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("trainer.checkpoint_every_seconds=inf", r"trainer\.checkpoint_every_seconds=inf is not a"),
        ("trainer.keep_checkpoints=inf", r"trainer\.keep_checkpoints=inf is not a finite number"),
        ("trainer.gradient_clip_val=inf", r"trainer\.gradient_clip_val=inf is not a finite number"),
        ("budget.max_epochs=inf", r"budget\.max_epochs=inf is not a finite number"),
        ("study=inf", "study=inf is not a finite number"),
        ("optimizer.betas=[0.9,nan]", r"optimizer\.betas\.1=nan is not a finite number"),
        ("trainer.gradient_clip_val=0", r"trainer\.gradient_clip_val=0 would scale every gradient"),
    ],
)
def test_numbers_that_mean_nothing_are_refused_by_name(tiny, plan_one, override, message):
    with pytest.raises(ConfigError, match=message):
        plan_one([*tiny, "budget.tokens=2560", override])


def test_a_failure_leaves_status_and_traceback(tiny, plan_one, monkeypatch):
    job = plan_one([*tiny, "budget.tokens=2560", BREAKABLE])
    run.train_trunk(job)
    monkeypatch.setattr(Breakable, "error", RuntimeError("the evaluator broke"))
    with pytest.raises(RuntimeError, match="the evaluator broke"):
        run.train_branch(job, job.branches[0])
    folder = study_of(job).run(job.branches[0].run_id)
    assert folder.status()["state"] == "failed"
    assert folder.status()["reason"] == "RuntimeError: the evaluator broke"
    assert "raise self.error" in (folder.path / "traceback.txt").read_text()
    monkeypatch.undo()
    run.train_branch(job, job.branches[0])  # trying again works and clears the traces
    assert folder.status()["state"] == "completed"
    assert not (folder.path / "traceback.txt").exists()


class Suspended(NextToken):
    """Another process takes the run over while this one computes."""

    folder = None

    def __call__(self, model, batch):
        if self.folder is not None and len(self.folder.metrics()) == 5:
            (self.folder.path / "lock.json").write_text(
                '{"token": "t", "hostname": "other", "kernel": "k", "pid": 1, "started": ""}'
            )
        return super().__call__(model, batch)


class TakenOver(HeldOutText):
    """Another process takes the run over when it is measured at its end."""

    folder = files = None

    def __call__(self, model, data, objective):
        yield from super().__call__(model, data, objective)
        (self.folder.path / "lock.json").write_text("{}")  # after its last step
        self.files.update({p: p.read_bytes() for p in self.folder.path.rglob("*") if p.is_file()})


@pytest.mark.parametrize("at_the_end", [False, True])
def test_who_lost_its_run_writes_nothing_any_more(tiny, plan_one, monkeypatch, at_the_end):
    fakes = {"objective": Suspended, "evaluation.evaluators.language": TakenOver}
    part = "evaluation.evaluators.language" if at_the_end else "objective"
    target = f"{part}._target_={__name__}.{fakes[part].__name__}"
    job = plan_one([*tiny, "budget.tokens=2560", "schedule.cooldown_fraction=1", target])
    folder = study_of(job).run(job.branches[0].run_id)
    files: dict = {}
    monkeypatch.setattr(fakes[part], "folder", folder)
    monkeypatch.setattr(TakenOver, "files", files)
    with pytest.raises(LockLost):
        run.train_branch(job, job.branches[0])
    if at_the_end:
        assert {p: p.read_bytes() for p in folder.path.rglob("*") if p.is_file()} == files
    assert len(folder.metrics()) == (20 if at_the_end else 5)
    assert folder.status()["state"] == "running"
    assert not folder.is_finished()
    assert not (folder.path / "traceback.txt").exists()


def test_a_full_disk_fails_the_run_and_leaves_no_half_record(tiny, plan_one, monkeypatch):
    job = plan_one([*tiny, "budget.tokens=2560"])
    run.train_trunk(job)

    def full(self, record):
        raise OSError(28, f"cannot write {self.path / 'record.json'} (No space left on device)")

    monkeypatch.setattr(RunFolder, "write_record", full)
    with pytest.raises(OSError, match=r"record\.json \(No space left"):
        run.train_branch(job, job.branches[0])
    folder = study_of(job).run(job.branches[0].run_id)
    assert not (folder.path / "record.json").exists()
    assert "No space left" in folder.status()["reason"]


def test_accumulated_micro_batches_equal_the_whole_batch(tiny, plan_one, tmp_path):
    whole = train(plan_one([*tiny, "budget.tokens=2560"]))[0]
    parts = plan_one([*tiny, "budget.tokens=2560", "trainer.accumulate=2"])
    split = train(parts)[0]
    assert split.n_steps == whole.n_steps
    assert split.n_tokens == whole.n_tokens
    assert split.metrics["val_loss"] == pytest.approx(whole.metrics["val_loss"], rel=1e-4)


def test_bf16_trains_to_about_the_same_loss(tiny, plan_one):
    full = train(plan_one([*tiny, "budget.tokens=5120"]))[0]
    half = train(plan_one([*tiny, "budget.tokens=5120", "trainer.precision=bf16-mixed"]))[0]
    assert half.environment["precision"] == "bf16-mixed"
    assert half.metrics["val_loss"] == pytest.approx(full.metrics["val_loss"], rel=0.05)


@pytest.mark.slow
def test_a_compiled_model_trains_to_about_the_same_loss(tiny, plan_one):
    plain = train(plan_one([*tiny, "budget.tokens=2560"]))[0]
    compiled = train(plan_one([*tiny, "budget.tokens=2560", "trainer.compile=true"]))[0]
    assert compiled.metrics["val_loss"] == pytest.approx(plain.metrics["val_loss"], rel=1e-3)


@pytest.mark.slow
def test_a_compiled_contrastive_model_trains_to_about_the_same_loss(tiny_clip, plan_one):
    plain = train(plan_one([*tiny_clip, "budget.samples=160"]))[0]
    compiled = train(plan_one([*tiny_clip, "budget.samples=160", "trainer.compile=true"]))[0]
    assert compiled.metrics["val_loss"] == pytest.approx(plain.metrics["val_loss"], rel=1e-3)


def test_training_learns(tiny, plan_one):
    short, long = train(plan_one([*tiny, "budget.tokens=[2560,10240]"]))
    assert short.metrics["val_loss"] < math.log(256) - 1
    assert long.metrics["val_loss"] < short.metrics["val_loss"]


def test_the_record_counts_what_was_trained(tiny, plan_one):
    job = plan_one([*tiny, BUDGETS])
    record = train(job)[1]
    assert record.n_tokens == 5120 == record.n_steps * record.batch_tokens
    assert record.n_tokens_unique == min(5120, build_parts(job.config).data.n_items * 16)
    assert record.flops == job.shape.train_flops_per_unit(4)["flops"] * 5120
    assert record.flops_6nd == 6 * record.n_params_total * 5120
    assert sum(record.n_params_by_group.values()) == record.n_params_total
    assert record.val_batch_size == 32
    assert record.environment["precision"] == "32-true"
    assert record.units["val_loss"] == "nats/token"
    assert record.tokens_per_second == pytest.approx(5120 / record.seconds_train)
    # Utilization is a share of a rate: what the run computed a second, over what a product reaches.
    reached = record.flops_utilization * record.matmul_flops_per_second
    assert reached * record.seconds_train == pytest.approx(record.flops)
    assert {"sha256", "n_files"} & set(record.data) or record.data


def test_metrics_rows_carry_all_axes(tiny, plan_one):
    job = plan_one([*tiny, BUDGETS])
    train(job)
    rows = study_of(job).run(job.branches[0].run_id).metrics()
    assert [row["step"] for row in rows] == [*range(2, 42, 2), 40]
    for row in rows:
        assert row["tokens"] == row["step"] * 64
        assert row["flops"] == job.flops(row["tokens"])["flops"]
    assert [row["annealed"] for row in rows] == [False] * 20 + [True]
    assert "val/loss" in rows[-1]


def test_clip_goes_through_the_same_door(tiny_clip, plan_one):
    job = plan_one([*tiny_clip, "budget.samples=[160,320]"])
    for record in train(job):
        assert record.family == "clip"
        assert record.n_tokens is None
        assert record.n_samples == record.n_steps * 16
        assert 0 < record.metrics["val_loss"] < 2 * math.log(32)
        assert 0 <= record.metrics["zero_shot_error"] <= 1
        assert record.units["val_loss"] == "nats/pair"


def test_a_budget_beyond_the_data_is_refused_before_training(tiny, plan_one):
    job = plan_one([*tiny, "budget.tokens=1e7"])
    with pytest.raises(ValueError, match="passes over the .* unique tokens"):
        run.check(job)
    assert not study_of(job).path.exists()


def test_gpt_on_image_data_is_refused(tiny, plan_one):
    job = plan_one([*tiny, "budget.tokens=2560"])
    wrong = plan_one([*tiny, "budget.tokens=2560"])
    wrong.config["data"] = {
        "_target_": "fmscale.data.scenes.dataset.Scenes", "n_val_samples": 64, "val_batch_size": 32,
    }  # fmt: skip
    with pytest.raises(ValueError, match="the model counts tokens, the data samples"):
        run.check(wrong)
    run.check(job)


def test_a_batch_ramp_branches_and_resumes_bit_for_bit(tiny, plan_one, tmp_path):
    ramp = ["batch_size=8", "+batch_ramp.start=2", "+batch_ramp.units=1500", BUDGETS]
    job = plan_one([*tiny, *ramp])
    records = train(job)
    assert [r.n_tokens for r in records] == [b.n_units for b in job.branches]
    branch = job.branches[-1]
    parts, multiplier = build_parts(job.config), job.multiplier
    states = []
    for name, stops in (("whole", [branch.n_steps]), ("halves", [5, branch.n_steps])):
        folder, start = RunFolder(tmp_path / name), None
        folder.path.mkdir()
        for stop in stops:  # 5 steps end inside the ramp
            fitted = fit_steps(
                job, parts, folder, start=start, stop_step=stop,
                multiplier=multiplier(parts.multiplier, branch), precision="32-true",
                keep_at=[stop], report=run.ignore,
            )  # fmt: skip
            start = checkpoint.load(checkpoint.path_of(folder.checkpoints, stop))
        states.append(fitted.model.state_dict())
    assert job.batches.ramp_steps > 5
    assert_equal_bits(states[0], states[1])
    assert_equal_bits(states[0], weights(job, branch))


def test_mup_branches_resume_bit_for_bit_and_train_each_group_at_its_rate(tiny, plan_one, tmp_path):
    sizes = ["model=gpt/2x32", "parametrization=mup", "model.parametrization.base_width=16"]
    job = plan_one([*tiny, *sizes, "budget.tokens=[640,1280]", "optimizer.lr=4e-3"])
    train(job)
    branch, states = job.branches[-1], []
    parts = build_parts(job.config)
    for name, stops in (("whole", [branch.n_steps]), ("halves", [7, branch.n_steps])):
        folder, start = RunFolder(tmp_path / name), None
        folder.path.mkdir()
        for stop in stops:
            fitted = fit_steps(
                job, parts, folder, start=start, stop_step=stop,
                multiplier=job.multiplier(parts.multiplier, branch), precision="32-true",
                keep_at=[stop], report=run.ignore,
            )  # fmt: skip
            start = checkpoint.load(checkpoint.path_of(folder.checkpoints, stop))
        states.append(fitted.model.state_dict())
    assert_equal_bits(states[0], states[1])
    assert_equal_bits(states[0], weights(job, branch))
    rates = {group["name"]: group["lr"]
             for group in parts.optimizer(fitted.model).param_groups}  # fmt: skip
    assert rates == {"no_decay": 4e-3, "decay x0.5": 2e-3}
