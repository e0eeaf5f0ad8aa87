"""The numbers a fit sees: columns, values, their errors, and which of them travel together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from analysis.laws.law import Array, Law
from analysis.tables.table import RunTable, TableError

FEW = 25  # independent units; below it, redrawing them says little about the tails
FEW_EACH = 8  # units a parameter, likewise
FEW_EACH_ROBUST = 24  # likewise, of an objective that is linear in all but the smallest residuals


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
        place = [np.round(np.log(np.abs(v) + 1e-300), 6) for v in self.x.values()]
        ours = np.unique(np.column_stack([*place, self.cluster]), axis=0)
        return len(np.unique(ours[:, :-1], axis=0)) < len(ours)

    def copies(self) -> int:
        """Rows that equal a row of another cluster to the last of five digits or more: two runs do
        not, so one is a copy, or was measured twice."""
        told = np.array([len(f"{v:.15g}".replace(".", "").strip("-0")) >= 5 for v in self.y])
        rows = np.column_stack([*self.x.values(), self.y])
        ours = np.unique(np.column_stack([rows, self.cluster])[told], axis=0)
        return len(ours) - len(np.unique(ours[:, :-1], axis=0))

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
    error: str | None,
    cluster: NDArray[np.intp],
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
    return Points(
        x,
        table.numbers(metric),
        None if error is None else table.numbers(error),
        cluster,
        tuple(table.ids),
    )
