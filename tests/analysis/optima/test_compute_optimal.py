"""Compute-optimal training: closed form, IsoFLOP minima, three approaches, forecasts."""

import numpy as np
import pandas as pd
import pytest
from scipy.interpolate import Akima1DInterpolator

from analysis import FitError, RunTable, fit, map_columns
from analysis.optima.compute_optimal import (
    ComputeRule,
    compare_approaches,
    compute_rule,
    exponents,
    optimum,
    optimum_closed,
    under_conventions,
)
from analysis.optima.isoflop import akima_minima, fit_isoflop
from analysis.optima.law_optimum import Budget, budget_from_hours, forecast, target_loss
from analysis.tables.table import as_table
from tests.helpers.planted import HOFFMANN, HOFFMANN_A, isoflop_grid, symmetric_grid


@pytest.mark.parametrize("rule", [ComputeRule(), ComputeRule(k=8.0, p=0.9, q=1.05)])
def test_closed_form_is_the_minimum_of_a_fine_grid(rule):
    c = 1e21
    n, d = optimum_closed(HOFFMANN, "joint", c, rule)
    sizes = np.geomspace(n / 30, n * 30, 200_001)
    loss = 1.69 + 406.4 * sizes**-0.34 + 410.7 * rule.data(c, sizes) ** -0.28
    assert n == pytest.approx(sizes[np.argmin(loss)], rel=1e-4)
    assert rule.k * n**rule.p * d**rule.q == pytest.approx(c, rel=1e-12)


def test_exponents_of_the_closed_form_are_hoffmanns():
    result = fit("joint", isoflop_grid(), interval="none")
    found = exponents(result, ComputeRule())
    assert found["a"].exponent == pytest.approx(HOFFMANN_A, rel=1e-8)
    assert found["b"].exponent == pytest.approx(1 - HOFFMANN_A, rel=1e-8)
    n = optimum_closed(HOFFMANN, "joint", 1e22, ComputeRule())[0]
    assert found["a"].at(1e22) == pytest.approx(n, rel=1e-6)


def test_grid_search_agrees_with_the_closed_form():
    result = fit("joint", isoflop_grid(), interval="none")
    kaplan = fit("kaplan", isoflop_grid(), interval="none", strict=False)
    closed = optimum(result, 1e22, ComputeRule())
    from analysis.optima.compute_optimal import _optimum_on_grid

    stacked = {k: np.array([v]) for k, v in result.parameters.items()}
    n, _ = _optimum_on_grid(result, stacked, 1e22, ComputeRule())
    assert n[0] == pytest.approx(closed["N"][0], rel=2e-2)
    assert np.isfinite(optimum(kaplan, 1e22, ComputeRule())["N"][0])


def test_compute_rule_is_recovered_from_runs():
    rng = np.random.default_rng(0)
    n, d = 10 ** rng.uniform(5, 8, 40), 10 ** rng.uniform(7, 10, 40)
    rule = compute_rule(n, d, 7.1 * n**0.97 * d**1.0)
    assert (rule.k, rule.p, rule.q) == pytest.approx((7.1, 0.97, 1.0), rel=1e-8)
    # on one ray (D = 20 N) the powers cannot be told apart: unit powers, honest k
    assert compute_rule(n, 20 * n, 6 * n * 20 * n).k == pytest.approx(6.0, rel=1e-9)


@pytest.mark.parametrize("method", ["parabola", "akima"])
def test_isoflop_minima_find_the_planted_exponent(method):
    found = fit_isoflop(RunTable(symmetric_grid()), method=method)
    assert found.n_opt.exponent == pytest.approx(HOFFMANN_A, abs=2e-3)
    assert found.d_opt.exponent == pytest.approx(1 - HOFFMANN_A, abs=2e-3)
    assert not any(m.reason for m in found.minima)


def test_isoflop_interval_covers_the_exponent():
    hits = 0
    for seed in range(60):
        found = fit_isoflop(RunTable(symmetric_grid(0.003, seed)), bootstrap=200, seed=seed)
        low, high = found.n_opt.interval
        hits += low <= HOFFMANN_A <= high
    assert hits >= 52  # 95 % of 60 is 57; 52 is three standard errors below


