"""Measured on the way: the numbers of the model at that step, and none of the training changed."""

from __future__ import annotations

import math

import pytest
import torch

from fmscale.config.build import build_model, build_parts
from fmscale.config.jobs import expand
from fmscale.errors import ConfigError
from fmscale.evaluation.runner import evaluate
from fmscale.launching.vmapped_groups import groups_of
from fmscale.planning.store_plan import study_of
from fmscale.training import checkpoint, run
from fmscale.training.callbacks import MetricsRecorder
from fmscale.training.run import train_trunk
from tests.helpers.training import train

BUDGETS = "budget.tokens=[2560,5120]"  # 40 and 80 steps of 4 x 16 tokens; branches at 32 and 64
MIDWAY = "trainer.evaluate_every_steps=16"
SAMPLES = ["+evaluation.evaluators.samples._target_=fmscale.evaluation.language.samples.Samples",
           "+evaluation.evaluators.samples.n_tokens=4"]  # fmt: skip


def test_it_changes_no_number_and_is_no_other_run(tiny, plan_one, tmp_path):
    """Dropout draws from the generator that an evaluator might have used."""
    settings = [*tiny, BUDGETS, "model.dropout=0.1", *SAMPLES]
    job = plan_one([*settings, MIDWAY])
    plain = plan_one([*settings, f"paths.runs_dir={tmp_path / 'plain'}"])
    for here, there, branch in zip(train(job), train(plain), job.branches, strict=True):
        assert here.run_id == there.run_id
        assert here.metrics == there.metrics
        folder, other = study_of(job).run(here.run_id), study_of(plain).run(there.run_id)
        step = branch.n_steps
        left, right = (
            checkpoint.load(checkpoint.path_of(f.checkpoints, step)).model for f in (folder, other)
        )
        assert all(torch.equal(left[name], right[name]) for name in left)
        rows = [row for row in folder.metrics() if "val/loss" in row]
        assert [row["step"] for row in rows] == [*range(16, step, 16), step]
        assert [row["annealed"] for row in rows] == [False] * (len(rows) - 1) + [True]
    assert study_of(job).trunk(job.trunk_id).tables().keys() == {
        f"samples_at_{step}" for step in (16, 32, 48, 64)
    }


def test_it_measures_the_model_of_that_step(tiny, plan_one):
    job = plan_one([*tiny, BUDGETS, "trainer.evaluate_every_steps=32"])
    train_trunk(job)
    trunk = study_of(job).trunk(job.trunk_id)
    parts = build_parts(job.config)
    rows = {row["step"]: row for row in trunk.metrics() if "val/loss" in row}
    assert rows.keys() == {32, 64}
    for step, row in rows.items():
        model = build_model(job.config)
        model.load_state_dict(checkpoint.load(checkpoint.path_of(trunk.checkpoints, step)).model)
        metrics = evaluate(model, parts.data, parts.objective, parts.evaluators).metrics
        assert row["val/loss"] == metrics["val_loss"]
        assert row["val/perplexity"] == pytest.approx(math.exp(metrics["val_loss"]))


def test_a_broken_run_that_goes_on_has_the_rows_of_an_unbroken_one(
    tiny, plan_one, tmp_path, monkeypatch
):
    settings = [*tiny, BUDGETS, "trainer.evaluate_every_steps=8",
                "trainer.checkpoint_every_seconds=0"]  # fmt: skip
    broken, whole = (plan_one([*settings, f"paths.runs_dir={tmp_path / n}"]) for n in "bw")
    train(whole)
    train_trunk(broken)
    plain = MetricsRecorder.on_step_end

    def until_73(self, module):
        plain(self, module)
        if module.step == 73:
            raise RuntimeError("killed")

    monkeypatch.setattr(MetricsRecorder, "on_step_end", until_73)
    with pytest.raises(RuntimeError, match="killed"):
        run.train_branch(broken, broken.branches[1])
    monkeypatch.setattr(MetricsRecorder, "on_step_end", plain)
    run.train_branch(broken, broken.branches[1])
    here, there = (study_of(j).run(j.branches[1].run_id) for j in (broken, whole))
    assert here.metrics() == there.metrics()


def test_mistakes_are_named_and_groups_leave_such_runs_to_themselves(tiny):
    with pytest.raises(ConfigError, match="evaluate_every_steps=0 must be at least 1, or null"):
        expand([*tiny, BUDGETS, "trainer.evaluate_every_steps=0"])
    with pytest.raises(ConfigError, match="is for one process, not trainer.strategy=ddp"):
        expand([*tiny, BUDGETS, MIDWAY, "trainer.strategy=ddp", "trainer.devices=2"])
    sweep = [*tiny, BUDGETS, "seed=1,2"]
    assert [len(group) for group in groups_of(dict(enumerate(expand(sweep))), 2)] == [2]
    assert groups_of(dict(enumerate(expand([*sweep, MIDWAY]))), 2) == []
