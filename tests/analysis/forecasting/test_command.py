"""`fmscale-analysis forecast` from tables and studies, as scripts and readers rely on it."""

import json

import numpy as np
import pandas as pd
import pytest

from analysis.__main__ import main
from analysis.cli.ladder import row_lines
from tests.helpers.planted import GPT_LAW, joint_loss, write_study

ROW = {"id", "value", "predicted", "low", "high", "low50", "high50", "distance"}


@pytest.fixture
def runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    n = np.repeat(np.geomspace(1e6, 1e8, 7), 5)
    d = n * np.tile([5, 15, 45, 90, 180], 7)
    rng = np.random.default_rng(3)
    loss = joint_loss(GPT_LAW, n, d) * np.exp(0.004 * rng.standard_normal(35))
    names = [f"run-{i}" for i in range(35)]
    frame = pd.DataFrame({"name": names, "size": n, "seen": d, "flop": 6 * n * d, "ce": loss})
    frame.to_csv("runs.csv", index=False)
    return frame


NAMED = ["--n", "size", "--d", "seen", "--c", "flop", "--loss", "ce", "--run-id", "name"]


def answer_of(*arguments):
    assert main(["forecast", *arguments, "--json", "f.json"]) == 0
    with open("f.json") as file:
        return json.load(file)


def test_held_out_runs_have_the_fields_that_scripts_read(runs, capsys):
    answer = answer_of("runs.csv", *NAMED, "--hold-out", "C > 1e17")
    rows = answer["held_out"]["rows"]
    held = runs[runs["flop"] > 1e17]
    assert [row["id"] for row in rows] == list(held["name"])
    assert [row["value"] for row in rows] == list(held["ce"])
    for row in rows:
        assert set(row) >= ROW
        assert row["low"] < row["low50"] < row["predicted"] < row["high50"] < row["high"]
    largest = runs.loc[runs["flop"] <= 1e17, "flop"].max()
    assert [row["distance"] for row in rows] == pytest.approx(list(held["flop"] / largest))
    assert sum(law["weight"] for law in answer["laws"]) == pytest.approx(1)
    assert answer["verdict"] in ("determined", "uncertain", "not determined")
    assert "few forecasts were ever checked" in answer["warnings"][0]
    assert answer["n_points"] == 35 - len(held)
    assert answer["held_out"]["covered"] >= 0.8 * len(held)
    first = capsys.readouterr().out.splitlines()[0]
    assert f"of {len(held)} held-out runs lie in their 95 % interval" in first


def test_held_out_values_move_no_forecast(runs):
    first = answer_of("runs.csv", *NAMED, "--hold-out", "C > 1e17")["held_out"]["rows"]
    runs.loc[runs["flop"] > 1e17, "ce"] *= 1.3
    runs.to_csv("runs.csv", index=False)
    second = answer_of("runs.csv", *NAMED, "--hold-out", "C > 1e17")["held_out"]["rows"]
    assert [r["high"] for r in first] == [r["high"] for r in second]


def test_runs_of_another_table_are_forecast_without_values(runs):
    pd.DataFrame({"name": ["a", "b"], "size": [1e9, 2e9], "seen": [2e10, 2e10]}).to_csv(
        "other.csv", index=False
    )
    rows = answer_of("runs.csv", *NAMED, "--predict", "other.csv")["predictions"]["rows"]
    assert [row["id"] for row in rows] == ["a", "b"]
    assert all("value" not in row and row["low"] < row["high"] for row in rows)
    expected = 6 * 1e9 * 2e10 / runs["flop"].max()
    assert rows[0]["distance"] == pytest.approx(expected, rel=1e-3)


def test_a_level_widens_the_interval_and_leaves_the_half(runs):
    wide = answer_of("runs.csv", *NAMED, "--hold-out", "C > 1e17", "--level", "0.99")
    usual = answer_of("runs.csv", *NAMED, "--hold-out", "C > 1e17")
    a, b = wide["held_out"]["rows"][-1], usual["held_out"]["rows"][-1]
    assert a["low"] < b["low"] < b["high"] < a["high"]
    assert a["low50"] == b["low50"]


def test_one_variable_goes_the_same_way(runs):
    x = np.geomspace(10, 1e4, 14)
    error = 0.1 + 0.8 * x**-0.3
    pd.DataFrame({"steps": x, "error": error}).to_csv("curve.csv", index=False)
    answer = answer_of("curve.csv", "--x", "steps", "--loss", "error", "--hold-out", "steps > 1000")
    assert answer["held_out"]["covered"] == answer["held_out"]["n"] == 5
    assert answer["held_out"]["rows"][-1]["distance"] == pytest.approx(1e4 / x[x <= 1000].max())


def test_a_budget_begins_with_what_to_train(runs, capsys):
    answer = answer_of("runs.csv", *NAMED, "--flops", "1e19", "--price", "2")
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("train N* = ")
    assert "D* = " in lines[0]
    assert lines[1].startswith("  expected ce ")
    assert lines[2].startswith("  1e+19 FLOPs, ")
    assert lines[2].endswith(f"${answer['dollars']:,.2f}")
    assert lines[3].startswith(f"  {answer['verdict']}: ")
    assert answer["n_opt_interval"][0] < answer["n_opt"] < answer["n_opt_interval"][1]
    truth = joint_loss(GPT_LAW, answer["n_opt"], answer["d_opt"])
    assert answer["loss_interval"][0] < truth < answer["loss_interval"][1]
    assert answer["dollars"] > 0


