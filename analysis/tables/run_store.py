"""Run-store folders -> one table.

The two packages meet on disk only, so the column names of a run record are written here a second
time. A record is one JSON object; a run without one is listed with its status, never skipped
silently: sweeps that lose their diverged runs report survivors (Li et al. 2025).
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pandas as pd

from analysis.tables.hyperparameters import differing
from analysis.tables.steps import AVERAGED, read_steps
from analysis.tables.table import Dropped, RunTable, TableError

SCHEMA_VERSION = 1
# Nested parts of a record that are kept whole (provenance), not spread into columns.
NESTED = (
    "hyperparameters", "data", "environment", "git", "n_params_by_group", "units", "evaluations",
    "family_metrics",
)  # fmt: skip
CHECKSUM = "checksum"  # key of an object that says which one was written
BROKEN = "broken:"
REMEDY = "delete it, and the sweep's command measures the run again"
OF_A_COPY = ("study", "units", "evaluations")  # differ between copies of a run in several studies
REQUIRED = ("run_id", "study", "family", "status")
THREADS = 8  # no faster on a local disk (0.1 ms a run), much so on a network one


def is_store(path: Path) -> bool:
    """True for a folder that holds run folders."""
    return path.is_dir() and any(map(_is_run, _children(path)))


def load_runs(studies: str | Path | Sequence[str | Path]) -> RunTable:
    """All runs of one or more study folders, one row each.

    Args:
        studies: folders runs/<study> (each child with a record.json is a run), or their parent.

    Returns:
        Columns of the records, the metrics by name, and keys of the configuration in which the
        runs differ, as `model.dropout`. Runs that left no record are accounted for with the state
        and reason of their status.json.
    """
    folders = [Path(p) for p in ([studies] if isinstance(studies, (str, Path)) else studies)]
    runs: list[str] = []
    for folder in folders:
        if not folder.is_dir():
            raise TableError(f"{folder}: no such folder; a study is a folder of run folders")
        found = _run_folders(folder)
        if not found:  # perhaps the parent of several studies
            found = [run for child in _children(folder) for run in _run_folders(Path(child))]
        if not found:
            raise TableError(f"{folder}: no run folder (with record.json or status.json) inside")
        runs.extend(found)
    with ThreadPoolExecutor(THREADS) as pool:
        answers = list(pool.map(_read_run, runs, chunksize=64))
    rows = [record for record, _ in answers if record is not None]
    for row, own in zip(rows, differing(rows), strict=True):
        row |= {key: value for key, value in own.items() if key not in row}
    missing: dict[str, list[str]] = {}
    for path, (record, problem) in zip(runs, answers, strict=True):
        if record is None:
            missing.setdefault(problem, []).append(os.path.basename(path))
    dropped = tuple(Dropped(reason, tuple(names)) for reason, names in missing.items())
    source = ", ".join(str(f) for f in folders)
    table = RunTable(pd.DataFrame(rows), dropped, source=source)
    return _drop_duplicates(table) if rows else table


def load_curves(study: str | Path, metric: str = "train_loss") -> RunTable:
    """Training curves of a study: one row for each logged step of each trunk.

    Long curves come in fewer rows, each the mean of as many steps as `n_averaged` says.

    A trunk runs at constant learning rate; runs without one (a cosine schedule) give their own
    curve.

    Returns:
        The columns of the trunk's longest run (sizes, seed, ...) with `n_seen` (tokens or samples
        read so far), `flops`, the metric and `trunk_id` of the step.

    Raises:
        TableError: if no run logged the metric.
    """
    folder = Path(study)
    runs = load_runs(folder)
    if not len(runs):
        raise TableError(f"{folder}: no finished run. {runs.account()}")
    curves: list[pd.DataFrame] = []
    silent: dict[str, list[str]] = {}
    for trunk, group in runs.frame.groupby("trunk_id" if "trunk_id" in runs.frame else "run_id"):
        longest = group.sort_values("n_steps").iloc[-1]
        paths = (folder / "trunks" / str(trunk), folder / str(longest["run_id"]))
        path = next((p / "metrics.jsonl" for p in paths if (p / "metrics.jsonl").is_file()), None)
        reason = f"no step logged {metric}"
        try:
            steps = read_steps(path, metric) if path else ()
        except (TableError, OSError) as error:
            reason, steps = f"broken: {error}", ()
        if not len(steps):
            silent.setdefault(reason, []).append(str(trunk))
            continue
        curve = pd.DataFrame(steps, columns=["flops", "n_seen", metric, AVERAGED])
        shared = {str(k): v for k, v in longest.items() if str(k).startswith(("n_params", "model"))}
        curves.append(curve.assign(**shared, trunk_id=str(trunk)))
    dropped = tuple(Dropped(reason, tuple(names)) for reason, names in silent.items())
    if not curves:
        raise TableError(f"{folder}: no run logged {metric}. {'; '.join(map(str, dropped))}")
    table = pd.concat(curves, ignore_index=True)
    return RunTable(table, (*runs.dropped, *dropped), source=str(folder))


def _children(folder: Path) -> list[str]:
    with os.scandir(folder) as entries:
        return sorted(e.path for e in entries if e.is_dir() and e.name != "trunks")


def _run_folders(folder: Path) -> list[str]:
    return [path for path in _children(folder) if _is_run(path)]


def _is_run(path: str) -> bool:
    return os.path.exists(f"{path}/record.json") or os.path.exists(f"{path}/status.json")


def _read_run(path: str) -> tuple[dict[str, Any] | None, str]:
    """One run folder -> (flat record, "") or (None, why there is none)."""
    try:
        record = _read_sealed(f"{path}/record.json")
    except FileNotFoundError:
        return None, _status_reason(path)
    except ValueError as error:
        return None, f"{BROKEN} record.json {error}; {REMEDY}"
    version = record.get("schema_version")
    if version != SCHEMA_VERSION:
        problem = f"has schema version {version!r}, this version of analysis reads {SCHEMA_VERSION}"
        return None, f"{BROKEN} record.json {problem}; read it with the release that wrote it"
    absent = [name for name in REQUIRED if name not in record]
    if absent:
        return None, f"{BROKEN} record.json lacks {', '.join(absent)}; {REMEDY}"
    wrong = [name for name in REQUIRED if not isinstance(record[name], str)]
    if wrong:
        return None, f"{BROKEN} record.json: {', '.join(wrong)} should be text; {REMEDY}"
    metrics = record.get("metrics", {})
    if not isinstance(metrics, dict) or any(isinstance(v, (dict, list)) for v in metrics.values()):
        return None, f"{BROKEN} record.json: metrics should be numbers; {REMEDY}"
    # Runs taken over from another study are stored under its name and belong to this one.
    record["study"] = os.path.basename(os.path.dirname(os.path.abspath(path)))
    return flatten(record), ""


def flatten(record: dict[str, Any]) -> dict[str, Any]:
    """Metrics become columns; provenance stays nested, but for the tokenizer and the precision."""
    row = {k: v for k, v in record.items() if k != "metrics"}
    for name, value in record.get("metrics", {}).items():
        row.setdefault(name, value)
    data = record.get("data")
    if isinstance(data, dict) and "tokenizer" in data:
        told = data["tokenizer"]
        text = told if isinstance(told, str) else json.dumps(told, sort_keys=True)
        row.setdefault("tokenizer", text)
    environment = record.get("environment")
    if isinstance(environment, dict) and "precision" in environment:
        row.setdefault("precision", environment["precision"])
    return row


def _status_reason(path: str) -> str:
    try:
        status = _read_sealed(f"{path}/status.json")
    except FileNotFoundError:
        return "no record.json and no status.json"
    except ValueError as error:
        return f"no record.json, and {BROKEN} status.json {error}; fmscale status says more"
    state = status.get("state", "unknown")
    reason = status.get("reason")
    text = f"no record yet: {state}" + (f" ({reason})" if reason else "")
    return "".join(c if c.isprintable() else "?" for c in text)  # no orders for the terminal


def _read_sealed(path: str) -> dict[str, Any]:
    """A JSON object without its checksum, which older ones do not state.

    Raises:
        ValueError: if there is no object, or another than was written.
    """
    with open(path, "rb") as file:
        text = file.read()
    if not text.strip():
        raise ValueError("is empty")
    try:
        row = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"is not valid JSON ({error})") from error
    if not isinstance(row, dict):
        raise ValueError("is not a JSON object")
    stated = row.pop(CHECKSUM, None)
    # The same rule as in `fmscale.runs.files`.
    found = hashlib.sha256(json.dumps(row, sort_keys=True).encode()).hexdigest()[:16]
    if stated not in (None, found):
        raise ValueError("was altered (its checksum differs)")
    return row


def _drop_duplicates(table: RunTable) -> RunTable:
    """One row for each run: a study may hold a copy of another's, on which less was measured."""
    frame = table.frame
    repeated = frame["run_id"].duplicated(keep=False)
    if not repeated.any():
        return table
    kept = list(frame.index[~repeated])
    for run_id, copies in frame[repeated].groupby("run_id"):
        own = copies.drop(columns=[name for name in OF_A_COPY if name in copies])
        texts = own.map(lambda cell: json.dumps(cell, sort_keys=True, default=str))
        differ = [str(name) for name in own if texts[name][own[name].notna()].nunique() > 1]
        if differ:
            raise TableError(
                f"run id {run_id!r} stands for {len(copies)} different records (they differ in "
                f"{', '.join(differ[:5])}); ids must be unique. Pass only one of the folders, or "
                "remove the stale copy"
            )
        kept.append(own.notna().sum(axis=1).idxmax())
    return table.keep(frame.index.isin(kept), "the same run twice (identical records)")
