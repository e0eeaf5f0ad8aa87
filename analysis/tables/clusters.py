"""Which rows travel together: branches of one trunk, checkpoints of one run.

They have an error in common and say less than as many runs (Moulton 1986, "Random group effects
and the precision of regression estimates"), so an interval that takes them for independent is too
narrow. Which rows do is said by a column that names trunks or runs or, where there is
none, by one each of whose values holds a rising series of steps or tokens at one size.
"""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.tables.table import RunTable, TableError

ALONE = "none"  # instead of a column: every row for itself
TRUNK = ("trunk", "trunkid")
RUN = ("run", "runid", "runname")
LABEL = ("name", "id", "uid", "uuid")
BESIDE = (*LABEL, "wandb", "training", "train", "key")  # words that may stand beside "run"
SEED = ("seed", "seeds", "replicate", "repeat")
SIZE = ("params", "param", "parameters", "nparams")
PROGRESS = ("step", "steps", "iteration", "iterations", "tokens", "samples", "checkpoint")
MIDWAY = ("step", "iteration", "iter", "checkpoint", "ckpt")  # a row is a moment of a run
# Text that describes a size, of which several runs may be, and text that is about no run.
KIND = ("model", "size", "arch", "architecture", "variant", "config", "group", "family")
SERIES = 3  # rows that rise, from which a value is a run's, though its column is not named so


def words(column: object) -> list[str]:
    """The words of a column's name: "Run ID", "runId" and "run.id" are all run and id."""
    return re.findall(r"[a-z0-9]+", re.sub(r"(?<=[a-z])(?=[A-Z])", " ", str(column)).lower())


def seed_columns(frame: pd.DataFrame) -> list[str]:
    return [c for c in frame if isinstance(c, str) and any(w in SEED for w in words(c))]


def find_clusters(
    table: RunTable, column: str | None = None
) -> tuple[NDArray[np.intp], str | None]:
    """The cluster of each row, (n,) 0..m-1, and which columns said so.

    Args:
        column: names the clusters; "none": there are none; default: found as above.

    Raises:
        TableError: if the column is not there, or has no value for a row.
    """
    frame = table.frame
    alone = np.arange(len(table), dtype=np.intp)
    if column is not None and table.own(column) in frame:
        codes = pd.factorize(frame[table.own(column)])[0].astype(np.intp)
        if (codes < 0).any():
            raise TableError(f"cluster column {column!r} has missing values")
        return codes, column
    if column not in (None, ALONE):
        raise TableError(f"cluster column {column!r} is not in {table.source}")
    told = [] if column == ALONE else _columns_of_runs(table)
    if not told:
        return alone, None
    names = frame[told].map(str).agg(" ".join, axis=1).where(frame[told].notna().all(axis=1))
    unnamed = names.isna().to_numpy()
    codes = pd.factorize(names.where(~unnamed, [f"\0{i}" for i in alone]))[0].astype(np.intp)
    return codes, " and ".join(told)


def _columns_of_runs(table: RunTable) -> list[str]:
    """Columns that together name the run of a row, where runs have several rows; else none."""
    frame = table.frame
    size, seeds = _size(table), seed_columns(frame)
    named = {c: words(c) for c in frame if isinstance(c, str)}
    trunks = [c for c, w in named.items() if _is_name(w, TRUNK)]
    runs = [c for c, w in named.items() if _is_name(w, RUN)]
    labels = [c for c, w in named.items() if len(w) == 1 and w[0] in LABEL]
    for column in (*trunks, *runs):
        repeats = frame[column].dropna().duplicated().any()
        if repeats and _one_each(frame, column, [*size, *seeds]):
            return [column]
    if any(frame[c].is_unique for c in runs):
        return []
    rising = [c for c, w in named.items() if c in ("D", "S") or any(p in w for p in PROGRESS)]
    rising = [c for c in rising if pd.api.types.is_numeric_dtype(frame[c])]
    for column in labels:
        if _one_each(frame, column, [*size, *seeds]) and _rises(frame, [column], rising, 2):
            return [column]
    if not size or any(frame[c].is_unique for c in labels):
        return []
    midway = [c for c in rising if any(m in named[c] for m in MIDWAY) and "n" not in named[c]]
    sources = set(table.conventions.values())
    for column, name in named.items():
        about_runs = midway or not any(w in KIND for w in name)
        if not about_runs or column in (*size, *sources) or not _is_text(frame[column]):
            continue
        keys = [column, *seeds] if midway else [column]
        if _one_each(frame, keys, [*size, *seeds]) and _rises(frame, keys, rising):
            return keys
    keys = [*size, *seeds]
    return keys if midway and _rises(frame, keys, midway) else []


def _is_name(name: list[str], of: tuple[str, ...]) -> bool:
    return any(w in of for w in name) and all(w in (*of, *BESIDE) for w in name)


def _size(table: RunTable) -> list[str]:
    """The column that tells models of different size apart."""
    if "N" in table.frame:
        return ["N"]
    for column in table.frame:
        name = words(column)
        tells = any(w in SIZE for w in name) or name in (["size"], ["model", "size"])
        if tells and isinstance(column, str) and is_flat(table.frame[column]):
            return [column]
    return []


def is_flat(values: pd.Series[Any]) -> bool:
    """Whether the cells are values, not nested parts of a record."""
    return not bool(values.map(lambda v: isinstance(v, (dict, list))).any())


def _is_text(values: pd.Series[Any]) -> bool:
    known = values.dropna()
    return len(known) > 0 and bool(known.map(lambda v: isinstance(v, str)).all())


def _one_each(frame: pd.DataFrame, keys: str | list[str], columns: list[str]) -> bool:
    """Whether a value of the keys has one value of each column."""
    groups = frame.groupby(keys)
    return all(bool((groups[c].nunique() <= 1).all()) for c in columns if c not in keys)


def _rises(frame: pd.DataFrame, keys: list[str], rising: list[str], least: int = SERIES) -> bool:
    """Whether the rows of a value differ in steps or tokens, and most values have enough."""
    if (frame.groupby(keys).size() >= least).mean() <= 0.5:
        return False
    return any(not frame.duplicated([*keys, c]).any() for c in rising if c not in keys)
