"""Run folders: where they lie, what state they are in, which are complete.

Layout: `<runs_dir>/<study>/<run_id>/` with `config.yaml`, `record.json`, `metrics.jsonl`,
`status.json`, `traceback.txt`, `tables/` and `checkpoints/`; trunks lie in
`<runs_dir>/<study>/trunks/`.
"""

from __future__ import annotations

import dataclasses
import logging
import os
import platform
import re
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from fmscale.runs.files import (
    Broken,
    Foreign,
    allow,
    append_line,
    read_lines,
    read_sealed,
    write_atomically,
    write_lines,
    write_sealed,
)
from fmscale.runs.lock import STALE_SECONDS, RunLock, is_alive, one_at_a_time
from fmscale.runs.record import RunRecord
from fmscale.runs.secrets import redact

STATES = ("queued", "running", "completed", "diverged", "failed", "oom", "interrupted")
# How a file of a run or study that cannot be read is got rid of, by its name.
REMEDIES = {
    "record.json": "delete it, and the sweep's command measures the run again",
    "status.json": "delete it; it is written anew when the run resumes; a finished one needs none",
    "manifest.json": "delete it, and the sweep's command writes it again",
    "forecast.json": "delete it; it says only what was found while the run trained",
}

log = logging.getLogger(__name__)

NAME = r"[A-Za-z0-9_][A-Za-z0-9_.+-]*"  # of a folder in the store: never a path


def now() -> str:
    """Current time, UTC, ISO 8601 with seconds."""
    return datetime.now(UTC).isoformat(timespec="seconds")


@dataclass(frozen=True)
class RunFolder:
    """One folder of the store; every write is atomic or append-only."""

    path: Path
    # Raises if another process has taken the run: asked before each write, see `under`.
    verify: Callable[[], None] = field(default=allow, compare=False)

    def under(self, lock: RunLock) -> RunFolder:
        """This folder, not written to once `lock` is lost."""
        return RunFolder(self.path, lock.verify)

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
        """Make the folder, with its configuration; half-written files of killed processes go."""
        self.checkpoints.mkdir(parents=True, exist_ok=True)
        for debris in self.path.glob(".*"):
            if debris.is_file() and time.time() - debris.stat().st_mtime > STALE_SECONDS:
                debris.unlink(missing_ok=True)
        write_atomically(self.path / "config.yaml", config_yaml, self.verify)

    def set_status(
        self, state: str, *, step: int = 0, n_steps: int = 0, reason: str | None = None
    ) -> None:
        """Replace `status.json`.

        Args:
            state: one of `STATES`.
            step: optimizer steps done.
            n_steps: optimizer steps of the whole run.
            reason: one line for a person, for states other than completed.
        """
        assert state in STATES, state
        write_sealed(
            self.path / "status.json",
            {
                "run_id": self.run_id,
                "state": state,
                "step": step,
                "n_steps": n_steps,
                "reason": redact(reason) if reason is not None else None,
                "updated_at": now(),
                "pid": os.getpid(),
                "hostname": platform.node(),
            },
            self.verify,
        )

    def lock(self) -> RunLock:
        """The right to train this run; a context manager that raises `Held`."""
        return RunLock(self.path)

    def is_at_work(self) -> bool:
        """Whether a living process trains this run now."""
        return is_alive(self.path)

    def status(self) -> dict[str, Any] | None:
        """Content of `status.json`; None where no run has started, or if it is broken: a line says
        so, and the next status replaces it.
        """
        try:
            return read_own(self.path / "status.json", check_status)
        except FileNotFoundError:
            return None
        except Broken as error:
            log.warning("%s", error)
            return None

    def is_finished(self) -> bool:
        """True once a record exists: a completed run, or one that diverged."""
        return (self.path / "record.json").exists()

    def write_record(self, record: RunRecord) -> None:
        write_sealed(self.path / "record.json", record.to_dict(), self.verify)

    def update_record(self, change: Callable[[RunRecord], RunRecord]) -> RunRecord:
        """Read, change and replace the record; two processes do so one after the other."""
        with one_at_a_time(self.path):
            self.write_record(change(self._stored()))
            return self.record()

    def write_table(self, name: str, rows: Iterable[dict[str, Any]]) -> None:
        """Replace `tables/<name>.jsonl`."""
        check_name(name, "table")
        write_lines(self.path / "tables" / f"{name}.jsonl", rows, self.verify)

    def tables(self) -> dict[str, list[dict[str, Any]]]:
        """Rows of each `tables/<name>.jsonl`, by name."""
        return {p.stem: read_lines(p) for p in sorted((self.path / "tables").glob("*.jsonl"))}

    def record(self) -> RunRecord:
        """The record, under its folder's study; Broken, or Foreign of another release."""
        return dataclasses.replace(self._stored(), study=self.study)

    def trained_for(self) -> str:
        """The study that a finished run was trained for; others have taken it over from there."""
        return self._stored().study

    def _stored(self) -> RunRecord:
        return RunRecord.from_dict(read_own(self.path / "record.json", RunRecord.check))

    def write_traceback(self, text: str) -> None:
        write_atomically(self.path / "traceback.txt", redact(text), self.verify)

    def clear_traceback(self) -> None:
        (self.path / "traceback.txt").unlink(missing_ok=True)

    def append_metrics(self, row: dict[str, Any]) -> None:
        append_line(self.metrics_path, row, self.verify)

    def metrics(self) -> list[dict[str, Any]]:
        """Rows so far; malformed lines are left out with a warning."""
        rows = read_lines(self.metrics_path, lambda error: log.warning("%s", error))
        return [row for row in rows if isinstance(row.get("step"), int)]

    def reset_metrics(self, rows: Iterable[dict[str, Any]]) -> None:
        """Replace the metrics, e.g. to drop rows after the checkpoint a run resumes from."""
        write_lines(self.metrics_path, rows, self.verify)


