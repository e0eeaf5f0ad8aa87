"""A joint law of the wrong form is named as such; one of the right form is left alone."""

import re

import numpy as np
import pandas as pd
import pytest

from analysis import fit, get_law
from analysis.diagnostics.lack_of_fit import LACK_OF_FIT
from tests.helpers.planted import joint_loss

JOINT = {"E": 1.0, "A": 50.0, "B": 700.0, "alpha": 0.45, "beta": 0.5}
SIZES, DATA = (3e3, 8e3, 2.4e4, 5.5e4, 1.5e5), (5e5, 1e6, 2e6, 4e6, 8e6)


def coupled_loss(n, d):
    """Kaplan et al. 2020, Eq. 1.5, with the constants of the smallest GPTs on bytes of text."""
    return ((2.9e5 / n) ** (0.20 / 0.24) + 1.2e7 / d) ** 0.24


def trunks(loss, noise=0.003, shared=0.01, seed=0):
    """A trunk a size: its runs share an error, beside each run's own."""
    rng = np.random.default_rng(seed)
    n, d = (a.ravel() for a in np.meshgrid(SIZES, DATA, indexing="ij"))
    common = np.repeat(shared * rng.standard_normal(len(SIZES)), len(DATA))
    y = loss(n, d) * np.exp(common + noise * rng.standard_normal(n.size))
    return pd.DataFrame({"N": n, "D": d, "metric": y, "trunk": np.repeat(range(len(SIZES)), 5)})


def warned(law, frame):
    found = fit(law, frame, interval="none", cluster="trunk").warnings
    return [warning for warning in found if warning.startswith(LACK_OF_FIT)]


@pytest.mark.parametrize("law", ["joint", "joint_tied"])
def test_a_sum_fitted_to_a_coupled_truth_is_named_with_where_and_how_much(law):
    (warning,) = warned(law, trunks(coupled_loss))
    ends = re.search(r"goes from ([-+][\d.]+)% at D = 5e\+05 to ([-+][\d.]+)% at 8e\+06", warning)
    first, last = map(float, ends.groups())
    assert first * last < 0
    assert abs(first - last) > 10  # per cent
    assert "compare --laws joint,kaplan" in warning
    assert not warned("kaplan", trunks(coupled_loss))


def test_a_law_of_the_right_form_is_left_alone_whatever_runs_of_a_trunk_share():
    def truth(n, d):
        return joint_loss(JOINT, n, d)

    false = [
        seed
        for seed in range(12)
        if warned("joint", trunks(truth, noise=0.005 * (1 + seed % 4), seed=seed))
    ]
    assert not false  # each has a chance of one in a thousand
    (warning,) = warned("kaplan", trunks(truth, noise=0.0005))
    assert "error goes from" in warning


def test_too_few_runs_of_a_size_say_nothing():
    frame = trunks(coupled_loss)
    assert not warned("joint", frame[frame["D"] < 1.5e6])


@pytest.mark.parametrize(
    ("values", "advice"),
    [
        (lambda x: 30 * x**-0.2 - 0.3, "a floor below 0 would fit them"),
        (lambda x: 30 * x**-0.2 * (1 + 0.25 * np.exp(-(np.log(x / 1e7) ** 2))), "Compare shapes"),
    ],
)
def test_a_curve_that_the_law_misses_is_named_with_where_and_how_much(values, advice):
    x = np.geomspace(1e5, 1e9, 16)
    noise = np.exp(np.random.default_rng(0).normal(0, 0.003, 16))
    result = fit("power_floor", pd.DataFrame({"x": x, "metric": values(x) * noise}), bootstrap=40)
    warning = next(w for w in result.warnings if w.startswith(LACK_OF_FIT))
    assert advice in warning
    assert "% at x =" in warning


@pytest.mark.parametrize("law", ["power_floor", "power", "log_linear"])
def test_a_curve_of_the_right_form_is_left_alone(law):
    x = np.geomspace(1e5, 1e9, 12)
    truth = {"E": 1.5, "a": 9.0, "b": 0.3, "c": 0.15}
    loss = get_law(law).predict({"x": x}, truth)
    named = 0
    for seed in range(80):
        noise = np.random.default_rng(seed).normal(0, 0.05, 12)
        frame = pd.DataFrame({"x": x, "metric": loss * np.exp(noise)})
        result = fit(law, frame, objective="log_least_squares", interval="none")
        named += any(w.startswith(LACK_OF_FIT) for w in result.warnings)
    assert named <= 4


def test_checkpoints_of_one_run_that_err_together_are_no_misfit():
    x = np.geomspace(1e5, 1e9, 20)
    walk = np.cumsum(np.random.default_rng(1).normal(0, 0.01, 20))
    frame = pd.DataFrame({"x": x, "metric": 9 * x**-0.15 * np.exp(walk), "run": "one"})
    result = fit("power_floor", frame, cluster="run", interval="none")
    assert not [w for w in result.warnings if w.startswith(LACK_OF_FIT)]
