"""Comparison on equal terms, backtests, influence, sensitivity, and two-step chains."""

import numpy as np
import pandas as pd
import pytest

from analysis import RunTable, fit, map_columns
from analysis.compare import FORECAST, compare, influence, rolling_origin
from analysis.diagnostics.scores import aicc
from analysis.optima.law_optimum import forecast
from analysis.sensitivity import headline, sensitivity, tornado
from analysis.two_step import Chain
from tests.helpers.planted import isoflop_grid


def test_the_planted_form_wins_the_comparison():
    table = compare(["joint", "joint_tied", "kaplan"], isoflop_grid(noise=0.002))
    table = table.set_index("law")
    assert table["delta_aicc"].idxmin() == "joint"
    assert table["error_10x"].idxmin() == "joint"
    assert table["leave_one_size_out"].idxmin() == "joint"
    assert table.loc["kaplan", "delta_aicc"] > 50


def test_a_law_that_cannot_be_fitted_is_listed_with_its_reason():
    x = np.array([1e6, 1e7, 1e8])
    frame = pd.DataFrame({"x": x, "C": x, "metric": 9 * x**-0.1})
    table = compare(["power", "broken_power"], frame).set_index("law")
    assert "free parameters" in table.loc["broken_power", "refused"]


def test_aicc_is_the_textbook_formula():
    r = np.array([0.1, -0.2, 0.05, 0.0, 0.15, -0.1])
    n, k = 6, 3
    expected = n * np.log(np.mean(r**2)) + 2 * k + 2 * k * (k + 1) / (n - k - 1)
    assert aicc(r, 2) == pytest.approx(expected)
    assert aicc(r[:4], 2) is None


def test_backtest_counts_hits_of_laws_and_of_their_combination():
    rng = np.random.default_rng(4)
    n, d = (v.ravel() for v in np.meshgrid(np.geomspace(1e7, 1e9, 6), np.geomspace(2e8, 2e10, 6)))
    loss = (1.7 + 400 * n**-0.34 + 410 * d**-0.28) * np.exp(0.004 * rng.standard_normal(36))
    frame = pd.DataFrame({"N": n, "D": d, "C": 6 * n * d, "metric": loss})
    for law in ("joint", FORECAST):
        found = rolling_origin(law, frame, origins=3)
        assert found["n_band"].tolist() == found["n_beyond"].tolist()
        assert found["hits"].sum() >= 0.85 * found["n_beyond"].sum()
        assert found["distance"].tolist() == pytest.approx((6 * 2e19 / found["cut"]).tolist())
    # A power law of compute alone cannot know how a run is allocated.
    wrong = rolling_origin("power", frame.assign(x=frame["C"]), origins=3)
    assert (wrong["interval_score"] > 2 * found["interval_score"]).all()


def test_rolling_origin_shows_the_sign_of_a_wrong_form():
    x = np.geomspace(1e6, 1e10, 24)
    frame = pd.DataFrame({"x": x, "C": x, "metric": 1.5 + 40 * x**-0.25})
    wrong = rolling_origin("power", frame)
    right = rolling_origin("power_floor", frame)
    assert (wrong["signed_error"] < 0).all()  # a power law without the floor is too hopeful
    assert right["mean_error"].max() < 1e-6
    assert (right["n_fit"] + right["n_beyond"] == 24).all()


def test_influence_finds_the_spoiled_run():
    frame = isoflop_grid(noise=0.002)
    frame.loc[37, "metric"] *= 1.2
    result = fit("joint", frame, objective="log_least_squares", bootstrap=200)
    table = influence(result)
    assert table["id"].iloc[0] == "row 38"
    single = fit("joint", frame.drop(index=37).reset_index(drop=True),
                 objective="log_least_squares", interval="none")  # fmt: skip
    change = single.parameters["beta"] - result.parameters["beta"]
    assert table["d_beta"].iloc[0] == pytest.approx(change, rel=1e-4)


def test_sensitivity_lists_every_choice_and_feeds_the_tornado():
    frame = isoflop_grid(noise=0.005)
    frame["n_params_matmul"] = frame["N"] ** 0.95
    result = fit("joint", frame, interval="none")
    result = result.replace(alternatives={"N": {"n_params_matmul": list(frame["n_params_matmul"])}})
    table = sensitivity(result)
    assert set(table["group"]) >= {
        "base",
        "delta",
        "objective",
        "dropped",
        "early",
        "form",
        "convention",
    }
    base = table[table["group"] == "base"].iloc[0]
    assert base["beta"] == pytest.approx(result.parameters["beta"], rel=1e-9)
    bars = tornado(table, "a")
    assert bars["group"].iloc[0] == "convention"
    assert (bars["low"] <= bars["base"]).all()
    assert (bars["high"] >= bars["base"]).all()
    with pytest.raises(ValueError, match="not in the sensitivity table"):
        tornado(table, "zeta")


