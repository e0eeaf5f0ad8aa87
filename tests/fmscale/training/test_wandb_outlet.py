"""Real W&B offline files, read back with W&B's own reader."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import wandb

from fmscale.runs.store import Study
from fmscale.training import run
from fmscale.training.wandb_outlet import WandbOutlet

WANDB = Path(sys.executable).parent / "wandb"


def offline_file(folder: Path) -> Path:
    (found,) = (folder / "wandb").glob("offline-run-*/run-*.wandb")
    return found


def inspect(path: Path, *options: str) -> str:
    """What `wandb leet inspect --json` prints of an offline file."""
    command = [WANDB, "leet", "inspect", "--json", *options, path]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def records(path: Path, kind: str) -> list[dict]:
    """All records of one kind in an offline file."""
    found = [json.loads(line) for line in inspect(path).splitlines()]
    return [record[kind] for record in found if record["type"] == kind]


def history(path: Path) -> list[dict]:
    """Logged rows without W&B's own fields and without the speed, which W&B alone is told."""
    items = [record["item"] for record in records(path, "history")]
    return [{k: v for k, v in item.items() if not k.startswith(("_", "speed/"))} for item in items]


def by_step(rows: list[dict]) -> list[dict]:
    """Rows of the same step merged, as W&B stores them."""
    merged: dict[int, dict] = {}
    for row in rows:
        merged.setdefault(row["step"], {}).update(row)
    return list(merged.values())


@pytest.fixture
def job(tiny, plan_one):
    wandb = [o for o in tiny if o != "logger=none"] + ["logger=wandb", "logger.tags=[mine]"]
    return plan_one([*wandb, "budget.tokens=[2560,5120]"])


def study_of(job) -> Study:
    return Study.open(job.config["paths"]["runs_dir"], job.config["study"])


def test_the_offline_file_holds_what_metrics_jsonl_holds(job):
    run.train_trunk(job)
    for branch in job.branches:
        run.train_branch(job, branch)
        folder = study_of(job).run(branch.run_id)
        assert history(offline_file(folder.path)) == by_step(folder.metrics())


def test_group_tags_config_and_summary_are_filled(job):
    run.train_trunk(job)
    branch = job.branches[0]
    run.train_branch(job, branch)
    folder = study_of(job).run(branch.run_id)
    summary = json.loads(inspect(offline_file(folder.path), "--summary"))
    assert summary["run_id"] == branch.run_id
    assert summary["state"] == "finished"
    assert summary["tags"] == ["default", "gpt", "gpt_1x16", "mine"]
    assert summary["config"]["optimizer"]["weight_decay"] == 0.1
    record = folder.record()
    for name in ("n_params_total", "n_tokens", "flops", "status", "annealed"):
        assert summary["summary"][name] == getattr(record, name)
    assert summary["summary"]["val/loss"] == record.metrics["val_loss"]
    (started,) = records(offline_file(folder.path), "run")
    assert started["run_group"] == "default"


def test_every_axis_is_declared(job):
    run.train_trunk(job)
    run.train_branch(job, job.branches[0])
    folder = study_of(job).run(job.branches[0].run_id)
    declared = json.dumps(records(offline_file(folder.path), "metric"))
    for axis in ("step", "tokens", "flops"):
        assert f'"{axis}"' in declared


def test_an_error_ends_the_run_with_exit_code_1_and_a_second_try_keeps_the_id(job, monkeypatch):
    run.train_trunk(job)
    branch = job.branches[0]

    def broken(*arguments):
        raise RuntimeError("boom")

    monkeypatch.setattr(run, "evaluate", broken)
    with pytest.raises(RuntimeError):
        run.train_branch(job, branch)
    folder = study_of(job).run(branch.run_id)
    assert exit_code(folder.path) == 1
    monkeypatch.undo()
    run.train_branch(job, branch)
    assert exit_code(folder.path) == 0
    assert offline_file(folder.path).name == f"run-{branch.run_id}.wandb"
    assert history(offline_file(folder.path)) == by_step(folder.metrics())


def exit_code(folder: Path) -> int:
    (end,) = records(offline_file(folder), "exit")
    return end.get("exit_code", 0)


def test_runs_one_after_the_other_do_not_mix(job):
    run.train_trunk(job)
    for branch in job.branches:
        run.train_branch(job, branch)
    sizes = [len(history(offline_file(study_of(job).run(b.run_id).path))) for b in job.branches]
    assert sizes == [20, 40]


def test_mode_is_offline_without_a_key(monkeypatch, tmp_path):
    monkeypatch.delenv("WANDB_MODE", raising=False)
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    wandb.teardown()  # an earlier test in this process may have logged in
    assert WandbOutlet()._mode() == "offline"
    assert WandbOutlet(mode="disabled")._mode() == "disabled"


def test_an_unknown_mode_is_refused():
    with pytest.raises(ValueError, match="logger.mode='on'"):
        WandbOutlet(mode="on")


@pytest.mark.parametrize("name", ["../x", "a/b", "a:b", ""])
def test_a_name_that_wandb_refuses_is_refused_before_training(name):
    for key in ("project", "entity"):
        with pytest.raises(ValueError, match=f"logger.{key}="):
            WandbOutlet(**{key: name})
