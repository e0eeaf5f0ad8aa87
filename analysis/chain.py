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
from analysis.uncertainty import percentiles


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
        unknown = np.full(len(mean), np.nan)
        bands = [unknown] * 4
        if self.loss.samples and self.link.samples:
            rng = np.random.default_rng(seed)
            count = max(_draws(self.loss), _draws(self.link))
            first = _pick(self.loss, count, rng)
            second = _pick(self.link, count, rng)
            losses = np.broadcast_to(
                np.asarray(self.loss.model.value(first, columns), dtype=float), (count, len(mean))
            )
            metric = np.asarray(self.link.model.value(second, {"L": losses}), dtype=float)
            level = max(self.loss.effective_level(), self.link.effective_level())
            low, high = percentiles(metric, level)
            bands = [np.minimum(low, mean), np.maximum(high, mean), unknown, unknown]
            sigma = self.link.new_run_sd()
            if sigma is not None:
                scatter = sigma * rng.standard_normal(metric.shape)
                new = metric * np.exp(scatter) if self.link.residual_log else metric + scatter
                low, high = percentiles(new, level)
                bands[2:] = [np.minimum(low, mean), np.maximum(high, mean)]
        out = np.column_stack([mean, *bands])
        if self.link.metric_range is not None:
            out = np.clip(out, *self.link.metric_range)
        return pd.DataFrame(out, columns=["mean", "low", "high", "low_new", "high_new"])


def _draws(result: FitResult) -> int:
    return len(next(iter(result.samples.values())))


def _pick(result: FitResult, count: int, rng: np.random.Generator) -> dict[str, Any]:
    rows = rng.integers(0, _draws(result), size=count)
    return {k: v[rows][:, None] for k, v in result.samples.items()}
