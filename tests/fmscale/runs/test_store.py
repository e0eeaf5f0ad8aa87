"""Run folders keep their promises about state."""

import os
import subprocess
import sys

import pytest

from fmscale.runs.record import SCHEMA_VERSION, RunRecord
from fmscale.runs.store import RunFolder, Study
from tests.helpers.records import record


def test_a_record_comes_back_as_written(tmp_path):
    folder = RunFolder(tmp_path / record().run_id)
    folder.write_record(record())
    back = folder.record()
    assert back.metrics == {"val_loss": 2.0}
    assert back.units["n_tokens"] == "tokens"
    assert back.units["val_loss"] == "nats/token"


def test_columns_of_the_other_family_are_absent():
    row = record().to_dict()
    assert "n_samples" not in row
    assert "seconds_train" not in row


def test_an_unknown_schema_is_refused():
    row = {**record().to_dict(), "schema_version": SCHEMA_VERSION + 1}
    with pytest.raises(ValueError, match="schema_version 2, this release reads 1"):
        RunRecord.from_dict(row)


def test_an_unknown_column_is_refused():
    with pytest.raises(ValueError, match=r"unknown columns \['surprise'\]"):
        RunRecord.from_dict({**record().to_dict(), "surprise": 1})


@pytest.mark.parametrize("name", ["", "..", "a/b", "/etc", ".hidden", "a b"])
def test_a_study_cannot_leave_the_store(tmp_path, name):
    with pytest.raises(ValueError, match="is not a folder name"):
        Study.open(tmp_path, name)


def test_manifest_grows_and_keeps(tmp_path):
    study = Study.open(tmp_path, "s")
    study.extend_manifest({"a": {"n_steps": 1}})
    study.extend_manifest({"b": {"n_steps": 2}})
    assert set(study.manifest()) == {"a", "b"}


def test_trunks_are_not_runs(tmp_path):
    study = Study.open(tmp_path, "s")
    study.run("r").create("seed: 1\n")
    study.trunk("t").create("seed: 1\n")
    assert [folder.run_id for folder in study.runs()] == ["r"]


@pytest.mark.parametrize("name", ["../s2", "a/b", "/etc", "", ".."])
def test_no_folder_of_a_run_leaves_its_study(tmp_path, name):
    study = Study.open(tmp_path, "s")
    for open_folder in (study.run, study.trunk):
        with pytest.raises(ValueError, match="is not a folder name"):
            open_folder(name)
    with pytest.raises(ValueError, match="is not a folder name"):
        study.run("r").write_table(name, [])


def test_a_run_is_at_work_while_its_lock_is_held(tmp_path):
    folder = RunFolder(tmp_path / "run")
    assert not folder.is_at_work()
    with folder.lock():
        assert folder.is_at_work()
    assert not folder.is_at_work()


EXTENDER = """
import sys
from pathlib import Path
from fmscale.runs.store import Study
for i in range(20):
    Study(Path(sys.argv[1])).extend_manifest({f"{sys.argv[2]}{i}": {}})
"""


def test_sweeps_side_by_side_lose_nothing_of_the_manifest(tmp_path):
    command = [sys.executable, "-c", EXTENDER, str(tmp_path / "s")]
    children = [subprocess.Popen([*command, name]) for name in "abc"]
    assert [child.wait() for child in children] == [0] * 3
    assert len(Study.open(tmp_path, "s").manifest()) == 60


def test_what_a_kill_left_half_written_goes_once_it_is_old(tmp_path):
    folder = RunFolder(tmp_path / "run")
    folder.create("seed: 1\n")
    old, new = folder.path / ".metrics.jsonl.abc", folder.path / ".status.json.def"
    for path in (old, new):
        path.touch()
    os.utime(old, (0, 0))
    folder.create("seed: 1\n")
    assert not old.exists()
    assert new.exists()