def test_unbracketed_budgets_are_excluded_and_named():
    frame = symmetric_grid()
    first = frame["C"].unique()[0]
    at = frame["C"] == first
    best = frame.loc[at, "metric"].idxmin()
    frame = frame[~(at & (frame["N"] > frame.loc[best, "N"]))]
    found = fit_isoflop(RunTable(frame.reset_index(drop=True)))
    excluded = [m for m in found.minima if m.reason]
    assert len(excluded) == 1
    assert "largest size" in excluded[0].reason
    assert excluded[0].n_opt is None
    assert any("excluded" in w for w in found.warnings)


def test_wide_and_off_centre_grids_are_warned_about():
    wide = fit_isoflop(RunTable(symmetric_grid(width=20.0)))
    assert any("parabola" in w and "biased" in w for w in wide.warnings)
    frame = symmetric_grid(width=8.0)
    keep = frame.groupby("C")["N"].rank() <= 7
    off = fit_isoflop(RunTable(frame[keep].reset_index(drop=True)))
    assert any("far from the middle" in w for w in off.warnings)


@pytest.mark.parametrize("method", ["akima", "parabola"])
def test_sizes_within_one_percent_are_averaged_as_repeats(method):
    frame = isoflop_grid(budgets=4, points=11)
    clean = fit_isoflop(RunTable(frame), method=method, bootstrap=0)
    twins = frame.iloc[::11].copy()  # one size of each budget again, measured otherwise
    twins["N"] *= 1 + 1e-6
    twins["metric"] += 0.02
    both = RunTable(pd.concat([frame, twins], ignore_index=True))
    found = fit_isoflop(both, method=method, bootstrap=0)
    assert found.n_opt.exponent == pytest.approx(clean.n_opt.exponent, abs=0.03)
    assert all(m.n_points == 11 and 1.5 < m.loss < 4 for m in found.minima)
    assert any("4 sizes lie within 1%" in w for w in found.warnings)


def test_one_budget_has_no_exponent_and_says_so():
    frame = symmetric_grid()
    one = frame[frame["C"] == frame["C"].iloc[0]].reset_index(drop=True)
    found = fit_isoflop(RunTable(one))
    assert found.n_opt is None
    assert "two are needed" in found.warnings[-1]


def test_three_approaches_agree_on_planted_runs():
    table = map_columns(symmetric_grid(0.001), {"N": "N", "D": "D", "C": "C", "metric": "metric"})
    found = compare_approaches(table, "metric", bootstrap=300)
    assert found["consistent"]
    for row in found["approaches"]:
        assert row["a"].exponent == pytest.approx(HOFFMANN_A, abs=0.06), row["approach"]


def test_conventions_move_the_exponent_and_are_all_reported():
    frame = symmetric_grid(0.0005)
    frame["n_params_total"] = frame["N"]
    frame["n_params_matmul"] = frame["N"] ** 0.9
    frame["flops"] = frame["C"]
    frame["flops_6nd"] = 6 * frame["N"] * frame["D"]
    found = under_conventions(map_columns(frame, {"metric": "metric"}), "metric", "D", bootstrap=0)
    assert len(found) == 4
    by = {(r["N"], r["C"]): r["a"].exponent for r in found}
    # the same runs counted as N^0.9: N* ~ C^a becomes C^(0.9 a)
    assert by["n_params_matmul", "flops"] == pytest.approx(0.9 * HOFFMANN_A, abs=2e-3)
    assert by["n_params_total", "flops"] == pytest.approx(HOFFMANN_A, abs=2e-3)


def test_forecast_gives_optimum_interval_fan_and_distance():
    result = fit("joint", isoflop_grid(noise=0.003), bootstrap=300)
    answer = forecast(result, 3e23)
    n = optimum_closed(HOFFMANN, "joint", 3e23, ComputeRule())[0]
    assert answer["n_opt_interval"][0] < n < answer["n_opt_interval"][1]
    assert answer["loss_interval"][0] < answer["loss"] < answer["loss_interval"][1]
    assert answer["decades_beyond"] == pytest.approx(2.0, abs=1e-6)
    assert any("decades beyond" in w for w in answer["warnings"])
    assert {r["variant"] for r in answer["fan"]} >= {"form: kaplan", "form: joint_tied"}
    assert 6 * answer["n_opt"] * answer["d_opt"] == pytest.approx(3e23, rel=1e-3)


def test_forecast_within_the_data_does_not_warn():
    result = fit("joint", isoflop_grid(noise=0.003), bootstrap=100)
    assert forecast(result, 1e21, fan=False)["warnings"] == []


def test_hours_and_dollars_become_flops():
    budget = budget_from_hours(1000, 1e15, 0.4, price=2.5)
    assert budget.flops == pytest.approx(1.44e21)
    assert budget.dollars == 2500
    with pytest.raises(ValueError, match="utilization"):
        budget_from_hours(10, 1e15, 1.4)


