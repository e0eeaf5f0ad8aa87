"""Where metrics go besides the run store."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from fmscale.runs.store import RunFolder


@dataclass(frozen=True)
class RunInfo:
    """How a run introduces itself to a tracker."""

    run_id: str  # by which the tracker tells runs apart
    name: str  # the run's own id
    study: str
    job_type: str  # "run" or "trunk"
    unit: str  # tokens, samples or units: the default horizontal axis
    folder: Path  # for the tracker's own files
    tags: tuple[str, ...]
    config: dict[str, Any]

    @staticmethod
    def of(
        folder: RunFolder,
        config: dict[str, Any],
        family: str,
        model: str,
        unit: str,
        *,
        job_type: str = "run",
        place: Path | None = None,
    ) -> RunInfo:
        """The info of a run or trunk, for the study that it lies in.

        A run that another study trained is one of its own there, or it would leave the other's
        group.

        Args:
            unit: as `RunRecord.counted`.
            place: for the tracker's own files; None: the run's folder.
        """
        study = folder.path.absolute().parents[job_type == "trunk"].name
        at_home = not folder.is_finished() or folder.trained_for() == study
        return RunInfo(
            run_id=folder.run_id if at_home else f"{folder.run_id}-{study}",
            name=folder.run_id,
            study=study,
            job_type=job_type,
            unit=unit,
            folder=place or folder.path.resolve(),
            tags=(study, family, model),
            config=config,
        )


def exit_code(state: str) -> int:
    """What a tracker is told of a run's end: 0 if it was completed, 1 for all else."""
    return 0 if state == "completed" else 1


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
