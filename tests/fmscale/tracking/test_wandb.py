"""Real W&B offline files, read back with W&B's own reader."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import wandb

from fmscale.errors import ConfigError
from fmscale.launching.trackers import reach_trackers
from fmscale.planning.store_plan import study_of
from fmscale.runs.reuse import adopt_run
from fmscale.runs.store import Study
from fmscale.tracking import wandb as wandb_tracker
from fmscale.tracking.panels import study_sections
from fmscale.tracking.wandb import WandbTracker
from fmscale.training import run
from tests.helpers.training import BREAKABLE, Breakable

NOBODY = "http://127.0.0.1:9"  # the port that discards; nothing listens there
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
    return plan_one([*wandb, "budget.tokens=[2560,5120]", BREAKABLE])


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


def test_a_run_taken_over_is_logged_under_the_study_that_uses_it(job, monkeypatch):
    from fmscale.commands import evaluate

    run.train_trunk(job)
    run.train_branch(job, job.branches[0])
    home = study_of(job)
    other = Study.open(home.path.parent, "other")
    other.path.mkdir()
    adopt_run(home.run(job.branches[0].run_id), other)
    chosen = ["evaluation=position", "logger=wandb", "--runs-dir", str(other.path.parent)]
    monkeypatch.setattr(sys, "argv", ["fmscale evaluate", "other", *chosen])
    evaluate.main()
    file = offline_file(other.path / job.branches[0].run_id)
    summary = json.loads(inspect(file, "--summary"))
    assert summary["run_id"] == f"{job.branches[0].run_id}-other"
    assert summary["tags"] == ["other", "gpt", "gpt_1x16"]
    assert summary["summary"]["study"] == "other"
    (started,) = records(file, "run")
    assert (started["run_group"], started["job_type"]) == ("other", "run")
    assert exit_code(other.path / job.branches[0].run_id) == 0


@pytest.mark.parametrize("family", ["gpt", "clip"])
def test_what_panels_ask_for_is_in_the_file_of_a_live_run(family, tiny, tiny_clip, plan_one):
    overrides = {"gpt": [*tiny, "budget.tokens=2560"], "clip": [*tiny_clip, "budget.samples=160"]}
    job = plan_one([*overrides[family], "logger=wandb"])
    run.train_trunk(job)
    run.train_branch(job, job.branches[0])
    folder = study_of(job).run(job.branches[0].run_id)
    record, file = folder.record(), offline_file(folder.path)
    summary = json.loads(inspect(file, "--summary"))["summary"]
    for name, value in record.flat().items():
        assert summary[name] == value, name
    logged = {key for row in history(file) for key in row}
    panels = [panel for section in study_sections([record]) for panel in section.panels]
    assert ("zero_shot_error" in {panel.y for panel in panels}) == (family == "clip")
    for panel in panels:
        assert {panel.x, panel.y} <= (logged if panel.kind == "line" else set(summary)), panel


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
    monkeypatch.setattr(Breakable, "error", RuntimeError("boom"))
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
    assert WandbTracker()._mode() == "offline"
    assert WandbTracker(mode="disabled")._mode() == "disabled"


@pytest.fixture
def logged_in(monkeypatch, tmp_path):
    """address -> a key for the W&B server there, and nothing that says whether to use it."""

    def log_in(address: str) -> None:
        wandb.teardown()
        # The variable is set by the tracker, too: what was there before comes back.
        monkeypatch.setenv("WANDB_MODE", "")
        monkeypatch.delenv("WANDB_MODE")
        monkeypatch.setenv("HOME", str(tmp_path))
        monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
        monkeypatch.setenv("WANDB_BASE_URL", address)

    yield log_in
    wandb.teardown()


@pytest.fixture
def refusing():
    """Address of a server that knows no key."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"] or 0))
            self.send_error(401)

        do_GET = do_POST

        def log_message(self, *arguments: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_a_key_without_a_network_means_offline_and_is_said_once(job, logged_in, capsys):
    logged_in(NOBODY)
    reach_trackers([job.config, job.config])
    said = capsys.readouterr().out
    runs_dir = job.config["paths"]["runs_dir"]
    assert said == (
        f"W&B: offline, since {NOBODY} cannot be reached ([Errno 111] Connection refused); upload "
        f"the runs later with `fmscale wandb push default --runs-dir {runs_dir}`\n"
    )
    reach_trackers([job.config])  # a process that this one has started
    assert capsys.readouterr().out == ""
    run.train_trunk(job)
    run.train_branch(job, job.branches[0])
    assert offline_file(study_of(job).run(job.branches[0].run_id).path).exists()


def test_a_key_that_the_server_refuses_means_offline(job, logged_in, refusing, capsys):
    logged_in(refusing)
    reach_trackers([job.config])
    assert f"W&B: offline, since {refusing} refuses the key" in capsys.readouterr().out


@pytest.mark.parametrize(("where", "name"), [("mode", "logger.mode"), ("env", "WANDB_MODE")])
def test_online_by_name_without_a_server_is_refused_before_training(
    job, logged_in, monkeypatch, where, name
):
    logged_in(NOBODY)
    config = {**job.config, "logger": dict(job.config["logger"])}
    if where == "mode":
        config["logger"]["mode"] = "online"
    else:
        monkeypatch.setenv("WANDB_MODE", "online")
    message = f"^{name}=online, but {NOBODY} cannot be reached .*; take logger.mode=offline$"
    with pytest.raises(ConfigError, match=message):
        reach_trackers([config])
    config["logger"]["mode"] = "offline"
    reach_trackers([config])


def test_a_server_that_goes_after_it_was_asked_stops_no_run(job, logged_in, monkeypatch):
    logged_in(NOBODY)
    monkeypatch.setattr(wandb_tracker, "START_SECONDS", 2.0)
    branch = job.branches[0]
    run.train_trunk(job)
    run.train_branch(job, branch)
    folder = study_of(job).run(branch.run_id)
    assert folder.is_finished()
    assert history(offline_file(folder.path)) == by_step(folder.metrics())


def test_an_unknown_mode_is_refused():
    with pytest.raises(ValueError, match="logger.mode='on'"):
        WandbTracker(mode="on")


@pytest.mark.parametrize("name", ["../x", "a/b", "a:b", ""])
def test_a_name_that_wandb_refuses_is_refused_before_training(name):
    for key in ("project", "entity"):
        with pytest.raises(ValueError, match=f"logger.{key}="):
            WandbTracker(**{key: name})
