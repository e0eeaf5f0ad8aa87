"""Calibration against scikit-learn, and against answers that are right as often as they say."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.calibration import calibration_curve

from fmscale.evaluation.language.confidence import (
    accuracy_of_most_confident,
    calibration,
    calibration_error,
)


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def test_bins_equal_those_of_scikit_learn(rng):
    probability = rng.beta(2, 5, 3000)
    correct = rng.random(3000) < probability**2
    bins = calibration(probability, correct)
    accuracy, mean = calibration_curve(correct, probability, n_bins=10)
    np.testing.assert_allclose([b.accuracy for b in bins], accuracy)
    np.testing.assert_allclose([b.mean_probability for b in bins], mean)
    assert sum(b.n for b in bins) == 3000


def test_the_error_of_a_calibrated_model_is_sampling_noise_and_of_others_what_was_planted(rng):
    probability = rng.random(20_000)
    honest = rng.random(20_000) < probability
    assert calibration_error(calibration(probability, honest)) < 0.015
    boastful = rng.random(20_000) < 0.5 * probability
    found = calibration_error(calibration(probability, boastful))
    assert found == pytest.approx(0.25, abs=0.015)  # E[p - p / 2]


def test_the_ends_have_a_bin():
    bins = calibration(np.array([0.0, 1.0]), np.array([False, True]))
    assert [(b.low, b.high, b.n, b.accuracy) for b in bins] == [(0.0, 0.1, 1, 0.0),
                                                               (0.9, 1.0, 1, 1.0)]  # fmt: skip
    assert calibration_error(bins) == 0.0


def test_the_most_confident_one_percent_is_rounded_up():
    probability = np.arange(150) / 150
    correct = probability > 0.985  # the last two
    assert accuracy_of_most_confident(probability, correct, 0.01) == (1.0, 2)
    assert accuracy_of_most_confident(probability, correct, 0.02) == (2 / 3, 3)
