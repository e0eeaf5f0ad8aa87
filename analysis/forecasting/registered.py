"""Forecasts written down before the run, and scored after it.

A registered forecast is one file: the question, the rows it was made from (by hash), laws, weights,
interval, versions, time and commit. Its checksum tells an edit from the original; commit the file,
and the history tells the rest.
"""

from __future__ import annotations

import hashlib
import json
import platform
import re
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from analysis.forecasting.answer import interval_score
from analysis.forecasting.decision import decimals, told
from analysis.json_values import finite
from analysis.outputs import write_text
from analysis.tables.filters import positive_values
from analysis.tables.table import RunTable, TableError
from analysis.versions import __version__

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
    except (ValueError, TypeError, KeyError) as error:
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
    table = positive_values(table, ["metric"], "metric")
    distance = _away(question, table)
    found = np.flatnonzero(distance <= SAME_RUN)
    if found.size == 0:
        nearest = f"; the nearest is {distance.min():.0%} away" if len(table) else ""
        raise TableError(f"no run of {asked_text(question)} in {table.source}{nearest}")
    values = table.numbers("metric")
    now = datetime.now(UTC).isoformat(timespec="seconds")
    rows = [
        {"name": name, "run": table.ids[i], **outcome(prediction, float(values[i])),
         "scored_at": now}
        for i in found
    ]  # fmt: skip
    _keep(rows, folder / SCORES)
    return rows


def _away(question: Mapping[str, float], table: RunTable) -> NDArray[np.float64]:
    """How far each run lies from the one that was asked about, relative (n,)."""
    distance = np.zeros(len(table))
    for letter, wanted in question.items():
        distance = np.maximum(distance, np.abs(table.numbers(letter) / wanted - 1))
    return distance


def outcome(prediction: Mapping[str, Any], value: float) -> dict[str, Any]:
    """How a measured value compares with what was forecast."""
    low, high = prediction["low"], prediction["high"]
    return {
        "value": value, "predicted": prediction["predicted"], "low": low, "high": high,
        "hit": bool(low <= value <= high), "error": float(prediction["predicted"] / value - 1),
        "interval_score": interval_score(value, low, high, prediction["level"]),
        "distance": prediction.get("distance"),
    }  # fmt: skip


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


@dataclass(frozen=True)
class Registered:
    """A registered forecast and how the runs that were then made came out."""

    name: str
    source: str  # of the table it was made from; "" where there is a fault
    entry: dict[str, Any] | None  # as it was written; None: `fault` says why it cannot be had
    outcomes: tuple[dict[str, Any], ...]  # one a scored run, computed anew from the file
    fault: str = ""

    def concerns(self, table: RunTable) -> bool:
        """Whether it was made from a study's runs, or scored by one of them; a fault always."""
        ours = Path(self.source).name == Path(table.source).name
        return bool(self.fault) or ours or any(o["run"] in table.ids for o in self.outcomes)

    def may_be_scored(self, table: RunTable) -> bool:
        """Whether it is open, and a study has the run it is about."""
        if self.entry is None or self.outcomes:
            return False
        question = self.entry["question"]
        known = set(question) <= set(table.frame)
        return known and bool((_away(question, table) <= SAME_RUN).any())

    def question(self) -> str:
        """Which run was forecast, what of it, and when."""
        assert self.entry is not None
        return (
            f"{self.entry['metric']} of {asked_text(self.entry['question'])}: "
            f"{told(self.entry['prediction'])}, registered {self.entry['registered_at'][:10]}"
        )

    def rows(self) -> list[dict[str, str]]:
        """Short texts for a table, one row a scored run; of an open forecast one row."""
        if self.entry is None:
            return []
        said = {
            "forecast": self.name,
            "registered": self.entry["registered_at"][:10],
            "question": f"{self.entry['metric']} of {asked_text(self.entry['question'])}",
            "interval": told(self.entry["prediction"]),
        }
        found = [outcome_texts(one) for one in self.outcomes]
        return [said | one for one in found or [dict.fromkeys(OUTCOME, "-") | {"outcome": "open"}]]


OUTCOME = ("run", "outcome", "value", "error", "interval score", "distance")


def outcome_texts(row: Mapping[str, Any]) -> dict[str, str]:
    """The words in which every screen and page says how a forecast came out."""
    distance = row.get("distance")
    texts = (
        row["run"],
        "hit" if row["hit"] else "miss",
        f"{row['value']:.{decimals(row['low'], row['high'])}f}",
        f"{row['error']:+.1%}",
        f"{row['interval_score']:.3g}",
        "-" if distance is None else f"{distance:.3g}",
    )
    return dict(zip(OUTCOME, texts, strict=True))


def registered(folder: Path = FOLDER) -> list[Registered]:
    """Every forecast of a folder, oldest first; files that were edited or broken among them."""
    out = []
    scored = scores(folder)
    for path in sorted(folder.glob("*.json")):
        name = path.stem
        try:
            entry = load_registered(name, folder)
        except TableError as error:
            out.append(Registered(name, "", None, (), str(error)))
            continue
        found = [
            {"run": row["run"], **outcome(entry["prediction"], row["value"])}
            for row in scored
            if row["name"] == name
        ]
        out.append(Registered(name, entry["table"]["source"], entry, tuple(found)))
    return sorted(out, key=lambda one: one.entry["registered_at"] if one.entry else "")


def tally(forecasts: Sequence[Registered]) -> str:
    """How many scored runs lie in their intervals."""
    hits = [found["hit"] for one in forecasts for found in one.outcomes]
    if not hits:
        return "no registered forecast is scored yet (fmscale-analysis score NAME STUDY)"
    return f"{sum(hits)} of {len(hits)} scored runs lie in the interval that was registered"


def asked_text(question: Mapping[str, float]) -> str:
    return ", ".join(f"{k} = {v:.4g}" for k, v in question.items())


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
