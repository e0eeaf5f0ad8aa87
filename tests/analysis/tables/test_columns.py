"""Names of columns: the file's own come first, in queries, formulas, groups and predictions."""

import json

import numpy as np
import pandas as pd
import pytest

from analysis import fit, map_columns, where
from analysis.__main__ import main
from analysis.tables.filters import evaluate_column

N = np.geomspace(1e6, 1e9, 8)
FIT = ["--interval", "none", "--no-sensitivity", "--json", "f.json"]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def parameters():
    with open("f.json") as file:
        return json.load(file)["parameters"]


def test_a_tidy_table_keeps_its_own_column_metric(folder, capsys):
    rows = [{"params": n, "metric": metric, "value": scale * n**-0.1, "D": 4, "x": "y"}
            for n in N for metric, scale in (("bpb", 20), ("acc", 3))]  # fmt: skip
    pd.DataFrame(rows).to_csv("t.csv", index=False)
    command = ["fit", "t.csv", "--law", "power", "--x", "params", "--metric", "value", *FIT]
    assert main([*command, "--where", "metric == 'bpb'", "--where", "x == 'y'"]) == 0
    assert parameters() == pytest.approx({"a": 20, "c": 0.1})
    out = capsys.readouterr().out
    assert "8 dropped: not metric == 'bpb'" in out
    assert "the file has a column metric of its own" in out
    assert "the file has a column x of its own" in out
    assert main([*command, "--hold-out", "metric == 'acc'"]) == 0
    assert parameters() == pytest.approx({"a": 20, "c": 0.1})
    assert main([*command, "--by", "metric"]) == 0
    with open("f.json") as file:
        groups = json.load(file)["groups"]
    assert groups["acc"]["parameters"] == pytest.approx({"a": 3, "c": 0.1})
    assert main(command) == 0  # both together
    assert "one law for 2 values of metric (acc, bpb)" in capsys.readouterr().out


@pytest.mark.parametrize("letter", ["N", "D", "C", "U", "S", "x", "L"])
def test_a_letter_of_the_law_hides_no_column_of_the_file(letter):
    frame = pd.DataFrame({letter: [1.0, 2.0, 3.0], "size": [10.0, 20.0, 30.0], "loss": [3, 2, 1]})
    table = map_columns(frame, {letter: "size", "metric": "loss"})
    assert where(table, f"{letter} > 1.5").numbers(letter).tolist() == [20, 30]
    assert evaluate_column(table, f"{letter} * 2", "--x").tolist() == [2, 4, 6]
    # Without a column of its own the letter is the law's.
    plain = map_columns(frame.drop(columns=letter), {letter: "size", "metric": "loss"})
    assert where(plain, f"{letter} > 15").numbers(letter).tolist() == [20, 30]
    assert not plain.warnings


def test_formulas_read_whole_names_only():
    frame = pd.DataFrame({"model": ["a", "b"], "model_size_b": [1.0, 2.0], "size": ["x", "y"],
                          "e": ["p", "q"], "b": ["r", "s"]})  # fmt: skip
    assert evaluate_column(
        map_columns(frame, {}), "model_size_b * 1e9", "--x"
    ).tolist() == [1e9, 2e9]  # fmt: skip


def test_names_with_dots_and_slashes_need_no_backticks():
    frame = pd.DataFrame({"model.dropout": [0.0, 0.3], "eval/loss": [3.0, 2.0], "a": [4.0, 9.0],
                          "b": [2.0, 3.0], "a/b": [7.0, 8.0], "kind": ["eval/loss", "y"],
                          })  # fmt: skip
    table = map_columns(frame, {})
    assert len(where(table, "model.dropout > 0.1 and eval/loss < 2.5")) == 1
    assert len(where(table, "kind == 'eval/loss'")) == 1
    assert evaluate_column(table, "eval/loss * 2", "--x").tolist() == [6, 4]
    assert evaluate_column(table, "a/b + 0", "--x").tolist() == [2, 3]  # both are columns
    assert evaluate_column(table, "`a/b` + 0", "--x").tolist() == [7, 8]


def test_predictions_are_of_the_group_and_bear_the_names_of_the_table(folder, capsys):
    frame = pd.concat([
        pd.DataFrame({"data": data, "params": N, "loss": scale * N**-0.1})
        for data, scale in (("web", 20.0), ("code", 10.0))
    ])  # fmt: skip
    frame.to_csv("t.csv", index=False)
    new = pd.DataFrame({"Model": ["big-web", "big-code"], "data": ["web", "code"], "params": 1e10})
    new.to_csv("new.csv", index=False)
    command = ["fit", "t.csv", "--law", "power", "--x", "params", "--loss", "loss", "--by", "data"]
    assert main([*command, "--predict", "new.csv", *FIT]) == 0
    with open("f.json") as file:
        groups = json.load(file)["groups"]
    found = {k: [(p["id"], p["mean"]) for p in v["predictions"]] for k, v in groups.items()}
    assert found == {"web": [("big-web", pytest.approx(2.0))],
                     "code": [("big-code", pytest.approx(1.0))]}  # fmt: skip
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert next(words for words in lines if words[:1] == ["big-code"])[2] == "1"
    new[:1].to_csv("new.csv", index=False)
    assert main([*command, "--predict", "new.csv", *FIT]) == 0
    assert "new.csv has no row of data = code" in capsys.readouterr().out


def test_a_formula_of_the_fit_is_computed_for_the_rows_to_predict(folder):
    pd.DataFrame({"size": N / 1e9, "loss": 20 * N**-0.1}).to_csv("t.csv", index=False)
    pd.DataFrame({"size": [10.0]}).to_csv("new.csv", index=False)
    command = ["fit", "t.csv", "--law", "power", "--x", "size * 1e9", "--loss", "loss"]
    assert main([*command, "--predict", "new.csv", *FIT]) == 0
    with open("f.json") as file:
        assert json.load(file)["predictions"][0]["mean"] == pytest.approx(2.0)


def test_rows_are_named_by_a_column_of_names():
    frame = pd.DataFrame({"Name": ["a", "b", "c"], "N": [1.0, np.nan, 3.0], "metric": [3.0, 2, 1]})
    result = fit("power", frame, columns={"x": "N"}, interval="none")
    assert result.data["id"] == ["a", "c"]
    assert result.dropped[0].rows == ("b",)
