"""From tables to ladders, and to the places that a forecast is asked about."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from scipy.stats import spearmanr

from analysis.forecasting.ladder import Ladder
from analysis.laws.law import Array
from analysis.optima.compute_optimal import ComputeRule, compute_rule
from analysis.tables.table import RunTable, TableError

RISING = 0.5  # rank correlation of metric and size; a forecast is of something that falls


def coordinates(columns: Mapping[str, Array], letters: tuple[str, ...]) -> Array:
    """Logarithms (k, n) of the letters' columns."""
    return np.log([np.asarray(columns[letter], dtype=float) for letter in letters])


def make_ladder(
    table: RunTable, letters: tuple[str, ...], measure: str, cluster: str | None = None
) -> Ladder:
    """The ladder of a cleaned table.

    Args:
        letters: columns of the law's variables, N and D or x.
        measure: column that distance is measured in, C or x.
        cluster: column; the rows that share its value weigh as one run. So do copies of a row.

    Raises:
        TableError: if the metric rises with size.
    """
    x = coordinates({c: table.numbers(c) for c in letters}, letters)
    size = np.log(table.numbers(measure))
    y = np.log(table.numbers("metric"))
    weight = np.ones(len(y))
    if cluster is not None:
        if cluster not in table.frame:
            raise TableError(f"--cluster {cluster!r}: no such column in {table.source}")
        codes = pd.factorize(table.frame[cluster], use_na_sentinel=False)[0]
        weight = 1 / np.bincount(codes)[codes]
    same = np.unique(np.vstack([x, size, y]), axis=1, return_inverse=True)[1].ravel()
    weight = np.minimum(weight, 1 / np.bincount(same)[same])
    if len(y) > 3 and np.ptp(size) > 0 and np.ptp(y) > 0 and spearmanr(size, y)[0] > RISING:
        name = table.conventions.get("metric", "metric")
        raise TableError(
            f"{name} rises with size; a forecast is of a loss or an error, which falls: "
            f"for an accuracy, --loss '1 - `{name}`'"
        )
    return Ladder(x, size, y, weight)


def ladder_rule(ladder: Ladder) -> ComputeRule:
    """Compute of N and D as the ladder's runs have it."""
    n, d = np.exp(ladder.x)
    return compute_rule(n, d, np.exp(ladder.size))


def compute_of(rule: ComputeRule, x: Array) -> Array:
    """Logarithm of the compute at logarithms of N and D (2, n)."""
    return np.asarray(np.log(rule.k) + rule.p * x[0] + rule.q * x[1])
