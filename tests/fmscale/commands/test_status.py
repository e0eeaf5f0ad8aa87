"""What a person is told about a study."""

import io
import os
import platform
from collections.abc import Iterator

import pytest
from rich.console import Console

from fmscale.commands import status
from fmscale.forecast.reference import FORECAST
from fmscale.runs.files import write_sealed
from fmscale.runs.store import Study
from tests.helpers.records import record


@pytest.fixture
def study(tmp_path) -> Iterator[Study]:
    study = Study.open(tmp_path, "s")
    study.extend_manifest({f"run_{i}": {"n_steps": 10} for i in range(8)})
    reasons = {"failed": "RuntimeError: [bold]boom[/bold]", "oom": "MemoryError: 3 GB"}
    for number, state in enumerate(["completed", "running", "failed", "running"]):
        folder = study.run(f"run_{number}")
        folder.create("seed: 1\n")
        folder.set_status(state, step=5, n_steps=10, reason=reasons.get(state))
    study.run("run_0").write_record(record(run_id="run_0"))
    folder = study.run("run_5")
    folder.create("seed: 1\n")
    folder.set_status("diverged", step=5, n_steps=10, reason="loss is nan after 5 steps")
    folder.write_record(record(run_id=folder.run_id, status="diverged"))
    study.run("run_6").set_status("oom", step=5, n_steps=10, reason=reasons["oom"])
    # Killed after its record and before its last word.
    study.run("run_7").set_status("running", step=9, n_steps=10)
    study.run("run_7").write_record(record(run_id="run_7"))
    with study.run("run_1").lock():
        yield study


def test_a_run_off_its_course_is_pointed_out(study):
    for name in ("run_0", "run_1"):
        note = {"sentence": "heading for 3.4 in place of 2.6", "looks": []}
        write_sealed(study.run(name).path / FORECAST, note)
    found = {run.run_id: run.reason for run in status.StudyView(study).states()}
    assert found["run_0"] == found["run_1"] == "off course: heading for 3.4 in place of 2.6"


def test_every_run_has_a_state_and_a_reason(study):
    found = {run.run_id: (run.group, run.reason) for run in status.StudyView(study).states()}
    assert found["run_0"] == ("done", "")
    assert found["run_1"] == ("running", f"process {os.getpid()} on {platform.node()}")
    assert found["run_2"] == ("failed", "RuntimeError: [bold]boom[/bold]")
    assert found["run_3"][0] == "missing"
    assert "process is gone" in found["run_3"][1]
    assert found["run_4"] == ("missing", "not started")
    assert found["run_5"] == ("done", "diverged: loss is nan after 5 steps")
    assert found["run_6"] == ("failed", "out of memory: MemoryError: 3 GB")
    assert found["run_7"] == ("done", "")


def told(monkeypatch, capsys, *arguments: str) -> str:
    monkeypatch.setattr("sys.argv", ["fmscale status", *arguments])
    monkeypatch.setenv("COLUMNS", "120")
    status.main()
    return capsys.readouterr().out


def test_the_command_prints_counts(study, tmp_path, monkeypatch, capsys):
    out = told(monkeypatch, capsys, "s", "--runs-dir", str(tmp_path))
    assert "3 done · 1 running · 2 failed · 2 missing" in out


def test_failed_runs_are_shown_with_their_reasons(study, tmp_path, monkeypatch, capsys):
    out = told(monkeypatch, capsys, "s", "--failed", "--runs-dir", str(tmp_path))
    assert "RuntimeError: [bold]boom[/bold]" in out  # as it is, not as markup
    assert "out of memory" in out
    assert "fmscale retry s" in " ".join(out.split())  # the terminal may wrap it
    assert "run_0" not in out


