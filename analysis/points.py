"""The numbers a fit sees: columns, values, their errors, and which of them travel together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.laws.law import Array, Law
from analysis.table import RunTable, TableError

# Rows that agree in these and differ in seed are repeats of one experiment.
REPEAT_KEYS = ("study", "model", "N", "D", "C", "U", "S", "x", "schedule", "lr_peak")
FEW = 25  # independent units; below it, redrawing them says little about the tails
FEW_EACH = 8  # units a parameter, likewise


@dataclass(frozen=True)
class Points:
    """n observations of a metric."""

    x: Mapping[str, Array]  # column -> (n,)
    y: Array  # (n,)
    error: Array | None  # (n,) standard errors in the unit of y
    cluster: NDArray[np.intp]  # (n,) 0..m-1: rows of one cluster are resampled together
    ids: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.y)

    @property
    def clusters(self) -> int:
        return int(self.cluster.max()) + 1 if len(self.cluster) else 0

    def has_repeats(self) -> bool:
        """True when two clusters hold a run at the same place."""
        place = pd.DataFrame(
            {k: np.round(np.log(np.abs(v) + 1e-300), 6) for k, v in self.x.items()}
        )
        places = place.assign(cluster=self.cluster).drop_duplicates()
        return bool(places.duplicated(subset=list(self.x)).any())

    def independent(self) -> Points:
        """The same points, as if none travelled with another."""
        return replace(self, cluster=np.arange(len(self), dtype=np.intp))

    def take(self, mask: NDArray[np.bool_]) -> Points:
        _, cluster = np.unique(self.cluster[mask], return_inverse=True)
        return Points(
            {k: v[mask] for k, v in self.x.items()},
            self.y[mask],
            None if self.error is None else self.error[mask],
            cluster,
            tuple(i for i, m in zip(self.ids, mask, strict=True) if m),
        )


@dataclass(frozen=True)
class Noise:
    """Standard deviation of a repeated run, in log units (or raw ones), and its freedom."""

    sigma: float
    freedom: int
    log: bool
    origin: str = "repeats"  # or the fit whose residuals stand in for repeats
    shared: float | None = None  # share of the variance common to one trunk; None: not known


def make_points(
    table: RunTable,
    law: Law,
    columns: Mapping[str, str],
    metric: str,
    error: str | None = None,
    cluster: str | None = None,
) -> Points:
    """Points of a cleaned table; `columns` maps the law's letters to table columns."""
    x = {}
    for letter in law.columns:
        name = columns.get(letter, letter)
        if name not in table.frame:
            raise TableError(
                f"law {law.name} needs {letter}; name its column (have: "
                f"{', '.join(map(str, table.frame.columns[:30]))})"
            )
        x[letter] = table.numbers(name)
    if cluster is not None and cluster not in table.frame:
        raise TableError(f"cluster column {cluster!r} is not in {table.source}")
    codes = (
        np.arange(len(table)) if cluster is None else pd.factorize(table.frame[cluster])[0]
    ).astype(np.intp)
    if (codes < 0).any():
        raise TableError(f"cluster column {cluster!r} has missing values")
    return Points(
        x,
        table.numbers(metric),
        None if error is None else table.numbers(error),
        codes,
        tuple(table.ids),
    )


def measure_noise(table: RunTable, metric: str, log: bool, trunk: str = "trunk_id") -> Noise | None:
    """Pooled scatter of repeats that differ in nothing but their seed; None without repeats.

    Branches of one trunk share part of their error; how much is measured from the same repeats.
    """
    frame = table.frame
    if "seed" not in frame or len(frame) == 0:
        return None
    keys = [k for k in REPEAT_KEYS if k in frame]
    if not keys:
        return None
    values = pd.Series(table.numbers(metric), index=frame.index)
    if log:
        values = pd.Series(np.log(values.where(values > 0)), index=frame.index)
    groups = values.groupby([frame[k].fillna("missing").astype(str) for k in keys])
    counts, variances = groups.count(), groups.var(ddof=1)
    repeated = counts > 1
    freedom = int((counts[repeated] - 1).sum())
    if freedom == 0:
        return None
    pooled = float((variances[repeated] * (counts[repeated] - 1)).sum() / freedom)
    shared = None
    if trunk in frame:
        # Deviations from the mean of repeats, freed of the mean's own share of the variance.
        size = groups.transform("count")
        deviation = (values - groups.transform("mean")) / np.sqrt(1 - 1 / size)
        shared = intraclass(deviation[size > 1].to_numpy(), frame[trunk][size > 1].to_numpy())
    return Noise(float(np.sqrt(pooled)), freedom, log, shared=shared)


def intraclass(values: Array, labels: Any) -> float | None:
    """Share of the variance of zero-mean values that members of a class have in common.

    The mean product of two different members over the mean square; None when no class has two.
    """
    codes = pd.factorize(labels)[0]
    sums, squares = np.bincount(codes, values), np.bincount(codes, values**2)
    counts = np.bincount(codes)
    pairs = float(np.sum(counts * (counts - 1)))
    total = float(np.mean(values**2)) if len(values) else 0.0
    if pairs == 0 or total == 0:
        return None
    return float(np.clip(np.sum(sums**2 - squares) / pairs / total, 0.0, 1.0))
