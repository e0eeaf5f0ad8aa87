"""A joint law of the wrong form is named as such; one of the right form is left alone."""

import re

import numpy as np
import pandas as pd
import pytest

from analysis import fit
from analysis.misfit import MISFIT
from tests.analysis.planted import joint_loss

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
    return [warning for warning in found if warning.startswith(MISFIT)]


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