def test_many_runs_show_first_what_needs_attention(study, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(status, "MAX_ROWS", 3)
    out = told(monkeypatch, capsys, "s", "--runs-dir", str(tmp_path))
    assert "run_2" in out
    assert "run_0" not in out
    assert "and 5 more; --all" in out
    assert "run_0" in told(monkeypatch, capsys, "s", "--all", "--runs-dir", str(tmp_path))


def test_a_view_follows_a_run(study):
    view = status.StudyView(study)
    assert view.states()[1].progress == "5/10"
    study.run("run_1").set_status("running", step=7, n_steps=10)
    assert view.states()[1].progress == "7/10"


def test_a_watch_ends_when_nothing_is_at_work(study, monkeypatch):
    monkeypatch.setattr(status, "QUIET_LOOKS", 2)
    study.run("run_1").set_status("failed", step=7, n_steps=10, reason="x")
    console = Console(file=io.StringIO(), width=120)
    status.watch(console, [status.StudyView(study)], False, 0.01)
    assert "3 failed" in console.file.getvalue()


def test_an_unknown_study_is_an_error(tmp_path, monkeypatch):
    monkeypatch.setattr("sys.argv", ["fmscale status", "nope", "--runs-dir", str(tmp_path)])
    with pytest.raises(SystemExit, match="does not hold nope"):
        status.main()


@pytest.mark.parametrize("name", ["status.json", "record.json", "manifest.json", "forecast.json"])
@pytest.mark.parametrize("content", ["", '{"a": 1}', "[" * 100_000, "\x00"])
def test_a_broken_file_is_one_line_and_hides_no_other_run(
    study, tmp_path, monkeypatch, capsys, name, content
):
    before = {s.run_id: s for s in status.StudyView(study).states()}
    path = study.path / name if name == "manifest.json" else study.run("run_7").path / name
    path.write_text(content)
    out = told(monkeypatch, capsys, "s", "--runs-dir", str(tmp_path))
    (line,) = [line for line in out.splitlines() if line.startswith("broken: ")]
    assert line.startswith(f"broken: {path} ")
    assert "; delete it" in line
    after = {s.run_id: s for s in status.StudyView(study).states()}
    if name == "manifest.json":
        assert [s.group for s in after.values()].count("done") == 3
    else:
        assert after.pop("run_7").group == "broken"
        del before["run_7"]
        assert after == before
    path.unlink()
    if name != "record.json":  # the remedy helps
        assert "broken: " not in told(monkeypatch, capsys, "s", "--runs-dir", str(tmp_path))


def test_what_runs_differ_in_is_a_column_and_an_empty_reason_is_none(tmp_path, monkeypatch, capsys):
    study = Study.open(tmp_path, "d")
    for name, rate in (("gpt_1x8-1k-s1-a", 0.0), ("gpt_1x8-1k-s1-b", 0.3)):
        folder = study.run(name)
        folder.create(f"study: d\nmodel: {{dropout: {rate}, shape: {{d_model: 8}}}}\n")
        folder.set_status("completed", step=10, n_steps=10)
        folder.write_record(record(run_id=name))
    # Everything in it was taken over, so nothing was asked for; it is a study all the same.
    assert not study.manifest_path.exists()
    (tmp_path / "notes.txt").write_text("no study")
    lines = told(monkeypatch, capsys, "--runs-dir", str(tmp_path)).splitlines()
    head = next(line for line in lines if "run" in line and "state" in line)
    assert head.replace("┃", " ").split() == ["run", "dropout", "state", "steps"]
    cells = [line.replace("│", " ").split() for line in lines if "gpt_1x8" in line]
    assert [row[1] for row in cells] == ["0", "0.3"]


def test_a_foreign_reason_gives_the_terminal_no_orders(study, tmp_path, monkeypatch, capsys):
    reason = "\x1b]0;owned\x07\x1b[2J gone"
    study.run("run_2").set_status("failed", step=5, n_steps=10, reason=reason)
    out = told(monkeypatch, capsys, "s", "--runs-dir", str(tmp_path))
    assert "\x1b" not in out
    assert "\x07" not in out
    assert "gone" in out
