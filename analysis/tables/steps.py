"""Logged steps of training curves, in memory bounded by what a curve can show."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from analysis.tables.table import TableError

MOST = 4000  # steps of a curve that are kept as they are
BINS = 320  # a decade of compute, for longer ones: 32 within the bandwidth of the smoothing
COUNTED = ("tokens", "samples", "units")  # keys of D; a row has one
AVERAGED = "n_averaged"  # column of a table of curves

Steps = NDArray[np.float64]  # (n, 4): compute, tokens or samples read, metric, steps averaged


def read_steps(path: Path, metric: str) -> Steps:
    """Steps of a metrics.jsonl that hold a metric, which is logged as `split/what` and stands in
    tables as `split_what`; a torn last line is a step not yet written.

    Raises:
        TableError: if another line cannot be read.
    """
    kept, new = np.empty((0, 4)), []
    key, problem = metric, ""
    with path.open("rb") as file:
        for place, line in enumerate(file, 1):
            if problem:
                raise TableError(problem)
            try:
                row = json.loads(line)
                seen = next((row[k] for k in COUNTED if row.get(k) is not None), None)
                if key not in row:
                    key = next((k for k in row if k.replace("/", "_") == metric), key)
                if row.get(key) is not None and row.get("flops") is not None:
                    step = (row["flops"], np.nan if seen is None else seen, row[key], 1)
                    new.append([float(value) for value in step])
            except (ValueError, TypeError, AttributeError, RecursionError) as error:
                problem = f"{path.name}, line {place}, is not a logged step ({error})"
            if len(new) > MOST:
                kept, new = thin(np.concatenate([kept, np.array(new)])), []
    return thin(np.concatenate([kept, np.array(new).reshape(-1, 4)]))


def thin(steps: Steps) -> Steps:
    """The same curve in fewer rows: means over narrow bins of log compute, if it is long."""
    if len(steps) <= MOST:
        return steps
    with np.errstate(divide="ignore", invalid="ignore"):
        level = np.log10(steps[:, 0]) * BINS
    # What cannot be drawn stays apart, to be counted later.
    good = np.isfinite(level) & np.isfinite(steps).all(axis=1)
    code = np.floor(np.where(good, level, 0)).astype(np.int64)
    _, first, bins = np.unique(code[good], return_index=True, return_inverse=True)
    count = steps[good, 3]
    total = np.bincount(bins, count)
    means = [np.bincount(bins, steps[good, k] * count) / total for k in range(3)]
    order = np.argsort(first)
    return np.concatenate([np.column_stack([*means, total])[order], steps[~good]])