def test_numbers_for_size_and_data_are_one_planned_run_of_a_study(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_study(tmp_path / "ladder")
    row = answer_of("ladder", "--n", "2e7", "--d", "1e8")["planned"]
    assert row["low"] < joint_loss(GPT_LAW, 2e7, 1e8) < row["high"]
    assert row["distance"] == pytest.approx(2e7 * 1e8 / (2e6 * 1.6e7), rel=1e-3)


def test_a_target_loss_is_answered_in_compute(runs):
    answer = answer_of("runs.csv", *NAMED, "--target-loss", "1.3")
    low, high = answer["flops_interval"]
    assert low < answer["flops"] < high
    assert answer["loss"] == pytest.approx(1.3, rel=2e-3)


def test_rows_of_a_cluster_weigh_as_one_run(runs):
    twice = pd.concat([runs, runs.iloc[:20]]).assign(group=lambda f: f["name"])
    twice["name"] = [f"row-{i}" for i in range(len(twice))]
    twice.to_csv("twice.csv", index=False)
    once = answer_of("runs.csv", *NAMED, "--flops", "1e19")
    same = answer_of("twice.csv", *NAMED, "--cluster", "group", "--flops", "1e19")
    assert same["loss"] == pytest.approx(once["loss"], rel=1e-3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([*NAMED], "say what to forecast"),
        ([*NAMED[2:], "--flops", "1e19"], "name the columns of N"),
        ([*NAMED, "--hold-out", "C > 1e30"], "holds out no row"),
        (["--x", "flop", "--loss", "1 / ce", "--flops", "1e19"], "rises with size"),
        ([*NAMED, "--flops", "1e19", "--level", "95"], "between 0 and 1"),
        ([*NAMED, "--flops", "1e19", "--error", "ce"], "--error is not for forecasts"),
        (["--n", "1e9", "--d", "seen", "--loss", "ce"], "both numbers of one planned run"),
        ([*NAMED, "--target-loss", "0.2"], "near or below what the laws take for their floors"),
        ([*NAMED, "--where", "C < 1e14", "--flops", "1e19"], "a forecast needs at least 5"),
    ],
)
def test_bad_questions_end_with_one_line(runs, capsys, arguments, message):
    floors = "--target-loss" in arguments  # a question well put, whose answer is not there
    assert main(["forecast", "runs.csv", *arguments]) == (1 if floors else 2)
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_columns_under_their_own_names_need_no_options(runs):
    runs.rename(columns={"size": "N", "seen": "D", "flop": "C", "ce": "loss"}).to_csv(
        "plain.csv", index=False
    )
    assert answer_of("plain.csv", "--flops", "1e19")["columns"]["C"] == "C"


def test_a_study_of_one_variable_measures_in_it_and_refuses_a_budget(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    write_study(tmp_path / "ladder", sizes=(2e5,))
    one = ["ladder", "--x", "n_tokens"]
    rows = answer_of(*one, "--hold-out", "n_tokens > 1e7")["held_out"]["rows"]
    assert rows[0]["distance"] == pytest.approx(2)
    capsys.readouterr()
    assert main(["forecast", *one, "--flops", "1e17"]) == 2
    assert "a budget is of compute, and the variable is n_tokens" in capsys.readouterr().err


def test_serving_is_paid_from_the_budget(tmp_path, capsys):
    table = tmp_path / "ladder.csv"
    n, d = (v.ravel() for v in np.meshgrid(np.geomspace(1e7, 3e8, 5), np.geomspace(1e9, 3e10, 5)))
    loss = 1.7 + 400 / n**0.34 + 410 / d**0.28
    pd.DataFrame({"N": n, "D": d, "C": 6 * n * d, "loss": loss}).to_csv(table, index=False)
    sizes = []
    for more in ([], ["--serve-tokens", "1e11"]):
        answer = tmp_path / "answer.json"
        assert main(["forecast", str(table), "--flops", "1e21", "--json", str(answer), *more]) == 0
        sizes.append(json.loads(answer.read_text())["n_opt"])
    assert sizes[1] < sizes[0]
    assert main(["forecast", str(table), "--target-loss", "2.2", "--serve-tokens", "1e11"]) == 2
    assert "--serve-tokens divides a budget" in capsys.readouterr().err


def test_rows_of_a_study_are_one_block_of_80_columns():
    row = {"id": "clip_2x72-4.19M-s1-fade3e2335", "value": 1.4512, "predicted": 1.4321, "low": 1.38,
           "high": 1.4834, "distance": 123.4, "covered": True, "relative_error": -0.0123,
           "interval_score": 0.0701}  # fmt: skip
    lines = row_lines([row, row])
    assert len(lines) == 3
    assert max(map(len, lines)) <= 80
