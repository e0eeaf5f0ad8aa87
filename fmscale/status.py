"""Where a study stands: done, running, failed and missing runs, with the reason."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console, Group
from rich.live import Live
from rich.markup import escape
from rich.table import Table

from fmscale.forecast.reference import off_course
from fmscale.runs.store import RunFolder, Study, is_alive

EXAMPLE = """\
examples:
  fmscale status
  fmscale status gpt_demo
  fmscale status gpt_demo --failed
  fmscale status gpt_demo --watch
"""

GROUPS = ("done", "running", "failed", "missing")
COLORS = {"done": "green", "running": "cyan", "failed": "red", "missing": "yellow"}


@dataclass(frozen=True)
class RunState:
    """One run as a person asks for it."""

    run_id: str
    group: str  # one of GROUPS
    progress: str  # steps done of steps planned
    reason: str  # what happened, where it is not done


def state_of(folder: RunFolder, n_steps: int | None) -> RunState:
    """State of one run from its folder.

    Args:
        n_steps: steps planned in the manifest, if it is there.
    """
    status = folder.status()
    if status is None:
        return RunState(folder.run_id, "missing", f"0/{n_steps or '?'}", "not started")
    progress = f"{status['step']}/{status['n_steps'] or n_steps or '?'}"
    reason = status["reason"] or ""
    sentence = off_course(folder)
    course = f"off course: {sentence}" if sentence else ""
    if folder.is_finished():
        diverged = folder.record().status == "diverged"
        reason = f"diverged: {reason}" if diverged else course
        return RunState(folder.run_id, "done", progress, reason)
    match status["state"]:
        case "running" if is_alive(status):
            return RunState(folder.run_id, "running", progress, course or f"pid {status['pid']}")
        case "running":
            gone = "its process is gone; the same sweep command goes on with it"
            return RunState(folder.run_id, "missing", progress, gone)
        case "queued":
            return RunState(folder.run_id, "missing", progress, "queued")
        case "failed":
            return RunState(folder.run_id, "failed", progress, reason)
        case state:
            return RunState(folder.run_id, "missing", progress, f"{state} {reason}".strip())


def states(study: Study) -> list[RunState]:
    """Every run that was asked for or exists."""
    manifest = study.manifest()
    ids = sorted({*manifest, *(folder.run_id for folder in study.runs())})
    return [state_of(study.run(i), manifest.get(i, {}).get("n_steps")) for i in ids]


def main() -> None:
    """Entry point of `fmscale status`."""
    parser = argparse.ArgumentParser(
        prog="fmscale status",
        description=__doc__,
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("studies", nargs="*", help="names of studies; default: all in the store")
    parser.add_argument("--runs-dir", default=os.environ.get("FMSCALE_RUNS_DIR", "runs"))
    parser.add_argument("--failed", action="store_true", help="only failed runs")
    parser.add_argument(
        "--watch", nargs="?", type=float, const=2.0, metavar="SECONDS", help="again every 2 seconds"
    )
    options = parser.parse_args()
    console = Console()
    studies = _studies(Path(options.runs_dir), options.studies)
    if options.watch is None:
        console.print(overview(studies, options.failed))
        return
    try:
        watch(console, studies, options.failed, options.watch)
    except KeyboardInterrupt:
        return


def watch(console: Console, studies: list[Study], only_failed: bool, seconds: float) -> None:
    """Show the overview until every run is done or failed and nothing runs any more."""
    with Live(overview(studies, only_failed), console=console, auto_refresh=False) as live:
        while any(run.group == "running" for study in studies for run in states(study)):
            time.sleep(seconds)
            live.update(overview(studies, only_failed), refresh=True)


def overview(studies: list[Study], only_failed: bool) -> Group:
    """Counts and runs of some studies, to be printed."""
    parts: list[str | Table] = []
    for study in studies:
        parts += _study_parts(study, only_failed)
    return Group(*parts)


def _studies(runs_dir: Path, names: list[str]) -> list[Study]:
    if names:
        # `experiment=gpt_demo` reads naturally after `fmscale sweep experiment=gpt_demo`.
        studies = [Study.open(runs_dir, name.removeprefix("experiment=")) for name in names]
    else:
        folders = sorted(runs_dir.iterdir()) if runs_dir.exists() else []
        studies = [Study(folder) for folder in folders if (folder / "manifest.json").exists()]
    missing = [study.path.name for study in studies if not study.path.exists()]
    if missing or not studies:
        what = ", ".join(missing) or "any study"
        sys.exit(f"error: {runs_dir} does not hold {what}; launch one with fmscale sweep, or name "
                 "another store with --runs-dir")  # fmt: skip
    return studies


def _study_parts(study: Study, only_failed: bool) -> list[str | Table]:
    runs = states(study)
    counts = Counter(run.group for run in runs)
    numbers = [f"[{COLORS[group]}]{counts[group]} {group}[/]" for group in GROUPS]
    headline = f"[bold]{study.path.name}[/bold]: " + " · ".join(numbers)
    shown = [run for run in runs if not only_failed or run.group == "failed"]
    if not shown:
        return [headline]
    table = Table()
    for name in ("run", "state", "steps", "reason"):
        table.add_column(name, justify="right" if name == "steps" else "left", overflow="fold")
    for run in shown:
        state = f"[{COLORS[run.group]}]{run.group}[/]"
        table.add_row(run.run_id, state, run.progress, escape(run.reason))
    return [headline, table]


if __name__ == "__main__":
    main()
