"""Registered forecasts: written once, noticed when edited, scored by known arithmetic."""

import json
import math

import numpy as np
import pandas as pd
import pytest

from analysis.__main__ import main
from analysis.forecasting.answer import interval_score
from analysis.forecasting.registered import (
    load_registered,
    register,
    registered,
    score,
    scores,
    tally,
)
from analysis.tables.files import map_columns
from analysis.tables.table import TableError, as_table

PREDICTION = {"predicted": 2.0, "low": 1.9, "high": 2.2, "level": 0.95, "distance": 30.0,
              "laws": {"joint": 0.7, "kaplan": 0.3}}  # fmt: skip


def runs(losses, n=1e9, d=2e10):
    frame = pd.DataFrame({"run_id": [f"run-{i}" for i in range(len(losses))],
                          "n": n, "d": d, "loss": losses})  # fmt: skip
    return map_columns(as_table(frame), {"N": "n", "D": "d", "metric": "loss"})


def test_a_forecast_is_kept_as_it_was_made_and_scored_against_the_run(tmp_path):
    path = register("big", {"N": 1e9, "D": 2e10}, PREDICTION, runs([3.0, 2.8], 1e7, 2e8), tmp_path)
    entry = load_registered("big", tmp_path)
    assert entry["prediction"]["laws"] == PREDICTION["laws"]
    assert entry["table"]["rows"] == 2
    assert "sha256" in json.loads(path.read_text())
    hit, miss = score("big", runs([2.1, 2.3]), tmp_path)
    assert (hit["hit"], miss["hit"]) == (True, False)
    assert hit["error"] == pytest.approx(2.0 / 2.1 - 1)
    assert hit["interval_score"] == pytest.approx(math.log(2.2 / 1.9))
    assert miss["interval_score"] == pytest.approx(
        math.log(2.2 / 1.9) + 40 * math.log(2.3 / 2.2)
    )  # 2 / 0.05
    score("big", runs([2.1, 2.3]), tmp_path)
    assert [row["run"] for row in scores(tmp_path)] == ["run-0", "run-1"]  # each is kept once


def test_an_edited_file_is_noticed(tmp_path):
    path = register("big", {"C": 1e21}, PREDICTION, runs([3.0]), tmp_path)
    path.write_text(path.read_text().replace('"high": 2.2', '"high": 2.4'))
    with pytest.raises(TableError, match="was edited after it was registered"):
        load_registered("big", tmp_path)


def test_names_are_used_once_and_are_file_names(tmp_path):
    register("big", {"C": 1e21}, PREDICTION, runs([3.0]), tmp_path)
    with pytest.raises(TableError, match="is there already"):
        register("big", {"C": 1e21}, PREDICTION, runs([3.0]), tmp_path)
    with pytest.raises(TableError, match="letters, digits"):
        register("../big", {"C": 1e21}, PREDICTION, runs([3.0]), tmp_path)


def test_outcomes_are_computed_from_the_forecast_and_not_from_the_list(tmp_path):
    register("big", {"N": 1e9, "D": 2e10}, PREDICTION, runs([3.0], 1e7, 2e8), tmp_path)
    score("big", runs([2.3]), tmp_path)
    path = tmp_path / "scores.jsonl"
    path.write_text(path.read_text().replace('"hit": false', '"hit": true'))
    (one,) = registered(tmp_path)
    (row,) = one.rows()
    assert row == {"forecast": "big", "registered": one.entry["registered_at"][:10],
                   "question": "loss of N = 1e+09, D = 2e+10", "interval": "2.00 [1.90, 2.20]",
                   "run": "run-0", "outcome": "miss", "value": "2.30", "error": "-13.0%",
                   "interval score": "1.92", "distance": "30"}  # fmt: skip
    assert tally([one]).startswith("0 of 1 scored runs")
    register("open", {"N": 1e9, "D": 2e10}, PREDICTION, runs([3.0], 1e7, 2e8), tmp_path)
    waiting = registered(tmp_path)[1]
    assert [row["outcome"] for row in waiting.rows()] == ["open"]
    assert waiting.may_be_scored(runs([2.0]))
    assert not waiting.may_be_scored(runs([2.0], 2e9))


