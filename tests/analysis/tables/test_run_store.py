"""Run folders and files: what is read, what is refused, what is accounted for."""

import contextlib
import json

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from analysis import TableError, load_runs, map_columns, read_table
from analysis.tables.filters import final_runs
from analysis.tables.number_formats import parse_unit
from analysis.tables.run_store import load_curves
from tests.helpers.planted import write_study


@pytest.fixture
def study(tmp_path):
    return write_study(tmp_path / "planted", sizes=(2e4, 2e5), budgets=(1e6, 4e6))


def rewrite(run, **changes):
    record = json.loads((run / "record.json").read_text())
    record.update(changes)
    (run / "record.json").write_text(json.dumps(record))


def test_every_record_becomes_a_row_with_its_metrics(study):
    table = load_runs(study)
    assert len(table) == 4
    assert table.frame["val_loss"].notna().all()
    assert set(table.frame["tokenizer"]) == {"byte"}
    assert table.dropped == ()


def test_parent_of_studies_is_read_and_trunks_are_not_runs(study):
    trunk = study / "trunks" / "t1"
    trunk.mkdir(parents=True)
    (trunk / "status.json").write_text('{"state": "completed"}')
    assert len(load_runs(study.parent)) == 4


def test_runs_without_record_are_listed_with_their_reason(study):
    runs = sorted(p for p in study.iterdir())
    (runs[0] / "record.json").unlink()
    (runs[0] / "status.json").write_text('{"state": "failed", "reason": "out of memory"}')
    (runs[1] / "record.json").write_text('{"schema_version": 1, "run_')
    table = load_runs(study)
    assert len(table) == 2
    reasons = " | ".join(str(d) for d in table.dropped)
    assert "out of memory" in reasons
    assert "not valid JSON" in reasons
    assert runs[0].name in reasons


def test_a_run_of_an_unknown_schema_version_is_left_out_by_name(study):
    rewrite(next(iter(sorted(study.iterdir()))), schema_version=7)
    table = load_runs(study)
    assert len(table) == 3
    assert "schema version 7" in str(table.dropped[0])


@pytest.mark.parametrize("content", [b"", b"\xff", b"[1]", b"[" * 100_000])
def test_a_broken_record_or_status_is_told_and_hides_no_other_run(study, content):
    runs = sorted(study.iterdir())
    (runs[0] / "record.json").write_bytes(content)
    (runs[1] / "record.json").unlink()
    (runs[1] / "status.json").write_bytes(content)
    table = load_runs(study)
    assert len(table) == 2
    told = {drop.rows[0]: drop.reason for drop in table.dropped}
    assert told[runs[0].name].startswith("broken: record.json ")
    assert told[runs[0].name].endswith(
        "; delete it, and the sweep's command measures the run again"
    )
    assert "broken: status.json" in told[runs[1].name]


def test_two_records_of_one_id_are_refused_and_copies_counted(study, tmp_path):
    runs = sorted(study.iterdir())
    (study / "copy").mkdir()
    text = (runs[0] / "record.json").read_text()
    (study / "copy" / "record.json").write_text(text)
    table = load_runs(study)
    assert len(table) == 4
    assert "the same run twice" in str(table.dropped[0])
    rewrite(study / "copy", seed=99)
    with pytest.raises(TableError, match="ids must be unique"):
        load_runs(study)


def test_diverged_and_unannealed_runs_leave_with_a_reason(study):
    runs = sorted(study.iterdir())
    rewrite(runs[0], status="diverged")
    rewrite(runs[1], annealed=False)
    table = final_runs(load_runs(study))
    assert len(table) == 2
    assert {d.reason for d in table.dropped} == {
        "status is diverged",
        "not annealed: a mid-trunk loss",
    }


def test_missing_metric_is_missing_never_zero(study):
    rewrite(next(iter(sorted(study.iterdir()))), metrics={})
    frame = load_runs(study).frame
    assert frame["val_loss"].isna().sum() == 1
    assert not (frame["val_loss"] == 0).any()


def test_empty_and_absent_folders_are_named(tmp_path):
    with pytest.raises(TableError, match="no run folder"):
        load_runs(tmp_path)
    with pytest.raises(TableError, match="no such folder"):
        load_runs(tmp_path / "nowhere")
    with pytest.raises(TableError, match="no such file"):
        read_table(tmp_path / "nowhere.csv")


