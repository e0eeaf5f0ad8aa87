"""Tables as strangers publish them: percent cells, formulas of columns, marks for nothing."""

import json

import numpy as np
import pandas as pd
import pytest

from analysis import TableError, fit, get_law, map_columns
from analysis.__main__ import main

X = np.geomspace(10, 1e5, 30)


def test_percent_cells_are_shares_and_a_formula_turns_accuracy_into_error():
    accuracy = 1 - 0.9 * X**-0.12
    frame = pd.DataFrame({"gmacs": X, "top 1": [f"{100 * a:.6f}%" for a in accuracy]})
    table = map_columns(frame, {"x": "gmacs", "metric": "1 - `top 1`"})
    result = fit("power", table, interval="none")
    assert result.parameters == pytest.approx({"a": 0.9, "c": 0.12}, rel=1e-5)
    assert result.formula().startswith("(1 - `top 1`) =")
    plain = map_columns(frame, {"x": "gmacs", "metric": "top 1"})
    assert any("30 percentages" in w for w in plain.warnings)
    rising = fit("power_floor", plain, interval="none", strict=False)
    assert any("1 - accuracy" in w for w in rising.warnings)


def test_unique_tokens_follow_from_epochs_and_a_wrong_name_is_told():
    frame = pd.DataFrame({"tokens": [4e9, 8e9], "epochs": [2, 4]})
    assert map_columns(frame, {"U": "tokens / epochs"}).numbers("U") == pytest.approx([2e9, 2e9])
    with pytest.raises(TableError, match="there are: tokens, epochs"):
        map_columns(frame, {"U": "tokens / epoch"})


def test_sizes_with_exponent_and_suffix_and_marks_for_nothing():
    frame = pd.DataFrame({"N": ["1e+03M", "70B", "5M", "2M"], "loss": ["2.0", "-", "n/a", "3.1"]})
    table = map_columns(frame, {"N": "N", "metric": "loss"})
    assert table.numbers("N") == pytest.approx([1e9, 7e10, 5e6, 2e6])
    assert np.isnan(table.numbers("metric")).tolist() == [False, True, True, False]


@pytest.mark.parametrize("objective", ["absolute", "huber"])
def test_narrow_objectives_certify_laws_that_are_no_sums(objective):
    rng = np.random.default_rng(0)
    n, u, r = (v.ravel() for v in np.meshgrid([1e7, 1e8, 1e9], [1e8, 1e9, 1e10], [1, 4, 20, 50]))
    frame = pd.DataFrame({"N": n, "U": u, "D": u * r})
    truth = {"E": 1.87, "A": 521.0, "B": 1488.0, "alpha": 0.35, "beta": 0.35, "R_D": 15.4,
             "R_N": 5.3}  # fmt: skip
    loss = get_law("data_constrained").predict(frame, truth)
    frame["metric"] = loss * np.exp(0.002 * rng.standard_normal(len(frame)))
    found = fit("data_constrained", frame, objective=objective, delta=1e-4, interval="none")
    assert found.certificate.converged
    assert found.certificate.share_at_best > 0.2
    assert found.certificate.gradient_norm < 1e-6
    assert found.parameters["R_D"] == pytest.approx(15.4, rel=0.2)


def test_refits_find_a_floor_that_the_whole_table_does_not_show():
    rng = np.random.default_rng(3)
    error = 1.1 * X**-0.1 * np.exp(np.abs(0.12 * rng.standard_normal(len(X))))
    frame = pd.DataFrame({"x": X, "metric": error})
    result = fit("power_floor", frame, interval="rows", bootstrap=300)
    assert len(result.samples["E"]) > 290


def test_copies_of_a_run_are_told_and_cost_the_interval(tmp_path, capsys):
    """The same rows twice are no more runs, whatever a column of the file calls them."""
    n = np.geomspace(1e5, 1e8, 6)
    loss = 3 * n**-0.05 * np.exp(0.01 * np.sin(7 * np.arange(6)))
    once = pd.DataFrame({"params": n, "loss": loss})
    found = {}
    for name, frame in (("once", once), ("twice", pd.concat([once, once]))):
        frame.to_csv(tmp_path / f"{name}.csv")
        to = tmp_path / f"{name}.json"
        assert main(["fit", str(tmp_path / f"{name}.csv"), "--law", "power", "--x", "params",
                     "--loss", "loss", "--json", str(to)]) == 0  # fmt: skip
        said = "6 rows equal another to the last digit" in capsys.readouterr().out
        assert said == (name == "twice")
        found[name] = json.loads(to.read_text())
    assert found["twice"]["parameters"]["c"] == pytest.approx(found["once"]["parameters"]["c"])
    assert found["once"]["intervals"]["c"][0] is not None
    assert found["twice"]["intervals"]["c"] == [None, None]
    assert any("no interval: copies" in warning for warning in found["twice"]["warnings"])


def test_copies_of_a_run_narrow_no_forecast(tmp_path):
    x = np.geomspace(1e5, 1e8, 8)
    loss = (1.5 + 40 * x**-0.3) * np.exp(0.01 * np.sin(7 * np.arange(8)))
    once = pd.DataFrame({"x": x, "loss": loss})
    found = []
    for frame in (once, pd.concat([once, once, once])):
        frame.to_csv(tmp_path / "t.csv")
        assert main(["forecast", str(tmp_path / "t.csv"), "--x", "x", "--loss", "loss",
                     "--hold-out", "x > 5e7", "--json", str(tmp_path / "f.json")]) == 0  # fmt: skip
        found.append(json.loads((tmp_path / "f.json").read_text())["held_out"]["rows"][0])
    for key in ("predicted", "low", "high"):
        assert found[1][key] == pytest.approx(found[0][key], rel=1e-3)
