"""What points tell and what they do not: no interval of what is free, no refusal of what is not."""

import numpy as np
import pandas as pd
import pytest

from analysis import fit
from analysis.groups import label_groups
from analysis.identifiability import distinct


def joint_frame(n, d, seed=0, noise=0.005, law=(1.7, 300.0, 0.38, 400.0, 0.3)):
    e, a, alpha, b, beta = law
    chance = np.exp(noise * np.random.default_rng(seed).standard_normal(len(n)))
    return pd.DataFrame({"N": n, "D": d, "metric": (e + a * n**-alpha + b * d**-beta) * chance})


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
