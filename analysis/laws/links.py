"""From loss to a bounded metric: the second step of a two-step prediction.

The column is called L: the loss, measured or predicted by a first law. Chance and ceiling are
facts about the metric, so they are given, not fitted, unless left open.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from analysis.laws.law import Array, Columns, Law, Parameter


class SigmoidLink(Law):
    """metric = chance + (ceiling - chance) / (1 + exp(k (L - L0)))."""

    name = "sigmoid_link"
    columns = ("L",)
    formula = "chance + (ceiling - chance) / (1 + exp(k (L - L0)))"
    source = "logistic link, Grattafiori et al. 2024, Sec. 3.2.1"
    example = (0.25, 0.95, 2.5, 2.6)
    positive = False
    default_objective = "least_squares"
    target = "metric"
    parameters = (
        Parameter("chance", positive=False, bounds=(-0.5, 1.5)),
        Parameter("ceiling", positive=False, bounds=(-0.5, 1.5)),
        Parameter("k", positive=False, bounds=(-200.0, 200.0)),
        Parameter("L0", positive=False),
    )

    def _share(self, p: Mapping[str, Any], x: Columns) -> Any:
        return np.exp(-np.logaddexp(0.0, p["k"] * (x["L"] - p["L0"])))

    def value(self, p: Mapping[str, Any], x: Columns) -> Any:
        return p["chance"] + (p["ceiling"] - p["chance"]) * self._share(p, x)

    def gradient(self, p: Mapping[str, Any], x: Columns) -> dict[str, Any]:
        s = self._share(p, x)
        slope = -(p["ceiling"] - p["chance"]) * s * (1 - s)  # by k (L - L0)
        return {
            "chance": 1 - s,
            "ceiling": s,
            "k": slope * (x["L"] - p["L0"]),
            "L0": -slope * p["k"],
        }

    def guesses(self, x: Columns, y: Array) -> dict[str, tuple[float, float]]:
        low, high = float(np.min(y)), float(np.max(y))
        width = max(float(np.ptp(x["L"])), 1e-9)
        spread = max(high - low, 1e-6)
        # ceiling above chance by convention; the sign of k says which way the metric goes
        falls = float(np.sum((x["L"] - np.mean(x["L"])) * (y - np.mean(y)))) <= 0
        return {
            "chance": (low - 0.3 * spread, low),
            "ceiling": (high, high + 0.3 * spread),
            "k": (1.0 / width, 30.0 / width) if falls else (-30.0 / width, -1.0 / width),
            "L0": (float(np.min(x["L"])), float(np.max(x["L"]))),
        }


class ExpLink(Law):
    """metric = eps - k exp(-gamma L) (Gadre et al. 2024, Eq. 5: error against loss)."""

    name = "exp_link"
    columns = ("L",)
    formula = "eps - k exp(-gamma L)"
    source = "Gadre et al. 2024, Eq. 5"
    example = (0.9, 3.0, 0.8)
    positive = False
    default_objective = "least_squares"
    target = "metric"
    parameters = (
        Parameter("eps", positive=False, bounds=(-0.5, 2.0), meaning="error at chance"),
        Parameter("k", meaning="size of the gain"),
        Parameter("gamma", bounds=(1e-3, 100.0)),
    )

    def value(self, p: Mapping[str, Any], x: Columns) -> Any:
        return p["eps"] - p["k"] * np.exp(-p["gamma"] * x["L"])

    def gradient(self, p: Mapping[str, Any], x: Columns) -> dict[str, Any]:
        decay = np.exp(-p["gamma"] * x["L"])
        return {"eps": np.ones_like(decay), "k": -decay, "gamma": p["k"] * x["L"] * decay}

    def starts(self, x: Columns, y: Array, count: int, seed: int) -> Array:
        theta = super().starts(x, y, count, seed)
        p = self.decode(theta)
        middle = float(np.median(x["L"]))
        gap = np.maximum(p["eps"] - float(np.median(y)), 1e-6)
        theta[:, 1] = np.log(gap) + p["gamma"] * middle
        return theta

    def guesses(self, x: Columns, y: Array) -> dict[str, tuple[float, float]]:
        high, spread = float(np.max(y)), max(float(np.ptp(y)), 1e-6)
        width = max(float(np.ptp(x["L"])), 1e-9)
        return {
            "eps": (high, high + spread),
            "k": (1e-2, 1e2),
            "gamma": (0.2 / width, 10.0 / width),
        }
