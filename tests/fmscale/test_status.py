"""What a person is told about a study."""

import os

import pytest

from fmscale import status
from fmscale.forecast.reference import FORECAST
from fmscale.runs.files import write_json
from fmscale.runs.store import Study
from tests.fmscale.runs.test_store import record


@pytest.fixture
def study(tmp_path) -> Study:
    study = Study.open(tmp_path, "s")
    study.extend_manifest({f"run_{i}": {"n_steps": 10} for i in range(6)})
    for number, state in enumerate(["completed", "running", "failed", "running"]):
        folder = study.run(f"run_{number}")
        folder.create("seed: 1\n")
        reason = "RuntimeError: boom" if state == "failed" else None
        folder.set_status(state, step=5, n_steps=10, reason=reason)
    study.run("run_0").write_record(record())
    dead = study.run("run_3")
    child = os.fork()
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)
    text = (dead.path / "status.json").read_text()
    (dead.path / "status.json").write_text(text.replace(f'"pid": {os.getpid()}', f'"pid": {child}'))
    folder = study.run("run_5")
    folder.create("seed: 1\n")
    folder.set_status("diverged", step=5, n_steps=10, reason="loss is nan after 5 steps")
    folder.write_record(record(status="diverged"))
    return study


def test_a_run_off_its_course_is_pointed_out(study):
    for name in ("run_0", "run_1"):
        note = {"sentence": "heading for 3.4 in place of 2.6", "looks": []}
        write_json(study.run(name).path / FORECAST, note)
    found = {run.run_id: run.reason for run in status.states(study)}
    assert found["run_0"] == found["run_1"] == "off course: heading for 3.4 in place of 2.6"


def test_every_run_has_a_state_and_a_reason(study):
    found = {run.run_id: (run.group, run.reason) for run in status.states(study)}
    assert found["run_0"] == ("done", "")
    assert found["run_1"] == ("running", f"pid {os.getpid()}")
    assert found["run_2"] == ("failed", "RuntimeError: boom")
    assert found["run_3"][0] == "missing"
    assert "process is gone" in found["run_3"][1]
    assert found["run_4"] == ("missing", "not started")
    assert found["run_5"] == ("done", "diverged: loss is nan after 5 steps")


def test_the_command_prints_counts(study, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["fmscale status", "s", "--runs-dir", str(tmp_path)])
    status.main()
    assert "2 done · 1 running · 1 failed · 2 missing" in capsys.readouterr().out


def test_an_unknown_study_is_an_error(tmp_path, monkeypatch):
    monkeypatch.setattr("sys.argv", ["fmscale status", "nope", "--runs-dir", str(tmp_path)])
    with pytest.raises(SystemExit, match="does not hold nope"):
        status.main()
