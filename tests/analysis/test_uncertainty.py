"""Intervals: coverage on planted laws, clusters, open profiles, seed noise."""

import numpy as np
import pandas as pd
import pytest

from analysis import Noise, RunTable, fit
from analysis.points import measure_noise
from analysis.uncertainty import resample_weights, widened_level
from tests.analysis.test_fit import HOFFMANN, isoflop_grid


def power_data(seed, n=8, noise=0.01, floor=0.0):
    rng = np.random.default_rng(seed)
    x = np.geomspace(1e5, 1e9, n)
    y = (floor + 9 * x**-0.1) * np.exp(noise * rng.standard_normal(n))
    return pd.DataFrame({"x": x, "metric": y})


def coverage(results, truth):
    hits = [r.intervals[k][0] <= v <= r.intervals[k][1] for r in results for k, v in truth.items()]
    return float(np.mean(hits))


def test_parametric_bootstrap_covers_95_percent_with_eight_points():
    # 400 data sets: the binomial standard error is 1.1 %, so the claim 93-97 % is about two.
    results = [fit("power", power_data(s), bootstrap=400, seed=s) for s in range(400)]
    assert all("parametric" in r.interval_method for r in results[:3])
    assert 0.93 <= coverage(results, {"a": 9.0, "c": 0.1}) <= 0.97
    # the band of the mean curve beyond the data, and the band of one new run
    inside_mean, inside_new = [], []
    for s, r in enumerate(results):
        band = r.predict({"x": [1e10]}).iloc[0]
        truth = 9.0 * 1e10**-0.1
        new = truth * np.exp(0.01 * np.random.default_rng(10_000 + s).standard_normal())
        inside_mean.append(band["low"] <= truth <= band["high"])
        inside_new.append(band["low_new"] <= new <= band["high_new"])
    assert 0.93 <= np.mean(inside_mean) <= 0.97
    # a new run's scatter is taken at its estimate, not redrawn: slightly narrow with 6 freedoms
    assert 0.90 <= np.mean(inside_new) <= 0.97


def test_row_bootstrap_covers_95_percent_of_the_joint_law():
    results = [
        fit("joint", isoflop_grid(budgets=6, points=8, noise=0.01, seed=s), bootstrap=200, seed=s,
            objective="log_least_squares", interval="rows")
        for s in range(60)
    ]  # fmt: skip
    # 60 data sets x 5 correlated parameters: the standard error is about 2 %.
    assert 0.91 <= coverage(results, HOFFMANN) <= 0.99


def test_profile_covers_95_percent():
    results = [fit("power", power_data(s), interval="profile") for s in range(200)]
    assert 0.92 <= coverage(results, {"c": 0.1}) <= 0.98


def test_delta_method_agrees_with_statsmodels_free_algebra():
    frame = power_data(1, n=12)
    result = fit("power", frame, interval="delta")
    design = np.column_stack([np.ones(12), -np.log(frame["x"])])
    y = np.log(frame["metric"])
    beta, rss, *_ = np.linalg.lstsq(design, y, rcond=None)
    covariance = np.linalg.inv(design.T @ design) * float(rss[0]) / 10
    assert result.parameters["c"] == pytest.approx(beta[1], rel=1e-9)
    assert result.standard_errors["c"] == pytest.approx(np.sqrt(covariance[1, 1]), rel=1e-6)


def test_profile_of_a_linear_law_is_students_interval():
    frame = power_data(2, n=9)
    delta = fit("power", frame, interval="delta").intervals["c"]
    profile = fit("power", frame, interval="profile").intervals["c"]
    assert profile == pytest.approx(delta, rel=1e-2)


def test_profile_of_an_unidentified_floor_is_open_and_says_so():
    frame = power_data(3, n=14, noise=0.02)  # no floor in the truth, and little range
    result = fit("power_floor", frame, interval="profile")
    assert result.intervals["E"][0] is None
    assert "open" in result.interval_text("E")
    assert any("open below" in w or "bound 0" in w for w in result.warnings)


def test_clusters_widen_the_interval_of_correlated_points():
    rng = np.random.default_rng(5)
    x = np.geomspace(1e5, 1e8, 40)
    rows = []
    for k, value in enumerate(x):  # 40 runs, 6 checkpoints each with the run's own error
        rows += [{"x": value, "run": k, "metric": 9 * value**-0.1 * np.exp(e)}
                 for e in [0.02 * rng.standard_normal()] for _ in range(6)]  # fmt: skip
    frame = pd.DataFrame(rows)
    clustered = fit("power", frame, cluster="run", bootstrap=500)
    rowwise = fit("power", frame, interval="rows", bootstrap=500)
    assert clustered.n_clusters == 40
    assert "clusters" in clustered.interval_method
    assert clustered.standard_errors["c"] > 1.8 * rowwise.standard_errors["c"]


