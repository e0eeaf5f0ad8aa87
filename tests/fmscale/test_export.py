"""A study leaves the store as a table."""

import csv
import io

import pytest

from fmscale.export import rows, to_csv
from fmscale.runs.store import Study
from tests.fmscale.runs.test_store import record


@pytest.fixture
def study(tmp_path) -> Study:
    study = Study.open(tmp_path, "s")
    for name, changes in {
        "a": {"run_id": "a"},
        "b": {"run_id": "b", "status": "diverged", "metrics": {}, "units": {}},
    }.items():
        study.run(name).create("seed: 1\n")
        study.run(name).write_record(record(**changes))
    return study


def test_missing_values_are_empty_cells(study):
    table = list(csv.DictReader(io.StringIO(to_csv(rows(study)))))
    assert [row["val_loss"] for row in table] == ["2.0", ""]
    assert [row["status"] for row in table] == ["completed", "diverged"]


def test_columns_can_be_chosen(study):
    assert to_csv(rows(study), ["run_id", "val_loss"]) == "run_id,val_loss\na,2.0\nb,\n"


def test_an_unknown_column_is_refused(study):
    with pytest.raises(ValueError, match="no record has the column.*nope"):
        to_csv(rows(study), ["nope"])


def test_nested_provenance_is_a_column_when_asked_for(tmp_path):
    study = Study.open(tmp_path, "s")
    folder = study.run("one")
    folder.create("seed: 1\n")
    folder.write_record(record(hyperparameters={"optimizer": {"lr": 0.5}}))
    paths = ["hyperparameters.optimizer.lr", "hyperparameters.optimizer.absent"]
    (row,) = rows(study, paths)
    assert row[paths[0]] == 0.5
    assert paths[1] not in row