@dataclass(frozen=True)
class Study:
    """All runs that answer one question: `<runs_dir>/<study>/`."""

    path: Path

    @staticmethod
    def open(runs_dir: str | Path, name: str) -> Study:
        """The study of a store; ValueError for a name that would leave the store."""
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
        """Runs that were asked for: run id -> what is planned for it; Broken if unreadable."""
        try:
            return read_own(self.manifest_path, check_manifest)
        except FileNotFoundError:
            return {}

    def extend_manifest(self, planned: dict[str, dict[str, Any]]) -> None:
        """Add runs to the manifest; earlier ones stay, also those of a sweep beside this one."""
        self.path.mkdir(parents=True, exist_ok=True)
        with one_at_a_time(self.path):
            write_sealed(self.manifest_path, {**self.manifest(), **planned})


def read_own(path: Path, check: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
    """A sealed file of a run or study.

    Raises:
        Broken: if it cannot be read, was altered, lacks something or belongs to another run.
        Foreign: if another release wrote it.
        FileNotFoundError: if it does not exist.
    """
    remedy = REMEDIES[path.name]
    content = read_sealed(path, remedy)
    try:
        check(content)
    except (KeyError, TypeError, AttributeError) as error:
        raise Broken(path, f"lacks what it should hold ({error})", remedy) from error
    except ValueError as error:
        raise Foreign(path, f"({error})", "read it with the release that wrote it") from error
    here = path.absolute().parent.name
    owner = content.get("run_id", here)
    if owner != here:
        raise Broken(path, f"belongs to run {owner}", remedy)
    return content


def check_status(status: dict[str, Any]) -> None:
    """Raise KeyError or TypeError for what is no status."""
    if status["state"] not in STATES:
        raise KeyError(f"a state, not {status['state']!r}")
    for name in ("step", "n_steps"):
        if not isinstance(status[name], int):
            raise TypeError(f"{name} = {status[name]!r}")
    if not isinstance(status["reason"], str | None):
        raise TypeError(f"reason = {status['reason']!r}")


def check_manifest(manifest: dict[str, Any]) -> None:
    """Raise TypeError for what is no manifest."""
    for run_id, entry in manifest.items():
        if not isinstance(entry, dict) or not re.fullmatch(NAME, run_id):
            raise TypeError(f"{run_id!r}: {entry!r}"[:80])


def check_name(name: str, what: str) -> None:
    """Refuse with a ValueError what is not one folder's name, and so could leave the store."""
    if not re.fullmatch(NAME, name):
        raise ValueError(
            f"{what}={name!r} is not a folder name; use letters, digits, '_', '-', '+' and '.'"
        )
