"""Bounds and ties of parameters, by a user's hand."""

import numpy as np
import pandas as pd
import pytest

from analysis import FitResult, fit
from analysis.__main__ import main
from analysis.optima.law_optimum import forecast
from analysis.sensitivity import sensitivity
from tests.helpers.planted import joint_frame

N, D = (v.ravel() for v in np.meshgrid(np.geomspace(1e6, 1e9, 5), np.geomspace(1e8, 1e11, 5)))


def sharp_break():
    """A curve whose second slope, 9, lies beyond the bounds of broken_power (at most 5)."""
    x = np.geomspace(10, 1e4, 60)
    y = 0.01 + 2 * x**-0.1 * (1 + (x / 600) ** (1 / 0.3)) ** (-9 * 0.3)
    return pd.DataFrame({"x": x, "y": y * np.exp(np.random.default_rng(0).normal(0, 0.01, 60))})


def test_a_parameter_at_its_bound_is_named_and_freed_by_the_option(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    sharp_break().to_csv("curve.csv", index=False)
    command = ["fit", "curve.csv", "--law", "broken_power", "--x", "x", "--metric", "y",
               "--interval", "none", "--no-sensitivity"]  # fmt: skip
    assert main([*command, "--json", "held.json"]) == 0
    assert "c1 is at its bound 5" in capsys.readouterr().out
    assert main([*command, "--bounds", "c1=-20:20", "--json", "free.json"]) == 0
    assert "at its bound" not in capsys.readouterr().out
    assert FitResult.load("held.json").parameters["c1"] == 5
    free = FitResult.load("free.json")
    assert free.parameters["c1"] == pytest.approx(9, rel=0.1)
    assert free.limits == {"c1": (-20, 20)}
    assert free.model.parameters[3].bounds == (-20, 20)


@pytest.mark.parametrize("bounds", [(0.5, 1.5), (2.0, 3.0)])
def test_an_amplitude_stays_within_bounds(bounds):
    frame = joint_frame(N, D)  # E = 1.7
    result = fit("joint", frame, limits={"E": bounds, "A": (100.0, 1e5)}, bootstrap=60)
    assert bounds[0] - 1e-9 <= result.parameters["E"] <= bounds[1] + 1e-9
    assert np.all(result.samples["E"] <= bounds[1] + 1e-9)
    assert any(w.startswith("E is at its bound") for w in result.warnings)
    assert result.parameters["A"] >= 100


def test_tied_exponents_are_the_tied_law_and_travel_to_the_forecast(tmp_path):
    frame = joint_frame(N, D)
    tied = fit("joint", frame, tie={"beta": "alpha"}, bootstrap=60)
    law = fit("joint_tied", frame, bootstrap=60)
    assert tied.parameters == pytest.approx(law.parameters, rel=1e-6)
    tied.save(tmp_path / "fit.json")
    again = FitResult.load(tmp_path / "fit.json")
    for result in (tied, again):
        answer = forecast(result, 1e20)
        assert answer["n_opt"] == pytest.approx(forecast(law, 1e20, fan=False)["n_opt"], rel=1e-5)
        fan = {row["variant"]: row for row in answer["fan"]}
        assert fan["form: joint"]["n_opt"] == pytest.approx(answer["n_opt"], rel=1e-5)
    assert sensitivity(tied)["alpha"].iloc[0] == pytest.approx(tied.parameters["alpha"], rel=1e-6)


def test_laws_that_are_no_sums_can_be_tied_too():
    frame = pd.DataFrame({"N": N, "D": D})
    frame["metric"] = ((1e6 / N) + (1e8 / D)) ** 0.1  # alpha_N = alpha_D
    result = fit("kaplan", frame, tie={"alpha_N": "alpha_D"}, interval="none")
    assert result.parameters == pytest.approx({"N_c": 1e6, "D_c": 1e8, "alpha_D": 0.1}, rel=1e-5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"limits": {"gamma": (0, 1)}}, "--bounds gamma: law joint has E, A, B, alpha, beta"),
        ({"limits": {"E": (-2, -1)}}, "what is above 0"),
        ({"limits": {"alpha": (1, 1)}}, "LOW must be below HIGH"),
        ({"tie": {"beta": "gamma"}}, "--tie beta=gamma: name two of"),
        ({"tie": {"beta": "alpha"}, "limits": {"beta": (0, 1)}}, "--bounds beta"),
    ],
)
def test_bounds_and_ties_that_cannot_hold_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        fit("joint", joint_frame(N, D), **options)
