"""Fits and refits go on until they have converged, however shallow the valley."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from analysis import fit, get_law
from analysis.solver.newton import minimize, solve_damped
from analysis.solver.objectives import get_objective
from analysis.solver.problem import make_problem
from analysis.tables.points import Points

LADDERS = {  # sizes, E, A, alpha, B, beta: two published shapes, of which the second is the flatter
    "steep": (1.69, 406.4, 0.34, 410.7, 0.28),
    "flat": (1.5, 46.2, 0.203, 18.1, 0.125),
}
LARGE = {"N": np.array([13e9]), "D": np.array([5e12])}


def ladder(shape, seed, noise=0.004):
    """16 runs of four sizes, each at 1, 2, 5 and 10 times 20 tokens a parameter."""
    e, a, alpha, b, beta = LADDERS[shape]

    def loss(n, d):
        return e + a * n**-alpha + b * d**-beta

    n = np.repeat([1.9e8, 3.7e8, 7.6e8, 12.8e8], 4)
    d = 20 * n * np.tile([1, 2, 5, 10], 4)
    chance = np.exp(noise * np.random.default_rng(seed).standard_normal(16))
    frame = pd.DataFrame({"N": n, "D": d, "metric": loss(n, d) * chance})
    return frame, float(loss(LARGE["N"], LARGE["D"])[0])


@pytest.mark.parametrize("shape", LADDERS)
def test_every_ladder_has_a_band_and_most_bands_hold_the_truth(shape):
    held = 0
    for seed in range(20):
        frame, truth = ladder(shape, seed)
        band = fit("joint", frame, bootstrap=200).predict(LARGE).iloc[0]
        assert np.isfinite([band["low"], band["high"]]).all(), seed
        held += band["low"] <= truth <= band["high"]
    assert held >= 16


def test_all_starts_of_a_shallow_valley_reach_its_lowest_point():
    frame, _ = ladder("flat", 0)
    result = fit("joint", frame, interval="none", starts=48)
    assert result.certificate.starts == 48
    assert result.certificate.share_at_best == 1.0


def problem_of(name, x, y, objective):
    law = get_law(name)
    points = Points(x, y, None, np.arange(len(y)), tuple(map(str, range(len(y)))))
    return make_problem(law, points, get_objective(objective), np.zeros(len(law.names), dtype=bool))


@pytest.mark.parametrize("law", ["joint", "kaplan"])
def test_the_bend_of_the_residuals_is_their_second_derivative_along_a_step(law):
    frame, _ = ladder("steep", 1)
    x = {c: frame[c].to_numpy() for c in "ND"}
    y = frame["metric"].to_numpy()
    problem = problem_of(law, x, y, "log_least_squares")
    start = problem.to_working(problem.law.starts(x, y, 1, 0))
    at = minimize(problem, start, max_iterations=3).working
    step = np.random.default_rng(0).normal(0, 0.1, at.shape)
    h = 1e-2
    ahead, here, behind = (problem.residuals(at + k * h * step)[0] for k in (1, 0, -1))
    expected = 2 * ((ahead - 2 * here + behind) / h**2) @ problem.residual_jacobian(at)[0]
    bend = problem.bend(at, np.zeros(1, dtype=np.intp), step)[0]
    np.testing.assert_allclose(bend, expected, rtol=1e-3, atol=1e-6 * np.abs(expected).max())


def test_solving_for_a_single_fit_leaves_its_gradient_alone():
    gradient = np.array([[1.0, 2.0]])
    step = solve_damped(np.array([[[2.0, 0.0], [0.0, 4.0]]]), gradient)
    np.testing.assert_allclose(step, [[0.5, 0.5]])
    np.testing.assert_array_equal(gradient, [[1.0, 2.0]])


def test_too_few_starts_to_agree_are_refused():
    with pytest.raises(ValueError, match="starts=1: at least 8"):
        fit("joint", ladder("steep", 0)[0], starts=1)


def test_refits_with_the_curvature_of_their_start_end_where_the_others_do():
    frame, _ = ladder("steep", 2)
    x = {c: frame[c].to_numpy() for c in "ND"}
    y = frame["metric"].to_numpy()
    problem = problem_of("kaplan", x, y, "huber")
    starts = problem.to_working(problem.law.starts(x, y, 64, 0))
    found = minimize(problem, starts)
    start = found.working[np.argmin(found.objective)]
    weights = np.random.default_rng(0).multinomial(16, np.ones(16) / 16, 40).astype(float)
    redrawn = replace(problem, weights=weights)
    slow = minimize(redrawn, np.repeat(start[None], 40, axis=0))
    fast = minimize(redrawn.near(start), np.repeat(start[None], 40, axis=0))
    both = slow.converged & fast.converged
    assert both.mean() > 0.9
    np.testing.assert_allclose(fast.objective[both], slow.objective[both], rtol=1e-6)
