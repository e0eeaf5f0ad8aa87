"""Runs go from the store to W&B and come back as the same table (real client, loopback server)."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from fmscale.commands import wandb as command
from fmscale.runs.files import write_json
from fmscale.runs.reuse import adopt_run
from fmscale.runs.store import Study
from fmscale.tracking.upload import push_study
from fmscale.tracking.wandb import WandbTracker
from fmscale.training import run
from tests.helpers.wandb_server import WandbServer


@pytest.fixture(scope="module")
def stand_in():
    """One server for all tests: the client keeps the address it saw first."""
    import wandb

    wandb.teardown()  # of what other tests left behind: it would ask their server
    server = WandbServer()
    yield server
    wandb.teardown()
    server.close()


@pytest.fixture
def server(stand_in, monkeypatch):
    stand_in.forget()
    monkeypatch.setenv("WANDB_BASE_URL", stand_in.url)
    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    monkeypatch.setenv("WANDB_MODE", "online")
    return stand_in


@pytest.fixture
def study(tiny, plan_one) -> Study:
    job = plan_one([*tiny, "budget.tokens=[2560,5120]"])
    run.train_trunk(job)
    for branch in job.branches:
        run.train_branch(job, branch)
    return Study.open(job.config["paths"]["runs_dir"], job.config["study"])


def push(study: Study):
    return push_study(study, WandbTracker(project="p", entity="e", mode="online"), "e/p")


def test_a_pushed_study_comes_back_as_the_table_of_the_store(study, server):
    from analysis.tables.run_store import load_runs
    from analysis.tables.wandb_source import load_wandb

    pushed = push(study)
    assert len(pushed.uploaded) == 2
    ours = load_runs(study.path).frame.set_index("run_id").sort_index()
    table = load_wandb("e/p", ["train/loss", "tokens"], base_url=server.url)
    theirs = table.frame.set_index("run_id").sort_index()
    assert list(theirs.index) == list(ours.index)
    scalars = [c for c in ours if not isinstance(ours[c].iloc[0], dict | list)]
    assert len(scalars) > 30
    for name in scalars:
        if name == "trunk_id":  # a cluster of its own in a table of W&B runs
            continue
        assert theirs[name].tolist() == ours[name].tolist(), name


def test_what_live_runs_tell_and_what_is_pushed_are_the_same(study, server):
    push(study)
    for folder in study.runs():
        summary = server.runs[folder.run_id].summary
        assert folder.record().flat().items() <= summary.items()
        last = folder.metrics()[-1]
        assert summary["val/loss"] == last["val/loss"] == summary["val_loss"]


def test_a_run_that_two_studies_use_is_in_the_group_of_each_and_one_run_of_a_table(study, server):
    from analysis.tables.wandb_source import load_wandb

    other = Study.open(study.path.parent, "other")
    first, second = study.runs()
    other.path.mkdir()
    adopt_run(first, other)
    push(study)
    assert push(other).uploaded == (first.run_id,)
    groups = {name: stored.group for name, stored in server.runs.items()}
    home = study.path.name
    copy = f"{first.run_id}-other"
    assert groups == {first.run_id: home, second.run_id: home, copy: "other"}
    assert server.runs[copy].summary["study"] == "other"
    assert len(server.runs[copy].history) == len(server.runs[first.run_id].history) > 0
    table = load_wandb("e/p", ["train/loss", "tokens"], base_url=server.url)
    assert sorted(table.frame["run_id"]) == sorted([first.run_id, first.run_id, second.run_id])


def test_what_runs_differ_in_comes_back_from_wandb(study, server, tiny, plan_one):
    from analysis.tables.wandb_source import load_wandb

    job = plan_one([*tiny, "budget.tokens=2560", "model.dropout=0.5"])
    run.train_trunk(job)
    run.train_branch(job, job.branches[0])
    push(study)
    frame = load_wandb("e/p", ["train/loss"], base_url=server.url).frame.set_index("run_id")
    assert sorted(frame["model.dropout"]) == [0.0, 0.0, 0.5]
    assert frame.loc[job.branches[0].run_id, "model.dropout"] == 0.5


def test_every_logged_row_arrives(study, server):
    push(study)
    for folder in study.runs():
        stored = server.runs[folder.run_id]
        assert stored.group == study.path.name
        assert stored.state == "finished"
        sent = [{k: v for k, v in r.items() if not k.startswith("_")} for r in stored.history]
        merged: dict[int, dict] = {}
        for row in folder.metrics():  # W&B keeps one row a step
            merged.setdefault(row["step"], {}).update(row)
        assert sent == list(merged.values())


def test_a_second_push_sends_nothing_and_a_changed_record_only_its_summary(study, server):
    push(study)
    rows = {name: len(stored.history) for name, stored in server.runs.items()}
    assert push(study).uploaded == ()
    folder = next(iter(study.runs()))
    record = folder.record().to_dict()
    record["metrics"]["val_extra"] = 0.25
    record["units"]["val_extra"] = "1"
    write_json(folder.path / "record.json", record)
    again = push(study)
    assert again.uploaded == (folder.run_id,)
    assert len(again.unchanged) == 1
    assert {name: len(stored.history) for name, stored in server.runs.items()} == rows
    assert server.runs[folder.run_id].summary["val_extra"] == 0.25


def test_a_diverged_run_is_pushed_as_failed_and_an_unfinished_one_is_counted(study, server):
    first, second = study.runs()
    record = first.record().to_dict() | {"status": "diverged"}
    write_json(first.path / "record.json", record)
    (second.path / "record.json").unlink()
    pushed = push(study)
    assert pushed.unfinished == (second.run_id,)
    assert server.runs[first.run_id].state == "failed"


def test_nothing_of_wandb_is_left_in_the_store(study, server):
    push(study)
    names = {p.name for f in study.runs() for p in f.path.iterdir()}
    assert "wandb" not in names
    assert "wandb_push.json" in names
    text = "".join(p.read_text() for p in study.path.rglob("*.json"))
    assert "0" * 40 not in text


def run_command(monkeypatch, *arguments: str) -> None:
    monkeypatch.setattr(sys, "argv", ["fmscale wandb", *arguments])
    command.main()


def test_the_command_uploads_and_says_what_it_did(study, server, monkeypatch, capsys):
    where = ["--runs-dir", str(study.path.parent), "--entity", "e", "--project", "p"]
    run_command(monkeypatch, "push", study.path.name, *where)
    assert "2 runs uploaded, 0 already there" in capsys.readouterr().out
    run_command(monkeypatch, "push", study.path.name, *where)
    assert "0 runs uploaded, 2 already there" in capsys.readouterr().out


def test_workspace_and_report_are_saved(study, server, monkeypatch, capsys):
    where = ["--runs-dir", str(study.path.parent), "--entity", "e", "--project", "p"]
    run_command(monkeypatch, "workspace", study.path.name, *where)
    spec = json.loads(server.views[-1]["spec"])
    assert "val_loss" in json.dumps(spec)
    run_command(monkeypatch, "report", study.path.name, *where)
    assert "Scaling study" in json.dumps(server.views[-1])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["push", "absent"], "does not exist"),
        (["push", "../up"], "not a folder name"),
        (["workspace", "default"], "does not exist"),
    ],
)
def test_mistakes_are_named(arguments, message, server, monkeypatch, tmp_path: Path, capsys):
    with pytest.raises(SystemExit) as stopped:
        run_command(monkeypatch, *arguments, "--runs-dir", str(tmp_path))
    assert message in str(stopped.value)


def test_without_a_login_nothing_is_read(tmp_path):
    environment = {k: v for k, v in os.environ.items() if not k.startswith("WANDB_")}
    environment |= {"HOME": str(tmp_path), "NETRC": str(tmp_path / "netrc")}
    (tmp_path / "default").mkdir()
    command = [sys.executable, "-m", "fmscale.cli", "wandb", "push", "default"]
    result = subprocess.run([*command, "--runs-dir", str(tmp_path)], capture_output=True,
                            text=True, env=environment)  # fmt: skip
    assert result.returncode == 1
    assert "not logged in" in result.stderr


def test_without_a_server_nothing_is_read(tmp_path):
    environment = {k: v for k, v in os.environ.items() if not k.startswith("WANDB_")}
    environment |= {"HOME": str(tmp_path), "WANDB_API_KEY": "0" * 40,
                    "WANDB_BASE_URL": "http://127.0.0.1:9"}  # fmt: skip
    (tmp_path / "default").mkdir()
    command = [sys.executable, "-m", "fmscale.cli", "wandb", "push", "default"]
    result = subprocess.run([*command, "--runs-dir", str(tmp_path)], capture_output=True,
                            text=True, env=environment)  # fmt: skip
    assert result.returncode == 1
    assert result.stderr.splitlines()[-1].startswith("error: http://127.0.0.1:9 cannot be reached")
