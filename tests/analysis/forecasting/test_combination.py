"""Forecasts on ladders whose law is known, and what no ladder may change."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from analysis.forecasting import Forecaster, Ladder, Mixture
from analysis.forecasting.answer import verdict
from analysis.forecasting.optimum import best_allocation, compute_needed
from analysis.forecasting.places import compute_of, ladder_rule
from analysis.forecasting.prior import experience
from analysis.forecasting.shapes import CURVES, SURFACES
from analysis.tables.table import TableError
from experiments.forecasts.learn import VARIABLES, score
from experiments.forecasts.planted import planted_cases


def surface_ladder(noise=0.004, seed=0, floor=1.7, sizes=6, ratios=(5, 15, 45, 135), unit=1.0):
    n = np.repeat(np.geomspace(1e7, 3e8, sizes), len(ratios))
    d = n * np.tile(ratios, sizes)
    rng = np.random.default_rng(seed)
    loss = (floor + 400 / n**0.34 + 410 / d**0.28) * np.exp(noise * rng.standard_normal(len(n)))
    x = np.log([n * unit, d])
    return Ladder(x, np.log(6 * n * d), np.log(loss), np.ones(len(n)))


@pytest.mark.parametrize("shape", [*SURFACES, *CURVES], ids=lambda s: s.name)
def test_gradients_are_those_of_finite_differences(shape):
    rng = np.random.default_rng(1)
    x = rng.normal(size=(2 if shape in SURFACES else 1, 9))
    theta, lowest = shape.starts(np.array([3.0]))[0], np.full(6, 2.0)
    value, gradient = shape.value(theta, x, lowest)
    for j in range(theta.shape[1]):
        step = np.zeros(theta.shape[1])
        step[j] = 1e-6
        ahead, behind = (shape.value(theta + s, x, lowest)[0] for s in (step, -step))
        assert gradient[..., j] == pytest.approx((ahead - behind) / 2e-6, abs=1e-7)
    assert value.shape == gradient.shape[:2]


def test_planted_laws_are_covered_by_intervals_not_much_wider_than_their_own():
    rows = pd.DataFrame(
        row for case in planted_cases(48) for row in score(case, experience(VARIABLES[case.kind]))
    )
    for _, mine in rows.groupby("kind"):
        assert 0.92 <= mine["covered"].mean() <= 0.99
        assert 0.4 <= mine["covered50"].mean() <= 0.7
    times_own = rows.groupby(["kind", "distance"])["times_own"].median()
    assert times_own["surface"].between(0.8, 1.5).all()
    assert times_own["curve"][["2-4", "4-10"]].max() < 1.8


def test_only_the_top_s_forecast_is_lowered_and_only_beyond_the_ladder():
    ladder = surface_ladder()
    n = np.array([1e8, 2e9, 2e10])
    outlook = Forecaster(ladder).outlook(np.log([n, 20 * n]), np.log(120 * n**2))
    learned = replace(experience(2), top_lowered=0.05)
    whole, top = np.moveaxis(outlook.center - outlook.middle(learned), 1, 0)
    assert not whole.any()
    assert not top[:, 0].any()
    ratio = (np.log(120 * n[1:] ** 2) - ladder.top) ** 1.5
    assert top[:, 2] / top[:, 1] == pytest.approx(ratio[1] / ratio[0])
    assert top[:, 1] == pytest.approx(0.05 * outlook.slope[:, 1] * ratio[0])


def test_units_of_size_and_loss_do_not_matter():
    n, d = 2e9, 4e10
    size = np.log(np.array([6 * n * d]))
    plain = Forecaster(surface_ladder()).at(np.log([[n], [d]]), size)
    scaled_ladder = surface_ladder(unit=1e-6)
    scaled = Forecaster(scaled_ladder).at(np.log([[n * 1e-6], [d]]), size)
    assert scaled.quantile(0.975) == pytest.approx(plain.quantile(0.975), abs=1e-6)
    bits = Ladder(
        scaled_ladder.x, scaled_ladder.size, scaled_ladder.y - np.log(np.log(2)), np.ones(24)
    )
    in_bits = Forecaster(bits).at(np.log([[n * 1e-6], [d]]), size)
    assert in_bits.quantile(0.1) == pytest.approx(plain.quantile(0.1) - np.log(np.log(2)), abs=1e-6)


def test_one_wild_run_changes_little():
    ladder = surface_ladder()
    y = ladder.y.copy()
    y[5] += 1.0
    place = np.log([[2e9], [4e10]]), np.log(np.array([6 * 2e9 * 4e10]))
    clean = Forecaster(ladder).at(*place)
    wild = Forecaster(Ladder(ladder.x, ladder.size, y, ladder.weight)).at(*place)
    assert wild.quantile(0.5)[0] == pytest.approx(clean.quantile(0.5)[0], abs=0.02)


def test_a_ladder_that_its_laws_do_not_fit_is_forecast_from_its_top_and_wider():
    ladder = surface_ladder(noise=0.001)
    bent = ladder.y - 0.02 * np.maximum(ladder.size - ladder.size.mean(), 0) ** 1.5
    straight = Forecaster(ladder)
    curved = Forecaster(Ladder(ladder.x, ladder.size, bent, ladder.weight))
    place = np.log([[2e9], [4e10]]), np.log(np.array([6 * 2e9 * 4e10]))
    widths = [np.ptp(f.at(*place).interval(0.95)) for f in (straight, curved)]
    assert curved.views[1] > 0.9 > 0.5 > straight.views[1]
    assert widths[1] > 2 * widths[0]


def test_intervals_widen_with_distance_and_are_not_symmetric():
    forecaster = Forecaster(surface_ladder(noise=0.01))
    n = np.geomspace(4e8, 4e10, 5)
    x = np.log([n, 20 * n])
    mixture = forecaster.at(x, np.log(120 * n**2))
    low, high = mixture.interval(0.95)
    assert np.all(np.diff(high - low) > 0)
    middle = mixture.quantile(0.5)
    assert (high - middle)[-1] != pytest.approx((middle - low)[-1], rel=0.05)


@pytest.mark.parametrize("n", [5, 6, 7, 8, 9])
def test_small_ladders_get_a_band_and_a_verdict_with_its_reason(n):
    whole = surface_ladder(noise=0.003, ratios=(20, 60))
    ladder = Ladder(whole.x[:, :n], whole.size[:n], whole.y[:n], whole.weight[:n])
    forecaster = Forecaster(ladder)
    x = ladder.x.max(axis=1, keepdims=True) + np.log(5)
    size = np.array([ladder.top + 2 * np.log(5)])
    low, high = forecaster.at(x, size).interval(0.95)
    assert 0.01 < (high - low)[0] < 2
    said, reason = verdict(forecaster, x, size)
    assert said in ("determined", "uncertain", "not determined")
    assert "25 times" in reason


def test_too_few_runs_are_refused_with_how_many_are_needed():
    ladder = surface_ladder()
    with pytest.raises(TableError, match="4 runs: a forecast needs at least 5"):
        Forecaster(Ladder(ladder.x[:, :4], ladder.size[:4], ladder.y[:4], ladder.weight[:4]))


def test_the_optimum_is_that_of_the_planted_law():
    forecaster = Forecaster(surface_ladder(noise=0.001, sizes=9))
    flops = 6 * 1e9 * 2e10
    found = best_allocation(forecaster, flops, ladder_rule(forecaster.ladder))
    n = np.geomspace(1e8, 1e10, 2001)
    truth = n[np.argmin(400 / n**0.34 + 410 / (flops / 6 / n) ** 0.28)]
    assert found.n_interval[0] < truth < found.n_interval[1]
    assert found.n == pytest.approx(truth, rel=0.4)
    assert found.n_interval[1] / found.n_interval[0] < 6
    assert found.n * found.d * 6 == pytest.approx(flops, rel=1e-6)


def test_the_compute_needed_reaches_the_loss():
    forecaster = Forecaster(surface_ladder(noise=0.001))
    rule = ladder_rule(forecaster.ladder)
    flops, (low, high) = compute_needed(forecaster, 2.5, rule)
    assert low < flops < high
    best = best_allocation(forecaster, flops, rule)
    place = np.log([[best.n], [best.d]]), np.log(np.array([flops]))
    assert forecaster.at(*place).quantile(0.5)[0] == pytest.approx(np.log(2.5), abs=2e-3)


def test_quantiles_of_one_component_are_students():
    mixture = Mixture(np.array([1.0]), np.array([[0.3]]), np.array([[2.0]]), 5.0)
    assert mixture.quantile(0.975)[0] == pytest.approx(0.3 + 2 * 2.5705818, abs=1e-6)
    total = np.sum(np.exp(mixture.log_density(np.linspace(-80, 80, 160_001)))) * 1e-3
    assert total == pytest.approx(1, abs=1e-3)


def test_serving_moves_the_optimum_under_all_laws_as_brute_force_has_it():
    forecaster = Forecaster(surface_ladder(noise=0.001, sizes=9))
    flops, served = 6 * 1e9 * 2e10, 3e10
    rule = replace(ladder_rule(forecaster.ladder), served=served)
    found = best_allocation(forecaster, flops, rule)
    sizes = found.n * np.exp(np.linspace(-0.1, 0.1, 4001))
    x = np.log(np.array([sizes, rule.data(flops, sizes)]))
    outlook = forecaster.outlook(x, compute_of(rule, x))
    share = outlook.shares(forecaster.learned) * forecaster.views
    expected = np.einsum("lv,lvn->n", share, outlook.center)
    assert expected[2000] == pytest.approx(expected.min(), abs=1e-9)
    assert found.n == pytest.approx(sizes[np.argmin(expected)], rel=1e-4)
    assert found.n < best_allocation(forecaster, flops, ladder_rule(forecaster.ladder)).n
