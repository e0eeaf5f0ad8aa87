"""Forecasts written down before the run, and scored after it.

A registered forecast is one file: the question, the rows it was made from (by hash), laws, weights,
interval, versions, time and commit. Its checksum tells an edit from the original; commit the file,
and the history tells the rest.
"""

from __future__ import annotations

import hashlib
import json
import math
import platform
import re
import subprocess
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from analysis import __version__
from analysis.json_values import finite
from analysis.outputs import write_text
from analysis.table import RunTable, TableError

FOLDER = Path("forecasts")
SCORES = "scores.jsonl"
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
SAME_RUN = 0.02  # a run is the one that was asked about if each of its sizes is this close


def register(
    name: str,
    question: Mapping[str, float],
    prediction: Mapping[str, Any],
    table: RunTable,
    folder: Path = FOLDER,
) -> Path:
    """Write a forecast down; a name is used once.

    Args:
        question: the planned run by letter: N and D, or C, or x.
        prediction: at least `predicted`, `low`, `high` and `level`, of a new run; whatever else
            says how it was made is kept.
        table: the rows it was made from, with mapped columns.

    Raises:
        TableError: for a name that is no file name, or is taken.
    """
    if not NAME.fullmatch(name):
        raise TableError(f"--register {name!r}: letters, digits, dot, dash and underscore")
    path = folder / f"{name}.json"
    if path.exists():
        raise TableError(f"{path} is there already: a forecast is registered once; take a new name")
    letters = [c for c in ("N", "D", "C", "U", "S", "x", "metric") if c in table.conventions]
    entry = finite(
        {
            "name": name,
            "question": {k: float(v) for k, v in question.items()},
            "metric": table.conventions.get("metric", "metric"),
            "prediction": dict(prediction),
            "table": {
                "source": str(table.source),
                "rows": len(table),
                "sha256": _rows_digest(table, letters),
            },
            "registered_at": datetime.now(UTC).isoformat(timespec="seconds"),
            "commit": _commit(),
            "versions": {"fmscale": __version__, "python": platform.python_version()},
        }
    )
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps({**entry, "sha256": _digest(entry)}, indent=1) + "\n"
    with path.open("x") as file:  # a name is never taken twice, not even by two at once
        file.write(text)
    return path


def load_registered(name: str, folder: Path = FOLDER) -> dict[str, Any]:
    """A registered forecast as it was written.

    Raises:
        TableError: if there is none of this name, or its file was edited afterwards.
    """
    path = folder / f"{name}.json"
    if not path.is_file():
        there = ", ".join(sorted(p.stem for p in folder.glob("*.json"))) or "none"
        raise TableError(f"no forecast {name!r} in {folder}; there are: {there}")
    try:
        entry = dict(json.loads(path.read_text()))
        written = entry.pop("sha256")
    except (ValueError, KeyError) as error:
        raise TableError(f"{path} is not a registered forecast ({error})") from error
    if _digest(entry) != written:
        raise TableError(
            f"{path} was edited after it was registered: its checksum does not match, so it cannot "
            "be scored; restore it (git checkout), or register a new forecast"
        )
    return entry


def score(name: str, table: RunTable, folder: Path = FOLDER) -> list[dict[str, Any]]:
    """Compare a registered forecast with each run that was then made, and keep the result.

    Args:
        table: runs with mapped columns, among them the one that was asked about.

    Returns:
        One row a run: value, hit, relative error and interval score on the logarithm of the metric
        (Gneiting & Raftery 2007, Eq. 43).

    Raises:
        TableError: if no run has the sizes that were asked about.
    """
    entry = load_registered(name, folder)
    question, prediction = entry["question"], entry["prediction"]
    distance = np.zeros(len(table))
    for letter, wanted in question.items():
        distance = np.maximum(distance, np.abs(table.numbers(letter) / wanted - 1))
    found = np.flatnonzero(distance <= SAME_RUN)
    asked = ", ".join(f"{k} = {v:.4g}" for k, v in question.items())
    if found.size == 0:
        nearest = f"; the nearest is {distance.min():.0%} away" if len(table) else ""
        raise TableError(f"no run of {asked} in {table.source}{nearest}")
    values = table.numbers("metric")
    rows = [
        {
            "name": name,
            "run": table.ids[i],
            "value": float(values[i]),
            "predicted": prediction["predicted"],
            "low": prediction["low"],
            "high": prediction["high"],
            "hit": bool(prediction["low"] <= values[i] <= prediction["high"]),
            "error": float(prediction["predicted"] / values[i] - 1),
            "interval_score": interval_score(
                float(values[i]), prediction["low"], prediction["high"], prediction["level"]
            ),
            "distance": prediction.get("distance"),
            "scored_at": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        for i in found
    ]
    _keep(rows, folder / SCORES)
    return rows


def interval_score(value: float, low: float, high: float, level: float) -> float:
    """Width of an interval in log units, and what it missed by times 2 / (1 - level)."""
    y, a, b = math.log(value), math.log(low), math.log(high)
    return b - a + 2 / (1 - level) * (max(a - y, 0.0) + max(y - b, 0.0))


def scores(folder: Path = FOLDER) -> list[dict[str, Any]]:
    """All scored forecasts, oldest first; a run scored twice keeps its first score."""
    path = folder / SCORES
    if not path.is_file():
        return []
    rows: dict[tuple[str, str], dict[str, Any]] = {}
    for line in path.read_text().splitlines():
        row = json.loads(line)
        rows.setdefault((row["name"], row["run"]), row)
    return list(rows.values())


def _keep(rows: list[dict[str, Any]], path: Path) -> None:
    known = {(row["name"], row["run"]) for row in scores(path.parent)}
    new = [row for row in rows if (row["name"], row["run"]) not in known]
    before = path.read_text() if path.is_file() else ""
    write_text(path, before + "".join(json.dumps(finite(row)) + "\n" for row in new))


def _digest(entry: Mapping[str, Any]) -> str:
    text = json.dumps(entry, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def _rows_digest(table: RunTable, letters: list[str]) -> str:
    """Hash of the fitted values, whatever the order of the rows."""
    columns = np.column_stack([table.numbers(letter) for letter in letters])
    lines = sorted(",".join(repr(float(v)) for v in row) for row in columns)
    return hashlib.sha256("\n".join([",".join(letters), *lines]).encode()).hexdigest()


def _commit() -> str | None:
    """Commit of the folder the command runs in; None outside of a repository."""
    try:
        done = subprocess.run(
            ["git", "rev-parse", "HEAD"], capture_output=True, text=True, timeout=10, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None
