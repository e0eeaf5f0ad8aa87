"""The tuning studies' arithmetic, on a planted optimum."""

import numpy as np
import pandas as pd
import pytest

from experiments.learning_rate import power_rule, vertex

RATES = np.array([1e-3, 2e-3, 4e-3, 8e-3, 1.6e-2])


def test_a_planted_parabola_is_found():
    losses = 2 + 0.3 * (np.log(RATES) - np.log(5e-3)) ** 2
    optimum, bracketed = vertex(RATES, losses)
    assert bracketed
    assert optimum == pytest.approx(5e-3, rel=1e-9)


def test_an_optimum_at_the_end_of_the_grid_is_only_a_bound():
    assert vertex(RATES, -RATES) == (1.6e-2, False)


def test_a_planted_rule_is_recovered_without_the_bounds():
    n = np.array([1e3, 1e4, 1e5, 1e6])
    table = pd.DataFrame(
        {"n_params_non_embedding": n, "lr_best": 4e-3 * (n / 1e5) ** -0.3, "bracketed": True}
    )
    edge = pd.DataFrame({"n_params_non_embedding": [10], "lr_best": [1.0], "bracketed": [False]})
    rule = power_rule(pd.concat([table, edge]))
    assert rule["exponent"] == pytest.approx(0.3)
    assert rule["lr_ref"] == pytest.approx(4e-3)
    assert rule["n_at_the_edge"] == 1