def test_the_headline_is_a_quantity_of_the_fitted_law():
    """Where the alternative form has a floor and the fitted law has none."""
    x = np.geomspace(1e6, 1e9, 9)
    metric = 2 * x**-0.1 * np.exp(0.01 * np.random.default_rng(0).standard_normal(9))
    table = sensitivity(fit("power", pd.DataFrame({"x": x, "metric": metric}), interval="none"))
    assert "E" in table
    assert headline(table) == "c"
    assert not tornado(table, headline(table)).empty


def test_chain_carries_the_uncertainty_of_both_steps():
    rng = np.random.default_rng(0)
    x = np.geomspace(1e6, 1e9, 20)
    loss = (1.2 + 60 * x**-0.3) * np.exp(0.01 * rng.standard_normal(20))
    error = 0.9 - 1.1 * np.exp(-0.7 * loss) + 0.005 * rng.standard_normal(20)
    first = fit("power_floor", pd.DataFrame({"x": x, "metric": loss}), bootstrap=400)
    second = fit(
        "exp_link", pd.DataFrame({"L": loss, "metric": error}), bootstrap=400, bounds=(0, 1)
    )
    chain = Chain(first, second)
    band = chain.predict({"x": [1e10]}).iloc[0]
    truth = 0.9 - 1.1 * np.exp(-0.7 * (1.2 + 60 * 1e10**-0.3))
    assert band["low"] < truth < band["high"]
    alone = second.predict({"L": [1.2 + 60 * 1e10**-0.3]}).iloc[0]
    assert band["high"] - band["low"] > 1.05 * (alone["high"] - alone["low"])
    assert 0 <= band["low_new"] <= band["low"]
    with pytest.raises(ValueError, match="no link"):
        Chain(first, first)


def test_predictions_of_a_bounded_metric_stay_in_bounds():
    x = np.geomspace(1e3, 1e6, 12)
    noise = np.exp(0.03 * np.random.default_rng(1).standard_normal(12))
    frame = pd.DataFrame({"x": x, "metric": np.minimum(2.5 * x**-0.2 * noise, 0.95)})
    result = fit("power", frame, bounds=(0.0, 0.9))
    band = result.predict({"x": [10.0, 1e9]})
    assert band.to_numpy().max() <= 0.9
    assert band.to_numpy().min() >= 0.0


def test_held_out_runs_never_reach_a_refit():
    frame = isoflop_grid(budgets=5, points=6, noise=0.003)
    spoiled = pd.concat([frame, frame.iloc[:1].assign(metric=9.9)], ignore_index=True)
    held = np.arange(len(spoiled)) == len(frame)
    clean = fit("kaplan", frame, bootstrap=40)
    result = fit("kaplan", spoiled, hold_out=held, bootstrap=40)
    ours, theirs = forecast(result, 1e22)["fan"], forecast(clean, 1e22)["fan"]
    assert [r["n_opt"] for r in ours] == [r["n_opt"] for r in theirs]
    pd.testing.assert_frame_equal(influence(result).drop(columns="id"),
                                  influence(clean).drop(columns="id"))  # fmt: skip
    pd.testing.assert_frame_equal(sensitivity(result), sensitivity(clean))


def test_the_fan_is_of_the_law_that_was_fitted():
    frame = isoflop_grid(budgets=5, points=6, noise=0.003)
    result = fit("kaplan", frame, interval="none")
    rows = {r["variant"]: r for r in forecast(result, 1e22)["fan"]}
    best = forecast(result, 1e22, fan=False)["n_opt"]
    assert rows["form: kaplan"]["n_opt"] == pytest.approx(best, rel=1e-6)
    assert rows["objective: huber"]["n_opt"] == pytest.approx(best, rel=1e-6)  # kaplan's own
    assert rows["form: joint"]["n_opt"] != pytest.approx(best, rel=0.02)


def test_a_column_of_a_foreign_table_is_no_counting_convention():
    frame = isoflop_grid(budgets=5, points=6, noise=0.003).rename(columns={"C": "compute"})
    frame["flops"] = 7.0
    table = map_columns(RunTable(frame), {"N": "N", "D": "D", "C": "compute", "metric": "metric"})
    result = fit("joint", table, interval="none")
    assert result.alternatives == {}
    assert not [r for r in forecast(result, 1e22)["fan"] if "convention" in r["variant"]]