def test_a_run_without_a_value_is_not_scored(tmp_path):
    register("big", {"N": 1e9, "D": 2e10}, PREDICTION, runs([3.0], 1e7, 2e8), tmp_path)
    assert [row["run"] for row in score("big", runs([np.nan, 2.0]), tmp_path)] == ["run-1"]


def test_what_cannot_be_scored_is_said(tmp_path):
    with pytest.raises(TableError, match="no forecast 'big' in .*; there are: none"):
        score("big", runs([2.0]), tmp_path)
    register("big", {"N": 1e9, "D": 2e10}, PREDICTION, runs([3.0], 1e7, 2e8), tmp_path)
    with pytest.raises(
        TableError, match=r"no run of N = 1e\+09, D = 2e\+10 .* nearest is 10% away"
    ):
        score("big", runs([2.0], 1.1e9), tmp_path)


def test_the_hash_of_the_rows_ignores_their_order_and_nothing_else(tmp_path):
    def digest(name, losses):
        register(name, {"C": 1e21}, PREDICTION, runs(losses), tmp_path)
        return load_registered(name, tmp_path)["table"]["sha256"]

    assert digest("a", [3.0, 2.8]) == digest("b", [2.8, 3.0]) != digest("c", [2.8, 3.0000001])


def test_a_narrow_interval_that_misses_scores_worse_than_a_wide_one_that_holds():
    assert interval_score(2.0, 1.9, 2.1, 0.95) < interval_score(2.0, 1.5, 2.6, 0.95)
    assert interval_score(2.0, 1.5, 2.6, 0.95) < interval_score(2.0, 2.1, 2.2, 0.95)


def test_the_commands_register_one_run_and_score_it(tmp_path, capsys):
    n, d = (v.ravel() for v in np.meshgrid(np.geomspace(1e6, 3e7, 4), np.geomspace(1e8, 3e9, 4)))
    loss = 1.7 + 60 * n**-0.3 + 300 * d**-0.3
    frame = pd.DataFrame({"id": [f"r{i}" for i in range(16)], "N": n, "D": d, "C": 6 * n * d,
                          "loss": loss * np.exp(0.003 * np.sin(9 * np.arange(16)))})  # fmt: skip
    frame.to_csv(tmp_path / "ladder.csv", index=False)
    big = {"id": "big", "N": 2e8, "D": 2e10, "C": 2.4e19}
    big["loss"] = 1.7 + 60 * big["N"] ** -0.3 + 300 * big["D"] ** -0.3
    pd.DataFrame([big]).to_csv(tmp_path / "big.csv", index=False)
    where = ["--registry", str(tmp_path / "forecasts")]
    ladder = ["forecast", str(tmp_path / "ladder.csv"), "--c", "C", "--loss", "loss"]
    assert main([*ladder, "--n", "2e8", "--d", "2e10", "--register", "big", *where]) == 0
    assert "registered as" in capsys.readouterr().out
    columns = ["--n", "N", "--d", "D", "--c", "C", "--loss", "loss"]
    assert main(["score", "big", str(tmp_path / "big.csv"), *columns, *where]) == 0
    out = capsys.readouterr().out
    assert out.startswith("hit: big reached")
    assert "1 of 1 scored runs lie in the interval" in out
    edited = tmp_path / "forecasts" / "edited.json"
    text = (tmp_path / "forecasts" / "big.json").read_text()
    edited.write_text(text.replace('"level": 0.95', '"level": 0.99'))
    assert main(["score", "big", str(tmp_path / "big.csv"), *columns, *where]) == 0
    out = capsys.readouterr().out
    assert "edited.json was edited after it was registered" in " ".join(out.split())
    assert max(map(len, out.splitlines())) <= 80
    assert main([*ladder, "--flops", "2e19", "--register", "other", *where]) == 2
    assert "--register writes down the forecast of one run" in capsys.readouterr().err
