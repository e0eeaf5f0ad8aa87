"""Run folders keep their promises about state."""

import os

import pytest

from fmscale.runs.record import SCHEMA_VERSION, RunRecord
from fmscale.runs.store import RunFolder, Study, is_alive


def record(**changes) -> RunRecord:
    fields = {
        "run_id": "gpt_1x16-1k-s1-0", "study": "s", "family": "gpt", "model": "gpt_1x16",
        "trunk_id": "t", "seed": 1, "status": "completed", "annealed": True, "schedule": "wsd",
        "n_params_total": 10, "n_params_non_embedding": 5, "n_params_matmul": 7,
        "n_params_by_group": {"mlp": 10}, "n_tokens": 1000, "metrics": {"val_loss": 2.0},
        "units": {"val_loss": "nats/token"},
    }  # fmt: skip
    return RunRecord(**{**fields, **changes})


def test_a_record_comes_back_as_written(tmp_path):
    folder = RunFolder(tmp_path / "run")
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


def test_a_running_status_of_a_dead_process_is_noticed(tmp_path):
    folder = RunFolder(tmp_path / "run")
    folder.set_status("running")
    status = folder.status()
    assert is_alive(status)
    child = os.fork()
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)
    assert not is_alive({**status, "pid": child})
