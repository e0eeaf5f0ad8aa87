"""A study leaves the store as a table."""

import csv
import io

import pytest

from fmscale.commands import export
from fmscale.commands.export import rows, to_csv
from fmscale.runs.store import Study
from tests.helpers.records import record


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
    folder.write_record(record(run_id="one", hyperparameters={"optimizer": {"lr": 0.5}}))
    paths = ["hyperparameters.optimizer.lr", "hyperparameters.optimizer.absent"]
    (row,) = rows(study, paths)
    assert row[paths[0]] == 0.5
    assert paths[1] not in row


def test_parquet_holds_what_csv_holds(study, tmp_path, monkeypatch):
    pandas = pytest.importorskip("pandas")
    pytest.importorskip("pyarrow")
    tables = []
    for name, read in (("t.csv", pandas.read_csv), ("t.parquet", pandas.read_parquet)):
        arguments = ["s", "--runs-dir", str(study.path.parent), "--out", str(tmp_path / name)]
        monkeypatch.setattr("sys.argv", ["fmscale export", *arguments])
        export.main()
        tables.append(read(tmp_path / name))
    # Text that is empty and text that is missing look the same in CSV.
    columns = ["run_id", "status", *tables[1].select_dtypes("number")]
    pandas.testing.assert_frame_equal(tables[0][columns], tables[1][columns], check_dtype=False)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["s", "--out", "t.xlsx"], "must end with .csv or .parquet"),
        (["nope", "--out", "t.csv"], "nope does not exist"),
        (["../s", "--out", "t.csv"], "is not a folder name"),
        (["s", "--out", "t.csv", "--columns", "nope"], "no record has the column"),
    ],
)
def test_mistakes_are_named(study, monkeypatch, capsys, arguments, message):
    root = ["--runs-dir", str(study.path.parent)]
    monkeypatch.setattr("sys.argv", ["fmscale export", *arguments, *root])
    with pytest.raises(SystemExit) as stopped:
        export.main()
    assert message in f"{stopped.value}{capsys.readouterr().err}"


def test_a_broken_record_is_one_line_and_the_others_are_written(study, tmp_path, capsys):
    study.run("c").create("seed: 1\n")
    study.run("c").write_record(record(run_id="c"))
    path = study.run("c").path / "record.json"
    path.write_text(path.read_text().replace("2.0", "2.1"))  # a digit flipped
    assert [row["run_id"] for row in rows(study)] == ["a", "b"]
    remedy = "delete it, and the sweep's command measures the run again"
    problem = f"broken: {path} was altered (its checksum differs); {remedy}\n"
    assert capsys.readouterr().err == problem
