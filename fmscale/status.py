"""Where a study stands: done, running, failed and missing runs, with the reason."""

from __future__ import annotations

import argparse
import os
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from fmscale.runs.store import RunFolder, Study, is_alive

EXAMPLE = """\
examples:
  fmscale status
  fmscale status gpt_demo
  fmscale status gpt_demo --failed
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
    if folder.is_finished():
        diverged = folder.record().status == "diverged"
        return RunState(folder.run_id, "done", progress, f"diverged: {reason}" if diverged else "")
    match status["state"]:
        case "running" if is_alive(status):
            return RunState(folder.run_id, "running", progress, f"pid {status['pid']}")
        case "running":
            gone = "its process is gone; the same sweep command goes on with it"
            return RunState(folder.run_id, "missing", progress, gone)
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
    options = parser.parse_args()
    console = Console()
    for study in _studies(Path(options.runs_dir), options.studies):
        _print_study(console, study, only_failed=options.failed)


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


def _print_study(console: Console, study: Study, only_failed: bool) -> None:
    runs = states(study)
    counts = Counter(run.group for run in runs)
    parts = [f"[{COLORS[group]}]{counts[group]} {group}[/]" for group in GROUPS]
    console.print(f"[bold]{study.path.name}[/bold]: " + " · ".join(parts))
    shown = [run for run in runs if not only_failed or run.group == "failed"]
    if not shown:
        return
    table = Table()
    for name in ("run", "state", "steps", "reason"):
        table.add_column(name, justify="right" if name == "steps" else "left", overflow="fold")
    for run in shown:
        table.add_row(run.run_id, f"[{COLORS[run.group]}]{run.group}[/]", run.progress, run.reason)
    console.print(table)


if __name__ == "__main__":
    main()