def test_files_of_each_kind_give_the_same_table(tmp_path):
    frame = pd.DataFrame({"N": [1e6, 2.5e7], "loss": [3.123456789012345, 2.5]})
    frame.to_csv(tmp_path / "a.csv", index=False)
    frame.to_json(tmp_path / "a.jsonl", orient="records", lines=True, double_precision=15)
    frame.to_parquet(tmp_path / "a.parquet")
    for ending in ("csv", "jsonl", "parquet"):
        read = read_table(tmp_path / f"a.{ending}").frame
        np.testing.assert_array_equal(read.to_numpy(float), frame.to_numpy(float))


def test_torn_last_line_is_counted_and_a_torn_middle_is_an_error(tmp_path):
    path = tmp_path / "m.jsonl"
    path.write_text('{"a": 1}\n{"a": 2}\n{"a": ')
    table = read_table(path)
    assert len(table) == 2
    assert "torn" in table.warnings[0]
    path.write_text('{"a": 1}\n{"a": \n{"a": 2}\n')
    with pytest.raises(TableError, match="line 2"):
        read_table(path)


@pytest.mark.parametrize(
    ("text", "message"),
    [("", "empty"), ("N,loss\n", "no rows"), ("a,b\n1,2\n1,2,3,4\n", "not a regular table")],
)
def test_unusable_csv_is_an_error_in_words(tmp_path, text, message):
    (tmp_path / "x.csv").write_text(text)
    with pytest.raises(TableError, match=message):
        read_table(tmp_path / "x.csv")


def test_binary_and_unknown_files_are_refused(tmp_path):
    for name, message in (("x.csv", "UTF-8"), ("x.jsonl", "UTF-8"), ("x.parquet", "Parquet"),
                          ("x.xls", "unknown ending")):  # fmt: skip
        (tmp_path / name).write_bytes(b"\xff\xfe\x00\x01\x80")
        with pytest.raises(TableError, match=message):
            read_table(tmp_path / name)


def test_text_in_a_number_column_names_row_and_column(tmp_path):
    (tmp_path / "x.csv").write_text("size,loss\n1e6,3.0\nbig,2.9\n3e6,2.8\n")
    with pytest.raises(TableError, match=r"column 'size', row 2 .*'big'"):
        map_columns(read_table(tmp_path / "x.csv"), {"N": "size"})


def test_unknown_column_lists_those_there_are(tmp_path):
    (tmp_path / "x.csv").write_text("size,loss\n1e6,3.0\n")
    with pytest.raises(TableError, match="there are: size, loss"):
        map_columns(read_table(tmp_path / "x.csv"), {"N": "params"})


def test_data_is_derived_by_a_stated_rule():
    table = map_columns(pd.DataFrame({"n": [1e6], "c": [6e15]}), {"N": "n", "C": "c"}, {"D": "6nd"})
    assert table.frame["D"].iloc[0] == pytest.approx(1e9)
    assert table.conventions["D"] == "C / (6 N)"
    with pytest.raises(TableError, match="needs C and N"):
        map_columns(pd.DataFrame({"n": [1e6]}), {"N": "n"}, {"D": "6nd"})
    with pytest.raises(TableError, match="both"):
        map_columns(pd.DataFrame({"n": [1.0], "c": [1.0], "d": [1.0]}),
                    {"N": "n", "C": "c", "D": "d"}, {"D": "6nd"})  # fmt: skip


def test_duplicate_ids_must_be_identical():
    frame = pd.DataFrame({"id": ["a", "a", "b"], "N": [1.0, 1.0, 2.0]})
    table = map_columns(frame, {}, run_id="id")
    assert len(table) == 2
    assert table.dropped[0].count == 1
    frame.loc[1, "N"] = 5.0
    with pytest.raises(TableError, match="'a' stands for different rows"):
        map_columns(frame, {}, run_id="id")


@pytest.mark.parametrize(
    ("text", "value"),
    [("1e21", 1e21), ("70B", 70e9), ("1_000", 1000.0), ("2 PF-days", 1.728e20), ("3.5k", 3500.0)],
)
def test_quantities_with_suffixes(text, value):
    assert parse_unit(text) == pytest.approx(value)
    with pytest.raises(ValueError, match="not a number"):
        parse_unit("a lot")


JUNK = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=6,
)


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(record=st.dictionaries(
    st.sampled_from(["schema_version", "run_id", "study", "family", "status", "metrics", "data"]),
    JUNK | st.just(1), max_size=8,
))  # fmt: skip
def test_any_record_gives_a_table_or_one_clear_error(tmp_path, record):
    run = tmp_path / "s" / "r"
    run.mkdir(parents=True, exist_ok=True)
    (run / "record.json").write_text(json.dumps(record))
    with contextlib.suppress(TableError):  # the one error allowed; any other fails the test
        table = load_runs(tmp_path / "s")
        assert len(table) + sum(d.count for d in table.dropped) == 1


