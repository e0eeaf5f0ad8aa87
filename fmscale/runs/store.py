"""Run folders: where they lie, what state they are in, which are complete.

Layout: `<runs_dir>/<study>/<run_id>/` with `config.yaml`, `record.json`, `metrics.jsonl`,
`status.json`, `traceback.txt`, `tables/` and `checkpoints/`; trunks lie in
`<runs_dir>/<study>/trunks/`.
"""

from __future__ import annotations

import dataclasses
import os
import platform
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from fmscale.runs.files import (
    append_line,
    read_json,
    read_lines,
    write_atomically,
    write_json,
    write_lines,
)
from fmscale.runs.lock import RunLock, is_alive, one_at_a_time
from fmscale.runs.record import RunRecord
from fmscale.runs.secrets import redact

STATES = ("queued", "running", "completed", "diverged", "failed", "oom", "interrupted")
NAME = r"[A-Za-z0-9_][A-Za-z0-9_.+-]*"  # of a folder in the store: never a path


def now() -> str:
    """Current time, UTC, ISO 8601 with seconds."""
    return datetime.now(UTC).isoformat(timespec="seconds")


@dataclass(frozen=True)
class RunFolder:
    """One folder of the store; every write is atomic or append-only."""

    path: Path

    @property
    def run_id(self) -> str:
        return self.path.name

    @property
    def study(self) -> str:
        """The study that the run belongs to: the folder it lies in."""
        return self.path.absolute().parent.name

    @property
    def metrics_path(self) -> Path:
        return self.path / "metrics.jsonl"

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    def create(self, config_yaml: str) -> None:
        """Make the folder and store the resolved configuration in it."""
        self.checkpoints.mkdir(parents=True, exist_ok=True)
        write_atomically(self.path / "config.yaml", config_yaml)

    def set_status(
        self, state: str, *, step: int = 0, n_steps: int = 0, reason: str | None = None
    ) -> None:
        """Replace `status.json`.

        Args:
            state: one of `STATES`.
            step: optimiser steps done.
            n_steps: optimiser steps of the whole run.
            reason: one line for a person, for states other than completed.
        """
        assert state in STATES, state
        write_json(
            self.path / "status.json",
            {
                "state": state,
                "step": step,
                "n_steps": n_steps,
                "reason": redact(reason) if reason is not None else None,
                "updated_at": now(),
                "pid": os.getpid(),
                "hostname": platform.node(),
            },
        )

    def lock(self) -> RunLock:
        """The right to train this run; a context manager that raises `Held`."""
        return RunLock(self.path)

    def is_at_work(self) -> bool:
        """Whether a living process trains this run now."""
        return is_alive(self.path)

    def status(self) -> dict[str, Any] | None:
        """Content of `status.json`, or None where no run has started."""
        path = self.path / "status.json"
        return read_json(path) if path.exists() else None

    def is_finished(self) -> bool:
        """True once a record exists: a completed run, or one that diverged."""
        return (self.path / "record.json").exists()

    def write_record(self, record: RunRecord) -> None:
        write_json(self.path / "record.json", record.to_dict())

    def update_record(self, change: Callable[[RunRecord], RunRecord]) -> RunRecord:
        """Read, change and replace the record; two processes do so one after the other."""
        with one_at_a_time(self.path):
            self.write_record(change(self._stored()))
            return self.record()

    def write_table(self, name: str, rows: Iterable[dict[str, Any]]) -> None:
        """Replace `tables/<name>.jsonl`."""
        check_name(name, "table")
        write_lines(self.path / "tables" / f"{name}.jsonl", rows)

    def tables(self) -> dict[str, list[dict[str, Any]]]:
        """Rows of each `tables/<name>.jsonl`, by name."""
        return {p.stem: read_lines(p) for p in sorted((self.path / "tables").glob("*.jsonl"))}

    def record(self) -> RunRecord:
        """The record, under the name of the study that the run lies in."""
        return dataclasses.replace(self._stored(), study=self.study)

    def trained_for(self) -> str:
        """The study that a finished run was trained for; others have taken it over from there."""
        return self._stored().study

    def _stored(self) -> RunRecord:
        return RunRecord.from_dict(read_json(self.path / "record.json"))

    def write_traceback(self, text: str) -> None:
        write_atomically(self.path / "traceback.txt", redact(text))

    def clear_traceback(self) -> None:
        (self.path / "traceback.txt").unlink(missing_ok=True)

    def append_metrics(self, row: dict[str, Any]) -> None:
        append_line(self.metrics_path, row)

    def metrics(self) -> list[dict[str, Any]]:
        return read_lines(self.metrics_path)

    def reset_metrics(self, rows: Iterable[dict[str, Any]]) -> None:
        """Replace the metrics, e.g. to drop rows after the checkpoint a run resumes from."""
        write_lines(self.metrics_path, rows)


@dataclass(frozen=True)
class Study:
    """All runs that answer one question: `<runs_dir>/<study>/`."""

    path: Path

    @staticmethod
    def open(runs_dir: str | Path, name: str) -> Study:
        """Refuse names that would leave the store.

        Raises:
            ValueError: if `name` is not a plain folder name.
        """
        check_name(name, "study")
        return Study(Path(runs_dir) / name)

    @property
    def manifest_path(self) -> Path:
        return self.path / "manifest.json"

    def run(self, run_id: str) -> RunFolder:
        """Folder of one run; ValueError for a name that would leave the study."""
        check_name(run_id, "run")
        return RunFolder(self.path / run_id)

    def trunk(self, trunk_id: str) -> RunFolder:
        """Folder of one trunk; ValueError for a name that would leave the study."""
        check_name(trunk_id, "trunk")
        return RunFolder(self.path / "trunks" / trunk_id)

    def runs(self) -> Iterator[RunFolder]:
        """Every run folder, by id."""
        if not self.path.exists():
            return
        for folder in sorted(self.path.iterdir()):
            if (folder / "config.yaml").exists():
                yield RunFolder(folder)

    def manifest(self) -> dict[str, dict[str, Any]]:
        """Runs that were asked for: run id -> what is planned for it."""
        return read_json(self.manifest_path) if self.manifest_path.exists() else {}

    def extend_manifest(self, planned: dict[str, dict[str, Any]]) -> None:
        """Add runs to the manifest; earlier ones stay, also those of a sweep beside this one."""
        self.path.mkdir(parents=True, exist_ok=True)
        with one_at_a_time(self.path):
            write_json(self.manifest_path, {**self.manifest(), **planned})


def check_name(name: str, what: str) -> None:
    """Refuse what is not the name of one folder, and so could leave the store.

    Raises:
        ValueError: naming it.
    """
    if not re.fullmatch(NAME, name):
        raise ValueError(
            f"{what}={name!r} is not a folder name; use letters, digits, '_', '-', '+' and '.'"
        )
