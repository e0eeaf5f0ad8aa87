"""Upload finished runs of the store to Weights & Biases, also long after they were trained.

The store is the truth: a run is uploaded from its `record.json` and `metrics.jsonl`, so it does not
matter whether it logged to W&B while it trained. Each upload leaves a note in the run's folder; a
run that has not changed since is skipped, and one that has (evaluated again) goes to the same W&B
run, where its summary is replaced and rows that are there already are not repeated.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fmscale.runs import config_file
from fmscale.runs.files import Broken, read_sealed, write_sealed
from fmscale.runs.store import RunFolder, Study, now
from fmscale.tracking.tracker import RunInfo, Tracker, exit_code

NOTE = "wandb_push.json"


@dataclass(frozen=True)
class Pushed:
    """What happened to the runs of a study."""

    uploaded: tuple[str, ...]  # run ids
    unchanged: tuple[str, ...]  # uploaded before, not changed since
    unfinished: tuple[str, ...]  # no record yet
    broken: tuple[str, ...]  # why each that cannot be read was left out


def push_study(
    study: Study,
    tracker: Tracker,
    destination: str,
    *,
    report: Callable[[str], None] = lambda run_id: None,
) -> Pushed:
    """Upload what is new or changed.

    Args:
        tracker: receives one run after the other.
        destination: "entity/project"; a run pushed to one place is new at another.
        report: told the id of each run that has been dealt with.
    """
    uploaded, unchanged, unfinished, broken = [], [], [], []
    for folder in study.runs():
        try:
            if not folder.is_finished():
                unfinished.append(folder.run_id)
            elif is_pushed(folder, destination):
                unchanged.append(folder.run_id)
            else:
                _push(folder, tracker, destination)
                uploaded.append(folder.run_id)
        except Broken as error:
            broken.append(str(error))
        report(folder.run_id)
    return Pushed(tuple(uploaded), tuple(unchanged), tuple(unfinished), tuple(broken))


def _push(folder: RunFolder, tracker: Tracker, destination: str) -> None:
    notes, config = _notes(folder), config_file.read(folder.path / "config.yaml")
    skip = notes.get(destination, {"n_rows": 0})["n_rows"]
    with tempfile.TemporaryDirectory() as scratch:  # W&B's own files do not belong into the store
        n_rows = send_run(folder, tracker, config, place=Path(scratch), skip=skip)
    note = {"digest": digest(folder), "n_rows": n_rows, "pushed_at": now()}
    write_sealed(folder.path / NOTE, {**notes, destination: note})


def send_run(
    folder: RunFolder,
    tracker: Tracker,
    config: dict[str, Any],
    *,
    place: Path | None = None,
    skip: int = 0,
    tables: bool = False,
) -> int:
    """Send one finished run: configuration, every logged row, and its record as the summary.

    Args:
        place: for the tracker's own files; None: the run's folder.
        skip: rows that are there already; W&B would store them a second time.
        tables: send the tables of its evaluations, too.

    Returns:
        Rows that are there now.
    """
    record, rows = folder.record(), folder.metrics()
    about = (record.family, record.model, record.counted)
    state = "failed"  # unless all of it arrives
    try:
        tracker.open(RunInfo.of(folder, config, *about, place=place))
        for row in rows[skip:]:
            tracker.log(row)
        for name, content in folder.tables().items() if tables else ():
            tracker.table(name, content)
        tracker.summarize(record.flat())
        state = record.status
    finally:
        tracker.close(exit_code(state))
    return len(rows)


def digest(folder: RunFolder) -> str:
    """Changes when a run's record or metrics do."""
    content = (folder.path / "record.json").read_bytes()
    if folder.metrics_path.exists():
        content += folder.metrics_path.read_bytes()
    return hashlib.sha256(content).hexdigest()


def is_pushed(folder: RunFolder, destination: str) -> bool:
    """Whether this very content has been uploaded to `destination`."""
    note = _notes(folder).get(destination)
    return note is not None and note["digest"] == digest(folder)


def _notes(folder: RunFolder) -> dict[str, Any]:
    path = folder.path / NOTE
    try:
        return read_sealed(path, "delete it; the run is uploaded anew")
    except FileNotFoundError:
        return {}
