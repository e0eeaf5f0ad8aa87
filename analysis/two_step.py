"""Two steps to a bounded metric: a law for the loss, then a link from loss to metric.

Draws of the first fit go through draws of the second, so the band of the metric holds the
uncertainty of both (Gadre et al. 2024; Grattafiori et al. 2024).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from analysis.result import FitResult


@dataclass(frozen=True)
class Chain:
    """`link` is a fit with the single column L, the metric that `loss` predicts."""

    loss: FitResult
    link: FitResult

    def __post_init__(self) -> None:
        if self.link.model.columns != ("L",):
            raise ValueError(
                f"law {self.link.law} is no link from loss to metric: sigmoid_link, exp_link"
            )

    def predict(self, x: Mapping[str, Any] | pd.DataFrame, seed: int = 0) -> pd.DataFrame:
        """Metric with a band for the mean and one for a new run; NaN where draws are missing."""
        columns = {c: np.atleast_1d(np.asarray(x[c], dtype=float)) for c in self.loss.model.columns}
        middle = self.loss.model.predict(columns, self.loss.parameters)
        mean = self.link.model.predict({"L": middle}, self.link.parameters)
        draws, rng = None, np.random.default_rng(seed)
        if self.loss.samples and self.link.samples:
            count = max(_draws(self.loss), _draws(self.link))
            first, second = _pick(self.loss, count, rng), _pick(self.link, count, rng)
            losses = np.asarray(self.loss.model.value(first, columns), dtype=float)
            draws = np.asarray(self.link.model.value(second, {"L": losses}), dtype=float)
        level = max(self.loss.effective_level(), self.link.effective_level())
        return self.link.banded(mean, draws, level, rng)


def _draws(result: FitResult) -> int:
    return len(next(iter(result.samples.values())))


def _pick(result: FitResult, count: int, rng: np.random.Generator) -> dict[str, Any]:
    rows = rng.integers(0, _draws(result), size=count)
    return {k: v[rows][:, None] for k, v in result.samples.items()}