def test_target_loss_inverts_the_forecast():
    result = fit("joint", isoflop_grid(noise=0.002), bootstrap=200)
    wanted = forecast(result, 1e22, fan=False)["loss"]
    found = target_loss(result, wanted)
    assert found["flops"] == pytest.approx(1e22, rel=1e-6)
    low, high = found["flops_interval"]
    assert low < 1e22 < high
    with pytest.raises(FitError, match="floor"):
        target_loss(result, 1.0)


def test_one_variable_forecast_says_nothing_about_size():
    x = np.geomspace(1e18, 1e21, 12)
    noise = np.exp(0.002 * np.random.default_rng(0).standard_normal(12))
    result = fit("power", pd.DataFrame({"x": x, "metric": 20 * x**-0.05 * noise}))
    answer = forecast(result, Budget(1e22))
    assert answer["n_opt"] is None
    assert answer["loss"] == pytest.approx(20 * 1e22**-0.05, rel=0.02)


def test_nonsense_budgets_are_refused():
    result = fit("joint", isoflop_grid(), interval="none")
    for flops in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="flops"):
            forecast(result, flops)


def test_lowest_points_of_akima_curves_are_those_of_a_fine_grid():
    rng = np.random.default_rng(0)
    u = np.sort(rng.uniform(0, 4, 9))
    losses = 2 + 0.1 * (u[:, None] - 2) ** 2 + 0.02 * rng.standard_normal((9, 50))
    losses[:, 0] = np.linspace(3, 2, 9)  # no minimum inside
    place, value = akima_minima(u, losses)
    grid = np.linspace(u[0], u[-1], 40_001)
    curves = Akima1DInterpolator(u, losses)(grid)
    lowest = np.argmin(curves, axis=0)
    inner = (lowest > 0) & (lowest < len(grid) - 1)
    np.testing.assert_array_equal(np.isnan(place), ~inner)
    np.testing.assert_allclose(place[inner], grid[lowest[inner]], atol=2e-4)
    np.testing.assert_allclose(value[inner], curves.min(axis=0)[inner], atol=1e-8)


@pytest.mark.parametrize("decades", [1.0, 2.5])
def test_noise_of_isoflop_curves_is_not_the_misfit_of_one_polynomial(decades):
    """On wide grids, too: the loss is no cubic in log N, and its scatter is what was planted."""
    rng = np.random.default_rng(5)
    c = np.repeat(np.geomspace(1e18, 1e21, 7), 13)
    n = np.tile(np.geomspace(10 ** (-decades / 2), 10 ** (decades / 2), 13), 7) * 0.1 * c**0.5
    loss = 1.7 + 400 * n**-0.34 + 400 * (c / 6 / n) ** -0.28
    frame = pd.DataFrame({"N": n, "C": c, "metric": loss + 0.003 * rng.standard_normal(len(n))})
    found = fit_isoflop(as_table(frame), method="akima", bootstrap=100)
    assert found.loss_noise == pytest.approx(0.003, rel=0.25)
    low, high = found.n_opt.interval
    assert low < 0.28 / (0.34 + 0.28) < high


@pytest.mark.parametrize("law", ["joint", "kaplan"])
@pytest.mark.parametrize("served", [0.0, 1e11, 1e13])
def test_serving_moves_the_optimum_to_smaller_sizes_exactly(law, served):
    """A budget that also pays for serving, against brute force over sizes."""
    result = fit(law, isoflop_grid(), interval="none")
    rule, budget = ComputeRule(served=served), 1e21
    found = optimum(result, budget, rule)
    sizes = found["N"][0] * np.exp(np.linspace(-0.5, 0.5, 200_001))
    data = rule.data(budget, sizes)
    losses = np.full(sizes.shape, np.nan)
    paid = np.isfinite(data)
    losses[paid] = result.model.predict({"N": sizes[paid], "D": data[paid]}, result.parameters)
    assert found["loss"][0] == pytest.approx(np.nanmin(losses), rel=1e-9)
    assert found["N"][0] == pytest.approx(sizes[np.nanargmin(losses)], rel=2e-5)
    n, d = found["N"][0], found["D"][0]
    assert 6 * n * d + 2 * n * served == pytest.approx(budget, rel=1e-9)
    if served:
        assert n < optimum(result, budget, ComputeRule())["N"][0]
