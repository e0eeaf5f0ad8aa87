"""What points tell and what they do not: no interval of what is free, no refusal of what is not."""

import sys

import numpy as np
import pandas as pd
import pytest

from analysis import FitError, fit
from analysis.diagnostics.identifiability import distinct
from analysis.optima.law_optimum import forecast
from analysis.tables.groups import label_groups
from tests.helpers.planted import joint_frame


@pytest.mark.parametrize("rows", [50, 3000])
def test_a_dense_table_is_fitted_like_a_sparse_one(rows):
    rng = np.random.default_rng(1)
    n = np.exp(rng.uniform(np.log(1e6), np.log(1e9), rows))
    d = np.exp(rng.uniform(np.log(1e8), np.log(1e11), rows))
    result = fit("joint", joint_frame(n, d), interval="none")
    assert result.parameters["alpha"] == pytest.approx(0.38, abs=0.03)


def test_values_are_grouped_by_gaps_and_long_chains_are_cut():
    jittered = np.array([1e6, 1.03e6, 1.06e6, 5e6, 4.9e6])
    np.testing.assert_array_equal(label_groups(jittered, 0.05), [0, 0, 0, 1, 1])
    assert distinct(jittered) == 2
    dense = np.geomspace(1, 1000, 20_000)
    assert distinct(dense) == pytest.approx(np.log(1000) / np.log(1.05), abs=2)
    for k in range(label_groups(dense, 0.05).max() + 1):
        group = dense[label_groups(dense, 0.05) == k]
        assert group.max() <= 1.05 * group.min() * (1 + 1e-12)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("seed", range(4))
def test_raw_least_squares_of_five_noisy_points_has_a_band(seed):
    n = np.array([1e7, 8e7, 1.5e8, 4e8, 1e7])
    d = 20 * n * np.array([1, 1, 1, 1, 16])
    frame = joint_frame(n, d, seed, noise=0.01, law=(1.8, 60.0, 0.25, 90.0, 0.25))
    result = fit("overtrain", frame, objective="least_squares", bootstrap=200)
    assert result.samples
    assert result.intervals["eta"][0] is not None


def test_one_value_of_the_metric_is_refused():
    frame = pd.DataFrame({"x": np.geomspace(1e6, 1e9, 8), "metric": 3.1})
    for law in ("power_floor", "power", "log_linear"):
        with pytest.raises(FitError, match=r"the metric takes one value only \(3.1\)"):
            fit(law, frame)


def ladder(law, seed=0, noise=0.002, runs=8):
    n = np.geomspace(1e6, 1e9, runs)
    return joint_frame(n, 20 * n, seed, noise, law)


def test_amplitudes_of_a_ladder_at_one_ratio_have_no_interval():
    result = fit("joint_tied", ladder((1.7, 400.0, 0.31, 400.0, 0.31)), bootstrap=100)
    assert result.intervals["A"] == result.intervals["B"] == (None, None)
    low, high = result.intervals["alpha"]
    assert low < 0.31 < high
    named = [w for w in result.warnings if "trade off freely" in w]
    assert named[0].startswith("A, B trade off freely")
    assert np.isnan(result.predict({"N": [1e10], "D": [1e10]})["low"][0])
    assert forecast(result, 1e21, fan=False)["n_opt_interval"] is None


def test_exponents_of_a_ladder_at_one_ratio_have_no_interval_and_the_reason_comes_first():
    frame = ladder((1.7, 400.0, 0.34, 400.0, 0.28))
    result = fit("joint", frame, bootstrap=100, strict=False)
    for name in ("A", "B", "alpha", "beta"):
        assert result.intervals[name] == (None, None)
    assert result.warnings[0].startswith("log N and log D are collinear")


def test_a_lost_optimizer_names_the_collinear_columns_first(monkeypatch):
    def lost(certificate, law_name):
        raise FitError("the optimizer did not converge")

    monkeypatch.setattr(sys.modules["analysis.fit"], "certify", lost)
    with pytest.raises(FitError, match="^log N and log D are collinear .*did not converge"):
        fit("joint", ladder((1.7, 400.0, 0.34, 400.0, 0.28)))


def test_parameters_of_a_spread_grid_trade_off_nothing():
    n, d = (v.ravel() for v in np.meshgrid(np.geomspace(1e6, 1e9, 4), np.geomspace(1e8, 1e11, 4)))
    result = fit("joint", joint_frame(n, d), bootstrap=100)
    assert all(result.intervals[k][0] is not None for k in result.parameters)
    assert not [w for w in result.warnings if "trade off" in w]


@pytest.mark.parametrize("law", ["power_floor", "joint"])
def test_every_interval_and_band_holds_its_estimate(law):
    for seed in range(12):
        frame = ladder((0.0, 20.0, 0.1, 10.0, 0.1), seed, noise=0.03)  # no floor in the truth
        frame["D"] *= np.tile([1, 8], 4)
        frame["x"] = frame["N"]
        result = fit(law, frame, bootstrap=60, strict=False)
        for name, (low, high) in result.intervals.items():
            assert low is None or low <= result.parameters[name]
            assert high is None or high >= result.parameters[name]
        if result.samples:
            band = result.predict({"N": [1e11], "D": [1e12], "x": [1e11]}).iloc[0]
            assert band["low"] <= band["mean"] <= band["high"]
            assert band["low_new"] <= band["mean"] <= band["high_new"]


def test_nothing_is_bootstrapped_when_every_parameter_is_fixed():
    frame = pd.DataFrame({"x": np.geomspace(1e6, 1e9, 8), "metric": np.geomspace(4, 3, 8)})
    result = fit("power", frame, fix={"a": 7.0, "c": 0.04})
    assert not result.samples
    assert "every parameter is fixed" in result.interval_method
    assert not [w for w in result.warnings if "identified" in w]