def test_resampling_reproduces_numpys_frozen_stream():
    from analysis.points import Points

    points = Points({}, np.ones(5), None, np.arange(5), tuple("abcde"))
    weights = resample_weights(points, "rows", 3, seed=42)
    drawn = np.random.RandomState(42).choice(5, size=(3, 5), replace=True)
    assert (weights.sum(axis=1) == 5).all()
    assert weights[0, drawn[0, 0]] >= 1
    np.testing.assert_array_equal(weights, [np.bincount(d, minlength=5) for d in drawn])


def test_batched_refits_equal_one_by_one_refits():
    frame = isoflop_grid(budgets=5, points=6, noise=0.01)
    result = fit("joint", frame, interval="rows", bootstrap=20, seed=7)
    drawn = np.random.RandomState(7).choice(30, size=(20, 30), replace=True)
    for s in (0, 7, 19):
        single = fit("joint", frame.iloc[drawn[s]].reset_index(drop=True), interval="none")
        assert result.samples["beta"][s] == pytest.approx(single.parameters["beta"], rel=1e-5)


def test_widened_level_is_wider_and_tends_to_the_level():
    assert widened_level(0.95, 20, 5) > 0.97
    assert widened_level(0.95, 100_000, 5) == pytest.approx(0.95, abs=1e-4)


def test_seed_noise_is_pooled_over_repeats():
    rng = np.random.default_rng(0)
    n = np.repeat([1e6, 2e6, 4e6], 200)
    frame = pd.DataFrame({"N": n, "D": 1e9, "seed": list(range(200)) * 3,
                          "metric": 3 * np.exp(0.02 * rng.standard_normal(600))})  # fmt: skip
    noise = measure_noise(RunTable(frame), "metric", log=True)
    assert noise.freedom == 597
    assert noise.sigma == pytest.approx(0.02, rel=0.1)
    assert measure_noise(RunTable(frame.drop(columns="seed")), "metric", log=True) is None


def test_known_seed_noise_gives_intervals_where_residuals_cannot():
    x = np.array([1e6, 1e7, 1e8])
    frame = pd.DataFrame({"x": x, "metric": 1 + 40 * x**-0.3})
    result = fit("power_floor", frame, noise=Noise(0.003, 6, log=True))
    assert result.intervals["c"][0] is not None
    assert "repeats" in result.interval_method


def test_misfit_beyond_seed_noise_is_named():
    frame = power_data(0, n=20, noise=0.001)
    frame["metric"] += 0.3 * np.sin(np.log(frame["x"]))
    result = fit("power", frame, noise=Noise(0.001, 10, log=True))
    assert any("times the seed noise" in w for w in result.warnings)


def test_common_error_of_a_trunk_is_measured_from_repeats_and_widens_the_interval():
    rng = np.random.default_rng(2)
    rows = []
    for n in np.geomspace(1e5, 1e7, 5):
        for seed in range(8):
            common = 0.02 * rng.standard_normal()
            for d in np.geomspace(1e6, 1e8, 5):
                loss = 1.2 + 60 * n**-0.4 + 300 * d**-0.38
                noise = common + 0.01 * rng.standard_normal()
                rows.append({"N": n, "D": d, "seed": seed, "trunk_id": f"{n}-{seed}",
                             "metric": loss * np.exp(noise)})  # fmt: skip
    frame = pd.DataFrame(rows)
    noise = measure_noise(RunTable(frame), "metric", log=True)
    assert noise.shared == pytest.approx(0.8, abs=0.1)  # 0.02^2 of 0.02^2 + 0.01^2
    one = frame[frame["seed"] == 0].reset_index(drop=True)
    options = {"objective": "log_least_squares", "interval": "parametric", "bootstrap": 300}
    aware = fit("joint", one, noise=noise, cluster="trunk_id", **options)
    naive = fit("joint", one, noise=noise, **options)
    assert "common to a trunk" in aware.interval_method
    assert aware.standard_errors["alpha"] > 1.3 * naive.standard_errors["alpha"]
    unknown = fit("joint", one, cluster="trunk_id", **options)
    assert any("without repeated seeds" in w for w in unknown.warnings)


def test_intervals_of_branched_runs_cover_the_truth():
    # 5 trunks of 5 branches whose error is one third common: without care 77 % of the intervals
    # of alpha held the truth. 40 data sets: standard error 3.5 % at 95 %.
    hits = []
    for s in range(40):
        rng = np.random.default_rng(s)
        n = np.repeat(np.geomspace(2e4, 2e6, 5), 5)
        d = np.tile(np.geomspace(1e6, 1.6e7, 5), 5)
        noise = np.repeat(0.0024 * rng.standard_normal(5), 5) + 0.0032 * rng.standard_normal(25)
        loss = (1.2 + 60 * n**-0.4 + 300 * d**-0.38) * np.exp(noise)
        frame = pd.DataFrame({"N": n, "D": d, "trunk_id": n, "metric": loss})
        found = fit("joint", frame, cluster="trunk_id", bootstrap=200, seed=s)
        low, high = found.intervals["alpha"]
        hits.append(low <= 0.4 <= high)
    assert np.mean(hits) >= 0.85
