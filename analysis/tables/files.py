"""Anybody's table: CSV, JSON lines or Parquet -> RunTable, with columns named by the user."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from analysis.tables.delimited import read_delimited, settle_decimals
from analysis.tables.filters import evaluate_column
from analysis.tables.number_formats import has_suffix, header_scale, is_percent
from analysis.tables.run_store import SCHEMA_VERSION, is_store, load_runs
from analysis.tables.table import OWN, RunTable, TableError, as_table

# A stated rule for a missing column; the factor is Kaplan et al. 2020's C = 6 N D.
DERIVATIONS = {"6nd": 6.0}
SMALL_COUNT = 1e3  # a plain cell below it, beside "70M", is of another unit
COUNTS = ("N", "D", "C", "U", "S")  # letters whose header may state a unit: "Params (M)"
COMPUTED = re.compile(r"[-+*/()]")  # a column name with one of these may be a formula
WANDB = "wandb://"
HISTORY_KEYS = ("val/loss",)


def read_table(
    path: str | Path, keys: Sequence[str] = HISTORY_KEYS, decimal: str | None = None
) -> RunTable:
    """A run-store folder, a .csv, .tsv, .jsonl or .parquet file, or a W&B project as a table.

    Args:
        path: for W&B, "wandb://entity/project".
        keys: history keys to read from W&B.
        decimal: "." or ",", where the columns of a file leave open what 3,765 is.
    """
    if isinstance(path, str) and path.startswith(WANDB):
        from analysis.tables.wandb_source import load_wandb

        return load_wandb(path.removeprefix(WANDB), keys)
    path = Path(path)
    if is_store(path) or (path.is_dir() and any(is_store(c) for c in path.iterdir())):
        return load_runs(path)
    if path.is_dir():
        raise TableError(f"{path}: a folder without runs; expected run folders or a table file")
    if not path.is_file():
        raise TableError(f"{path}: no such file")
    kind = path.suffix.lower()
    notes: tuple[str, ...] = ()
    if kind in (".csv", ".tsv", ".txt"):
        frame, notes = read_delimited(path, "\t" if kind == ".tsv" else None, decimal)
    elif kind in (".jsonl", ".ndjson"):
        frame, notes = _read_jsonl(path)
        notes += settle_decimals(frame, decimal)
    elif kind in (".parquet", ".pq"):
        try:
            frame = pd.read_parquet(path)
            notes = settle_decimals(frame, decimal)
        except ImportError as error:
            raise TableError(
                f"{path}: Parquet needs pyarrow: pip install fmscale[report]"
            ) from error
        except (OSError, ValueError) as error:
            raise TableError(f"{path}: not a readable Parquet file ({error})") from error
    else:
        raise TableError(f"{path}: unknown ending {kind!r}; use .csv, .tsv, .jsonl or .parquet")
    if frame.empty:
        raise TableError(f"{path}: the table has no rows")
    check_schema(frame, path)
    table = RunTable(frame.reset_index(drop=True), warnings=notes, source=path.name)
    copies = int(frame.astype(str).duplicated().sum())
    if copies:
        table = table.warn(
            f"{copies} rows repeat another row in every column: if they are one run listed twice, "
            "name its column (--run-id) and each counts once"
        )
    return table


def check_schema(frame: pd.DataFrame, path: Path) -> None:
    """Refuse exported runs of a schema that this version does not know."""
    if not {"schema_version", "run_id"} <= set(frame.columns):
        return
    for version in frame["schema_version"].dropna().unique():
        if version != SCHEMA_VERSION:
            raise TableError(
                f"{path}: schema version {version}; this version of analysis reads "
                f"{SCHEMA_VERSION}. Upgrade fmscale, or re-export the runs"
            )


def _read_jsonl(path: Path) -> tuple[pd.DataFrame, tuple[str, ...]]:
    rows, torn = [], []
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except UnicodeDecodeError as error:
        raise TableError(f"{path}: not UTF-8 text ({error})") from error
    last = max((i for i, line in enumerate(lines) if line.strip()), default=-1)
    for i, line in enumerate(lines):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            # Only the last line can be torn by a writer that was killed.
            if i == last:
                torn.append(f"{path.name}: 1 line left out: the last line is torn ({error})")
                continue
            raise TableError(f"{path}, line {i + 1}: not valid JSON ({error})") from error
        if not isinstance(row, dict):
            raise TableError(f"{path}, line {i + 1}: expected a JSON object")
        rows.append(row)
    return pd.DataFrame(rows), tuple(torn)


def map_columns(
    data: RunTable | pd.DataFrame,
    columns: Mapping[str, str | None],
    derive: Mapping[str, str] | None = None,
    run_id: str | None = None,
) -> RunTable:
    """Add canonical columns (N, D, C, U, S, x, metric) beside the user's own.

    Args:
        columns: letter -> source column, or a formula of columns ("tokens / epochs",
            "1 - `top 1` / 100"); None entries are ignored.
        derive: letter -> rule, for example {"D": "6nd"}: D = C / (6 N).
        run_id: column that identifies a row; duplicates must then be identical.
    """
    table = as_table(data)
    frame = table.frame.copy()
    conventions: dict[str, str] = dict(table.conventions)
    for letter, name in columns.items():
        if name is None:
            continue
        source, formula = table.own(name), name not in table.given and COMPUTED.search(name)
        if formula:
            frame[name] = evaluate_column(table, name, f"--{letter.lower()}")
            table, source = table.with_frame(frame), name
        values = table.numbers(source)
        scale = 1.0 if formula or letter not in COUNTS else header_scale(name)
        suffixed = frame[source].map(has_suffix)
        if suffixed.any():
            plain = values[~suffixed.to_numpy() & ~np.isnan(values)]
            stated = header_scale(name) != 1 and len(plain)
            if stated or (letter != "metric" and (plain < SMALL_COUNT).any()):
                header = "the header states a unit, and so do" if stated else "a unit is stated by"
                raise TableError(
                    f"{name!r}: {header} some cells ({frame[source][suffixed].iloc[0]}), not by "
                    f"{plain.min():.12g}; write all of them in one way"
                )
            scale = 1.0
        percent = int(frame[source].map(is_percent).sum())
        if percent:
            table = table.warn(f"{name}: {percent} percentages, read as shares (50% = 0.5)")
        if scale != 1:
            table = table.warn(f"{letter} is {name!r} times {scale:g}, as its header states")
        if letter in frame and letter not in conventions and letter != name:
            frame[letter + OWN] = frame[letter]
            table = table.warn(
                f"the file has a column {letter} of its own: --where, --by and formulas mean that "
                f"one, not {name!r}, which the law knows as {letter}"
            )
        frame[letter] = scale * values
        conventions[letter] = name
        table = table.with_frame(frame)
    for letter, rule in (derive or {}).items():
        if rule not in DERIVATIONS:
            raise TableError(f"--{letter.lower()}-from {rule}: choose {', '.join(DERIVATIONS)}")
        if letter in conventions:
            raise TableError(
                f"{letter} is both a column ({conventions[letter]}) and derived ({rule})"
            )
        needed = {"D": ("C", "N"), "N": ("C", "D"), "C": ("N", "D")}[letter]
        for other in needed:
            if other not in conventions:
                raise TableError(f"{letter} from {rule} needs {' and '.join(needed)}: name them")
        a, b = frame[needed[0]].to_numpy(float), frame[needed[1]].to_numpy(float)
        k = DERIVATIONS[rule]
        with np.errstate(divide="ignore", invalid="ignore"):
            frame[letter] = k * a * b if letter == "C" else a / (k * b)
        product, ratio = f"{k:g} {needed[0]} {needed[1]}", f"{needed[0]} / ({k:g} {needed[1]})"
        conventions[letter] = product if letter == "C" else ratio
    if run_id is not None:
        if run_id not in table.given:
            raise TableError(f"column {run_id!r} (run id) is not in {table.source}")
        frame["run_id"] = frame[table.own(run_id)].astype(str)
    out = replace(table, frame=frame, conventions=conventions)
    return _identical_ids(out) if run_id is not None else out


def map_letters(
    data: RunTable | pd.DataFrame, columns: Mapping[str, str] | None
) -> tuple[RunTable, dict[str, str]]:
    """A table with the columns of `fit(columns=...)` mapped as the command line maps them.

    Returns:
        The table, and the column of each letter: another letter where that was mapped before.
    """
    table = as_table(data)
    known = {k: v for k, v in (columns or {}).items() if v in table.conventions}
    others = {k: v for k, v in (columns or {}).items() if k != v and k not in known}
    return map_columns(table, others), known


def warn_of_repeated_ids(table: RunTable) -> RunTable:
    """Count the rows of a column `run_id` that repeat an id, where nobody named that column."""
    if "run_id" not in table.frame:
        return table
    repeated = table.frame["run_id"].dropna().duplicated(keep="first")
    if not repeated.any():
        return table
    example = table.frame["run_id"].dropna()[repeated].iloc[0]
    return table.warn(
        f"run_id: {int(repeated.sum())} rows repeat an id ({example}): checkpoints of one run are "
        "fitted as such (--cluster), and a run listed twice counts once (--run-id run_id)"
    )


def _identical_ids(table: RunTable) -> RunTable:
    frame = table.frame
    repeated = frame["run_id"].duplicated(keep="first").to_numpy()
    if not repeated.any():
        return table
    whole = frame.astype(str).duplicated(keep="first").to_numpy()
    if (repeated & ~whole).any():
        at = int(np.flatnonzero(repeated & ~whole)[0])
        raise TableError(
            f"run id {frame['run_id'].iloc[at]!r} stands for different rows; ids must be unique "
            "(checkpoints of one run are told apart with --cluster instead)"
        )
    return table.keep(~repeated, "the same row twice")