@settings(
    max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.binary(max_size=200), ending=st.sampled_from(["csv", "jsonl", "tsv", "parquet"]))
def test_any_bytes_give_a_table_or_one_clear_error(tmp_path, data, ending):
    path = tmp_path / f"x.{ending}"
    path.write_bytes(data)
    with contextlib.suppress(TableError):  # the one error allowed; any other fails the test
        assert len(read_table(path)) > 0


VALUES = st.floats(allow_nan=True, allow_infinity=True, width=64)


@settings(max_examples=60, deadline=None)
@given(rows=st.lists(st.tuples(VALUES, VALUES, VALUES), min_size=0, max_size=12))
def test_no_row_is_lost_without_account(rows):
    from analysis.tables.filters import positive_values

    frame = pd.DataFrame(rows, columns=["N", "D", "metric"])
    table = map_columns(frame, {"N": "N", "D": "D", "metric": "metric"})
    kept = positive_values(table, ["N", "D", "metric"], "metric")
    assert len(kept) + sum(d.count for d in kept.dropped) == len(rows)
    if len(kept):
        values = kept.frame[["N", "D", "metric"]].to_numpy(float)
        assert np.isfinite(values).all()
        assert (values > 0).all()


def test_spreadsheet_exports_are_read(tmp_path):
    path = tmp_path / "export.csv"
    path.write_text("\ufeff Params (M) ;Loss\n1,5;3,25\n20;2,5\n", encoding="utf-8")
    table = map_columns(read_table(path), {"N": "Params (M)", "metric": "Loss"})
    assert table.frame["N"].tolist() == [1.5e6, 2e7]
    assert table.frame["metric"].tolist() == [3.25, 2.5]
    assert any("as its header states" in w for w in table.warnings)


def test_a_comma_separated_table_keeps_its_decimal_points(tmp_path):
    path = tmp_path / "plain.csv"
    path.write_text("n,note,loss\n10,a;b,2.5\n20,c,2.25\n")
    assert read_table(path).numbers("loss").tolist() == [2.5, 2.25]


def test_a_comma_at_the_end_of_rows_does_not_shift_the_columns(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("N,D,loss\n1e6,1e8,3,\n2e6,1e8,2.9,\n")
    assert read_table(path).frame["N"].tolist() == [1e6, 2e6]
    path.write_text("N,D,loss\n1e6,1e8,3,9\n2e6,1e8,2.9,8\n")
    with pytest.raises(TableError, match="more cells than the header"):
        read_table(path)


def test_exported_runs_of_an_unknown_schema_are_refused(tmp_path):
    path = tmp_path / "runs.csv"
    path.write_text("run_id,schema_version,N\na,99,1e6\n")
    with pytest.raises(TableError, match="schema version 99"):
        read_table(path)


def test_rows_that_repeat_are_counted(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("N,loss\n1e6,3\n2e6,2.9\n1e6,3\n")
    assert any("1 rows repeat" in w for w in read_table(path).warnings)


def test_thousands_separators_and_suffixes_are_numbers(tmp_path):
    path = tmp_path / "written.csv"
    path.write_text('n,d,loss\n"1,234,567",70B,2.5\n20,1.5T,2.25\n')
    table = read_table(path)
    assert table.numbers("n").tolist() == [1234567, 20]
    assert table.numbers("d").tolist() == [7e10, 1.5e12]


@given(st.text(alphabet="0123456789,.eE+-kMBT \u00a0;", max_size=12))
def test_a_cell_is_a_number_or_named_in_an_error(text):
    table = map_columns(pd.DataFrame({"a": ["1", text]}), {})
    try:
        answer = str(table.numbers("a").shape)
    except TableError as error:
        answer = str(error)
    assert answer == "(2,)" or "row 2" in answer


def test_training_curves_come_from_trunks(study):
    runs = sorted(study.iterdir())
    for run in runs:
        record = json.loads((run / "record.json").read_text())
        trunk = study / "trunks" / record["trunk_id"]
        trunk.mkdir(parents=True, exist_ok=True)
        rows = [{"step": i, "tokens": 100 * i, "flops": 6e6 * i, "train/loss": 4 - 0.1 * i}
                for i in range(1, 6)]  # fmt: skip
        text = "\n".join(json.dumps(row) for row in rows)
        (trunk / "metrics.jsonl").write_text(text + '\n{"step": 6, "tok')
    curves = load_curves(study)
    assert set(curves.frame["n_seen"]) == {100, 200, 300, 400, 500}
    assert len(curves) == 5 * curves.frame["trunk_id"].nunique()
    with pytest.raises(TableError, match="no run logged test_loss"):
        load_curves(study, "test_loss")
