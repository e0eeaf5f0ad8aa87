"""The points of a fit: which rows of a table can be fitted, which are held out, what they share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.laws.law import Law
from analysis.solver.objectives import Objective
from analysis.tables.clusters import find_clusters
from analysis.tables.files import map_letters
from analysis.tables.filters import check_units, evaluate_query, final_runs, positive_values
from analysis.tables.points import Noise, Points, make_points
from analysis.tables.pooling import check_agreement
from analysis.tables.repeats import measure_noise
from analysis.tables.table import C_COLUMNS, N_COLUMNS, RunTable, TableError

LARGEST_SHARE = 1.5  # of a bounded metric; above it, it must be in percent


@dataclass(frozen=True)
class Sample:
    """Rows a law can be fitted to, and those it is judged on."""

    table: RunTable
    names: Mapping[str, str]  # letter of the law -> column
    metric: str
    everything: Points
    held: NDArray[np.bool_]  # of everything: rows that are not fitted
    points: Points  # the others
    cluster: str | None  # columns that say which points travel together
    noise: Noise | None  # measured from repeats

    @property
    def columns(self) -> dict[str, str]:
        """Letter of the law -> source column or rule."""
        return {k: self.table.conventions.get(v, v) for k, v in self.names.items()}

    def data(self) -> dict[str, list[Any]]:
        """The points in plain lists, and their C where the table knows it."""
        points = self.everything
        out: dict[str, list[Any]] = {"id": list(points.ids)}
        out |= {k: v.tolist() for k, v in points.x.items()}
        if "C" in self.table.frame and "C" not in out:
            compute = self.table.numbers("C")
            if np.isfinite(compute).all() and (compute > 0).all():
                out["C"] = compute.tolist()  # lets a forecast turn a budget into N and D
        out["y"] = points.y.tolist()
        if points.error is not None:
            out["error"] = points.error.tolist()
        return out | {"cluster": points.cluster.tolist(), "held_out": self.held.tolist()}

    def alternatives(self) -> dict[str, dict[str, list[float]]]:
        """The same runs under the other counting conventions their records hold.

        A table whose own column was named has none: what it calls flops is no convention of ours.
        """
        out: dict[str, dict[str, list[float]]] = {}
        for letter, columns in (("N", N_COLUMNS), ("C", C_COLUMNS)):
            used = self.table.conventions.get(self.names.get(letter, letter))
            others = [c for c in columns if c in self.table.frame and c != used]
            if "N" in self.names and used in columns and others:
                out[letter] = {c: self.table.numbers(c).tolist() for c in others}
        return out


def take_sample(
    law: Law,
    data: RunTable | pd.DataFrame,
    metric: str,
    columns: Mapping[str, str] | None,
    objective: Objective,
    error: str | None = None,
    hold_out: str | NDArray[np.bool_] | None = None,
    cluster: str | None = None,
) -> Sample:
    """What a law can be fitted to of a table; the arguments are those of `fit`."""
    table, letters = map_letters(data, columns)
    table = final_runs(table)
    names = {letter: letters.get(letter, letter) for letter in law.columns}
    columns_used = list(names.values())
    table = _usable(table, law, names, metric, objective, error)
    held = _held_out(table, hold_out)
    fitted = table.with_frame(table.frame[~held])
    agreed = check_agreement(fitted, metric, columns_used)
    table = replace(table, warnings=agreed.warnings)
    together, told = find_clusters(table, cluster)
    everything = make_points(table, law, names, metric, error, together)
    points = everything.take(~held)
    noise = measure_noise(fitted, metric, objective.log, columns_used, points.cluster)
    return Sample(table, names, metric, everything, held, points, told, noise)


def _usable(
    table: RunTable,
    law: Law,
    names: Mapping[str, str],
    metric: str,
    objective: Objective,
    error: str | None,
) -> RunTable:
    if len(table) == 0:
        raise TableError(
            f"{table.source}: no rows are left to fit. {table.account()}"
            if table.dropped
            else f"{table.source}: the table has no rows"
        )
    link = law.columns == ("L",)
    for column in names.values() if link else ():
        table = positive_values(table, [], column)
    must = [] if link else list(names.values())
    must += [metric] if objective.log or law.positive else []
    table = positive_values(table, [*must, *([error] if error else [])], metric)
    if len(table) == 0:
        raise TableError(f"{table.source}: no usable row is left. {table.account()}")
    shown = table.conventions.get(metric, metric)
    if link and np.max(np.abs(table.numbers(metric))) > LARGEST_SHARE:
        raise TableError(
            f"{shown} reaches {np.max(table.numbers(metric)):g}: a link predicts a share between "
            f"0 and 1. Percent become shares by --metric '{shown} / 100'"
        )
    return check_units(table, shown)


def _held_out(table: RunTable, hold_out: str | NDArray[np.bool_] | None) -> NDArray[np.bool_]:
    if hold_out is None:
        return np.zeros(len(table), dtype=bool)
    if isinstance(hold_out, str):
        mask = evaluate_query(table.given, hold_out, "--hold-out")
    else:
        mask = np.asarray(hold_out, dtype=bool)
    if mask.shape != (len(table),):
        raise ValueError(
            f"hold_out has {mask.size} entries for {len(table)} usable rows; use a query instead"
        )
    if mask.all():
        raise TableError(f"--hold-out {hold_out!r} holds out every row")
    return mask
