"""Filters. Each returns a table that says what it dropped and why; none is applied twice.

Default: only annealed end points of completed runs (mid-trunk losses are not comparable, Haegele
et al. 2024).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.tables.groups import label_groups
from analysis.tables.states import run_states, truths
from analysis.tables.table import RunTable, TableError

NAMES_IN = re.compile(r"`([^`]+)`|(?<![\w.])([^\W\d]\w*)")  # of columns, in a formula
COMPOUND = re.compile(r"[^\W\d]\w*([./-]\w+)+")  # names that a formula would take apart
QUOTED = re.compile(r"(`[^`]*`|'[^']*'|\"[^\"]*\")")
LARGEST_LOSS = 50.0  # nats; exp(50) is no vocabulary
TOKENS_PER_PARAMETER = 1e-3
FEW_PARAMETERS, MANY_TOKENS = 1e4, 1e6


def final_runs(table: RunTable) -> RunTable:
    """Completed, annealed end points; a table with `all_runs` keeps the others, and says so."""
    for column, states, finished in run_states(table.frame):
        if table.all_runs and not finished.all():
            counts = states[~finished].value_counts()
            shown = ", ".join(f"{n} {state}" for state, n in counts.items())
            table = table.warn(f"{column}: fitted with runs that did not finish ({shown})")
            continue
        for state in sorted(set(states[~finished])):
            rows = states.reindex(table.frame.index) != state
            table = table.keep(rows | finished.reindex(table.frame.index), f"{column} is {state}")
    if table.all_runs:
        return table
    if "annealed" in table.frame:
        annealed, odd = truths(table.frame["annealed"])
        if odd:
            raise TableError(
                f"{table.source}: column 'annealed' holds {min(odd)!r}, neither yes nor no"
            )
        table = table.keep(annealed, "not annealed: a mid-trunk loss")
    return table


def where(table: RunTable, query: str) -> RunTable:
    """Rows for which a pandas query holds."""
    return table.keep(evaluate_query(table.given, query), f"not {query}")


def quoted(text: str, columns: Iterable[Any]) -> str:
    """A formula or query with the names of columns that need them in backticks: `model.dropout`.

    A name with a division or a difference in it stays one where its parts are columns, too.
    """
    names = [c for c in columns if isinstance(c, str) and COMPOUND.fullmatch(c)]
    parts = set(columns)
    names = [c for c in names if "." in c or not parts & set(re.split(r"[/-]", c))]
    for name in sorted(names, key=len, reverse=True):
        whole = re.compile(rf"(?<![\w./-]){re.escape(name)}(?![\w./-])")
        pieces = QUOTED.split(text)  # every second piece is a quotation
        text = "".join(p if i % 2 else whole.sub(f"`{name}`", p) for i, p in enumerate(pieces))
    return text


def evaluate_query(frame: pd.DataFrame, query: str, option: str = "--where") -> NDArray[np.bool_]:
    try:
        answer = frame.eval(quoted(query, frame.columns), engine="python")
    except Exception as error:  # pandas raises a dozen kinds for a typing mistake
        raise TableError(
            f"{option} {query!r}: {error}; example: 'task == \"imagenet\" and N > 1e6'"
        ) from error
    mask = np.asarray(answer)
    if mask.dtype != bool or mask.shape != (len(frame),):
        raise TableError(f"{option} {query!r} is not true or false for each row")
    return mask


def names_in(formula: str, columns: Iterable[Any]) -> set[str]:
    """The names in a formula; a formula that is a column's name is that one."""
    if formula in columns:
        return {formula}
    return {ticked or name for ticked, name in NAMES_IN.findall(quoted(formula, columns))}


def evaluate_column(table: RunTable, formula: str, option: str) -> pd.Series[float]:
    """A column computed from others, as pandas `eval` has it; text columns are read as numbers.

    Raises:
        TableError: if the formula is none, or names a column that is not there.
    """
    frame, formula = table.given, quoted(formula, table.given.columns)
    # Cells such as "70B" count as numbers here as they do elsewhere.
    used = names_in(formula, frame)
    numbers = {c: table.numbers(table.own(c)) for c in frame if c in used}
    try:
        answer = frame.assign(**numbers).eval(formula, engine="python")
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
    """Rows whose columns are finite and positive and whose metric is finite (and positive, if it is
    among the columns)."""
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
        n, d = (np.nanmedian(table.numbers(c)) if len(frame) else np.nan for c in "ND")
        if n < FEW_PARAMETERS and d > MANY_TOKENS:
            table = table.warn(
                f"N is {n:.4g} at the median and looks like millions: name its unit in the header, "
                "or give --n 'params * 1e6'"
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
