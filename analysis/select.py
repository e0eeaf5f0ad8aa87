"""Filters. Each returns a table that says what it dropped and why; none is applied twice.

Default for runs of a study: only annealed end points of completed runs, one evaluation batch,
one tokenizer (mid-trunk losses are not comparable, Haegele et al. 2024; a contrastive loss
depends on its batch).
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.groups import label_groups
from analysis.table import RunTable, TableError

# A fit may not mix values of these, however a table spells them; the remedy is a --where.
MUST_AGREE = (
    "family", "tokenizer", "val_batch_size", "eval_batch_size", "evaluation_batch_size",
)  # fmt: skip
# Pooling these is a choice, which a reader must know of.
POOLED = (
    "task", "benchmark", "dataset", "eval_set", "evaluation_set", "experiment", "split", "source",
)  # fmt: skip
LARGEST_LOSS = 50.0  # nats; exp(50) is no vocabulary
TOKENS_PER_PARAMETER = 1e-3


def final_runs(table: RunTable) -> RunTable:
    """Completed, annealed end points."""
    frame = table.frame
    if "status" in frame:
        status = frame["status"].astype(str)
        for state in sorted(set(status) - {"completed"}):
            table = table.keep(table.frame["status"].astype(str) != state, f"status is {state}")
    if "annealed" in table.frame:
        annealed = table.frame["annealed"].fillna(False).astype(bool)
        table = table.keep(annealed, "not annealed: a mid-trunk loss")
    return table


def where(table: RunTable, query: str) -> RunTable:
    """Rows for which a pandas query holds."""
    return table.keep(evaluate_query(table.frame, query), f"not {query}")


def evaluate_query(frame: pd.DataFrame, query: str, option: str = "--where") -> NDArray[np.bool_]:
    try:
        answer = frame.eval(query, engine="python")
    except Exception as error:  # pandas raises a dozen kinds for a typing mistake
        raise TableError(
            f"{option} {query!r}: {error}; example: 'task == \"imagenet\" and N > 1e6'"
        ) from error
    mask = np.asarray(answer)
    if mask.dtype != bool or mask.shape != (len(frame),):
        raise TableError(f"{option} {query!r} is not true or false for each row")
    return mask


def evaluate_column(table: RunTable, formula: str, option: str) -> pd.Series[float]:
    """A column computed from others, as pandas `eval` has it; text columns are read as numbers.

    Raises:
        TableError: if the formula is none, or names a column that is not there.
    """
    frame = table.frame
    # Cells such as "70B" count as numbers here as they do elsewhere.
    used = [c for c in frame.columns if isinstance(c, str) and c in formula]
    numeric = frame.assign(**{c: table.numbers(c) for c in used})
    try:
        answer = numeric.eval(formula, engine="python")
    except Exception as error:  # pandas raises a dozen kinds for a typing mistake
        have = ", ".join(map(str, frame.columns[:40]))
        raise TableError(
            f"{option} {formula!r}: neither a column nor a formula of columns ({error}); a name "
            f"with spaces stands in `backticks`; there are: {have}"
        ) from error
    if not isinstance(answer, pd.Series):
        raise TableError(f"{option} {formula!r} names no column of {table.source}")
    return answer.astype(float)


def positive_values(table: RunTable, columns: Sequence[str], metric: str | None) -> RunTable:
    """Rows whose columns are finite and positive and whose metric is finite.

    Args:
        metric: column that must be finite; it must be positive too when it is in `columns`.
    """
    for column in (*columns, *([metric] if metric and metric not in columns else [])):
        shown = table.conventions.get(column, column)
        values = table.numbers(column)
        table = table.keep(~np.isnan(values), f"{shown} is missing or NaN")
        table = table.keep(np.isfinite(table.numbers(column)), f"{shown} is infinite")
        if column in columns:
            values = table.numbers(column)
            table = table.keep(values > 0, f"{shown} is zero or negative")
    return table


def check_units(table: RunTable, metric: str) -> RunTable:
    """Counted warnings for values that look like a wrong unit."""
    frame = table.frame
    if "loss" in metric.lower() and metric in frame:
        high = int((table.numbers(metric) > LARGEST_LOSS).sum())
        if high:
            table = table.warn(
                f"{high} rows have {metric} > {LARGEST_LOSS:g}: is it in nats? "
                "(perplexity and percent are other units)"
            )
    if {"N", "D"} <= set(frame.columns):
        short = int((table.numbers("D") < TOKENS_PER_PARAMETER * table.numbers("N")).sum())
        if short:
            table = table.warn(
                f"{short} rows have D < N/1000: is D in tokens (not millions or billions)?"
            )
    return table


def check_agreement(table: RunTable) -> RunTable:
    """Refuse to pool runs whose metric is not comparable; warn where it may not be.

    Raises:
        TableError: if runs mix tokenizers, families or batches of the evaluation.
    """
    for column in table.frame.columns:
        spelled = re.sub(r"[^a-z0-9]+", "_", str(column).lower()).strip("_")
        if spelled not in (*MUST_AGREE, *POOLED):
            continue
        values = table.frame[column].dropna().astype(str).unique()
        if len(values) < 2:
            continue
        shown = ", ".join(sorted(values)[:5]) + (", ..." if len(values) > 5 else "")
        if spelled in MUST_AGREE:
            raise TableError(
                f"the runs mix {len(values)} values of {column} ({shown}); their metrics are "
                f"not comparable. Choose one: --where '{column} == ...'"
            )
        table = table.warn(
            f"one law for {len(values)} values of {column} ({shown}): --by {column} fits each, "
            f"--where '{column} == ...' keeps one"
        )
    return table


def drop_highest(table: RunTable, metric: str, count: int) -> RunTable:
    """Leave out the rows with the highest metric (as replications of Hoffmann et al. 2022 do)."""
    if count < 0 or count >= len(table):
        raise TableError(f"--drop-highest-loss {count}: the table has {len(table)} rows")
    if count == 0:
        return table
    order = np.argsort(table.numbers(metric), kind="stable")
    mask = np.ones(len(table), dtype=bool)
    mask[order[-count:]] = False
    return table.keep(
        mask, f"one of the {count} highest values of {table.conventions.get(metric, metric)}"
    )


def largest(table: RunTable, column: str, tolerance: float = 0.02) -> RunTable:
    """Rows at the largest value of `column` (within a relative tolerance)."""
    values = table.numbers(column)
    top = float(np.max(values))
    shown = table.conventions.get(column, column)
    return table.keep(values >= top * (1 - tolerance), f"{shown} is below its largest, {top:.4g}")


def largest_compute(table: RunTable, column: str = "C", share: float = 0.1) -> NDArray[np.bool_]:
    """Mask of the runs with the largest compute: the top `share`, at least one, ties included."""
    values = table.numbers(column)
    count = max(1, round(share * len(values)))
    cut = np.sort(values)[-count]
    return np.asarray(values >= cut * (1 - 1e-9))


def cross_section(table: RunTable, vary: str, hold: str, tolerance: float = 0.05) -> RunTable:
    """Runs at one level of `hold`: the level with most distinct values of `vary`, then the largest.

    Values within a relative tolerance are one level (budgets are rounded to whole steps).
    """
    held, varied = table.numbers(hold), table.numbers(vary)
    level = label_groups(held, tolerance)
    edges = np.full(level.max() + 1, np.inf)
    np.minimum.at(edges, level, held)
    counts = [len(np.unique(varied[level == k])) for k in range(len(edges))]
    best = max(range(len(edges)), key=lambda k: (counts[k], edges[k]))
    shown = table.conventions.get(hold, hold)
    return table.keep(level == best, f"{shown} is not {edges[best]:.4g}, where {vary} varies most")
