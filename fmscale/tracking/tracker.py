"""Where metrics go besides the run store."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from fmscale.runs.store import RunFolder


@dataclass(frozen=True)
class RunInfo:
    """How a run introduces itself to an tracker."""

    run_id: str  # by which the tracker tells runs apart
    name: str  # the run's own id
    study: str
    job_type: str  # "run" or "trunk"
    unit: str  # tokens, samples or units: the default horizontal axis
    folder: Path  # the run's folder in the store
    tags: tuple[str, ...]
    config: dict[str, Any]

    @staticmethod
    def of(folder: RunFolder, config: dict[str, Any], place: Path) -> RunInfo:
        """The info of a finished run, for the study that it lies in.

        A run that another study trained is one of its own there, or it would leave the other's
        group.

        Args:
            place: for the tracker's own files.
        """
        record = folder.record()
        at_home = folder.trained_for() == folder.study
        return RunInfo(
            run_id=record.run_id if at_home else f"{record.run_id}-{folder.study}",
            name=record.run_id,
            study=folder.study,
            job_type="run",
            unit=record.counted,
            folder=place,
            tags=(folder.study, record.family, record.model),
            config=config,
        )


class Tracker(Protocol):
    """Receives what the run store receives; losing it loses nothing.

    One that may be out of reach has a method `reach()`, asked once before training: None if all is
    well, a sentence if something else takes its place, ConnectionError if nothing may.
    """

    def open(self, info: RunInfo) -> None:
        """Begin, or go on with, the run named `info.run_id`."""

    def log(self, row: dict[str, Any]) -> None:
        """One row of `metrics.jsonl`."""

    def summarize(self, values: dict[str, Any]) -> None:
        """Final values of the run."""

    def table(self, name: str, rows: list[dict[str, Any]]) -> None:
        """A table of `tables/` in the run folder; the same keys in each row."""

    def alert(self, title: str, text: str) -> None:
        """Something a person should look at."""

    def close(self, exit_code: int) -> None:
        """End the run: 0 for success, anything else for failure. Safe to call unopened."""


class NoTracker:
    """The run store only."""

    def _ignore(self, *arguments: Any, **named: Any) -> None:
        pass

    open = log = summarize = table = alert = close = _ignore
