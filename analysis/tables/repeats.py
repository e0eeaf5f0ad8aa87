"""Repeats: runs that are equal in everything but their seed, and how far apart they came out."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.laws.law import Array
from analysis.tables.clusters import LABEL, RUN, TRUNK, find_clusters, is_flat, seed_columns, words
from analysis.tables.points import Noise
from analysis.tables.table import RunTable

# Words of columns that say who made a run, where, when and how fast, or what came out of it: two
# repeats may differ in them. The study is among them: it is a name, and no property of a run.
APART = frozenset((
    *TRUNK, *RUN, *LABEL, "study", "project", "group", "tags", "notes", "status", "state",
    "environment", "git", "commit", "version", "units", "evaluations", "host", "hostname", "user",
    "path", "url", "date", "created", "updated", "started", "finished", "timestamp", "at",
    "seconds", "second", "hours", "time", "duration", "runtime", "throughput", "utilization", "mfu",
    "marginal", "loss", "error", "err", "accuracy", "acc", "bpb", "ppl", "perplexity", "recall",
    "score", "auc", "f1",
))  # fmt: skip
# Words of what is chosen before training, for numbers that no other run may share.
CHOSEN = frozenset((
    "tokens", "samples", "step", "steps", "epoch", "epochs", "params", "parameters", "flops", "lr",
    "batch", "layers", "heads", "width", "depth", "size", "dropout", "decay", "warmup",
))  # fmt: skip
LETTERS = ("N", "D", "C", "U", "S", "x")


def settings(table: RunTable, letters: Sequence[str], metric: str) -> list[pd.Series[Any]]:
    """Columns in which repeats agree: those of the law, and whatever was chosen before training.

    What was chosen takes each value in several runs, or has a name that says it; what was measured
    is another number in almost every run. Nested parts of a record have columns for what differs.
    """
    given = table.given
    apart = {metric, table.conventions.get(metric, metric), *seed_columns(given), *letters}
    chosen = [table.frame[letter] for letter in letters]
    for column in given:
        values, name = given[column], set(words(column))
        if column in apart or name & APART or not is_flat(values):
            continue
        if column in LETTERS or name & CHOSEN or values.nunique() <= len(values) / 2:
            chosen.append(values)
    return chosen


def measure_noise(
    table: RunTable,
    metric: str,
    log: bool,
    letters: Sequence[str] = (),
    cluster: NDArray[np.intp] | None = None,
) -> Noise | None:
    """Pooled scatter of repeats; None without a column of seeds, or if no two runs are repeats.

    Rows that share a trunk share part of their error; how much is measured from the same repeats.

    Args:
        letters: columns of the law.
        cluster: (n,) as `find_clusters` has it.
    """
    seeds = seed_columns(table.frame)
    chosen = settings(table, letters, metric) if seeds and len(table) else []
    if not chosen:
        return None
    value = table.numbers(metric)
    if log:
        value = np.log(np.where(value > 0, value, np.nan))
    place = _number(zip(*(column.map(str) for column in chosen), strict=True))
    # Two rows of one place and one seed differ in something that no column says.
    same = _number(zip(place, *(table.frame[c].map(str) for c in seeds), strict=True))
    unclear = np.isin(place, place[np.bincount(same)[same] > 1])
    used = np.isfinite(value) & ~unclear
    place, value = place[used], value[used]
    size = np.bincount(place)[place]
    freedom = int(np.sum(size > 1) - len(np.unique(place[size > 1])))
    if freedom == 0:
        return None
    deviation = value - (np.bincount(place, value) / np.maximum(np.bincount(place), 1))[place]
    pooled = float(np.sum(deviation**2) / freedom)
    codes, told = find_clusters(table) if cluster is None else (cluster, "given")
    shared = None
    if told is not None:
        # Freed of the mean's own share of the variance.
        repeated = size > 1
        whole = deviation[repeated] / np.sqrt(1 - 1 / size[repeated])
        shared = intraclass(whole, codes[used][repeated])
    return Noise(float(np.sqrt(pooled)), freedom, log, shared=shared)


def _number(keys: Iterable[tuple[Any, ...]]) -> NDArray[np.intp]:
    """0, 1, ... for each new key in turn."""
    known: dict[tuple[Any, ...], int] = {}
    return np.array([known.setdefault(key, len(known)) for key in keys], dtype=np.intp)


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
