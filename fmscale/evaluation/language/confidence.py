"""Whether a model knows what it knows: its probability of an answer against how often it is right.

Radford et al. 2019, Table 5 and Sec. 3.7, list the most confident answers and the accuracy of the
most confident 1 %; the calibration error is that of Naeini et al. 2015, in bins of equal width.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

N_BINS = 10


class Bin(NamedTuple):
    """Answers whose probability lies above `low` and up to `high`."""

    low: float
    high: float
    n: int
    mean_probability: float
    accuracy: float


def calibration(probability: np.ndarray, correct: np.ndarray, n_bins: int = N_BINS) -> list[Bin]:
    """Mean probability and accuracy of the answers in each bin; empty bins are left out.

    Args:
        probability: of each answer, (n,), in 0..1.
        correct: whether it is right, (n,) bool.
    """
    places = np.clip(np.ceil(probability * n_bins).astype(int) - 1, 0, n_bins - 1)
    return [
        Bin(k / n_bins, (k + 1) / n_bins, int(own.sum()), float(probability[own].mean()),
            float(correct[own].mean()))
        for k in range(n_bins)
        if (own := places == k).any()
    ]  # fmt: skip


def calibration_error(bins: list[Bin]) -> float:
    """Expected calibration error: mean over answers of |accuracy - probability| of their bins."""
    n = sum(own.n for own in bins)
    return sum(own.n * abs(own.accuracy - own.mean_probability) for own in bins) / n


def accuracy_of_most_confident(
    probability: np.ndarray, correct: np.ndarray, share: float
) -> tuple[float, int]:
    """Accuracy of the share of answers with the highest probability, and how many these are."""
    n = math.ceil(share * len(probability))
    chosen = np.argsort(-probability, kind="stable")[:n]
    return float(correct[chosen].mean()), n
