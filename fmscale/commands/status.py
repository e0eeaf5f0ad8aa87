"""Where a study stands: done, running, failed and missing runs, with the reason."""

from __future__ import annotations

import dataclasses
import itertools
import sys
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.markup import escape
from rich.table import Table

from fmscale.commands.arguments import make_parser
from fmscale.errors import ConfigError, config_errors_exit
from fmscale.forecast.reference import FORECAST, check_forecast
from fmscale.runs import config_file
from fmscale.runs.files import Broken, printable
from fmscale.runs.hyperparameters import differing, headed
from fmscale.runs.index import Index, outcomes
from fmscale.runs.lock import holder_of
from fmscale.runs.store import RunFolder, Study, check_status

EXAMPLE = """\
examples:
  fmscale status
  fmscale status gpt_demo
  fmscale status gpt_demo --failed
  fmscale status gpt_demo --watch
"""

GROUPS = ("done", "running", "failed", "missing", "broken")
COLORS = {
    "done": "green", "running": "cyan", "failed": "red", "missing": "yellow", "broken": "red"
}  # fmt: skip
MAX_ROWS = 60  # in a table, unless all are asked for
QUIET_LOOKS = 5  # in a row with nothing at work end a watch: between two tasks there is a moment


@dataclass(frozen=True)
class RunState:
    """One run as a person asks for it."""

    run_id: str
    group: str  # one of GROUPS
    progress: str  # steps done of steps planned
    reason: str  # what happened, where it is not done


def state_of(
    folder: RunFolder,
    status: dict[str, Any] | None,
    n_steps: int | None,
    record: dict[str, Any] | None,
    flag: str | None = None,
) -> RunState:
    """State of one run.

    Args:
        status: content of its `status.json`, if it has one.
        n_steps: steps planned in the manifest, if it is there.
        record: its `status` and `n_steps`, if it has one.
        flag: what was said of it if it was found off course.
    """
    if status is None and record is not None:
        n_steps = record["n_steps"] or n_steps
        status = {"state": record["status"], "step": n_steps, "n_steps": n_steps, "reason": None}
    if status is None:
        return RunState(folder.run_id, "missing", f"0/{n_steps or '?'}", "not started")
    progress = f"{status['step']}/{status['n_steps'] or n_steps or '?'}"
    reason = printable(status["reason"] or "")
    state = status["state"]
    course = f"off course: {printable(flag)}" if flag else ""
    if record is not None:
        state = record["status"]  # it may have been killed after it had written its record
        note = f"diverged: {reason}".removesuffix(": ") if state == "diverged" else course
        return RunState(folder.run_id, "done", progress, note)
    if state == "running" and folder.is_at_work():
        return RunState(folder.run_id, "running", progress, course or str(holder_of(folder.path)))
    group, why = {
        "running": ("missing", "its process is gone; the same sweep command resumes it"),
        "queued": ("missing", "queued"),
        "failed": ("failed", reason),
        "oom": ("failed", f"out of memory: {reason}"),
    }.get(state, ("missing", f"{state}: {reason}"))
    return RunState(folder.run_id, group, progress, why)


class StudyView:
    """The states of a study's runs, again and again: only what has changed is read again."""

    def __init__(self, study: Study) -> None:
        self.study = study
        self._configs: dict[str, dict[str, Any]] = {}  # by run, of those that were shown
        self._statuses = Index(study.path, "status.json", check_status)
        self._forecasts = Index(study.path, FORECAST, check_forecast, keep=("sentence",))
        self._records = outcomes(study)
        self.problems: list[str] = []  # a line for each file that cannot be read

    def states(self) -> list[RunState]:
        """Every run that was asked for or exists, by id; a run with a broken file is broken."""
        self.problems = []
        try:
            manifest = self.study.manifest()
        except Broken as error:
            manifest, self.problems = {}, [str(error)]
        found, records = self._statuses.read(), self._records.read()
        flags = {run_id: it["sentence"] for run_id, it in self._forecasts.read().items()}
        broken = {
            **self._forecasts.broken, **self._statuses.broken, **self._records.broken
        }  # fmt: skip
        states = []
        for run_id in sorted({*manifest, *found, *records, *broken}):
            folder = RunFolder(self.study.path / run_id)
            n_steps = manifest.get(run_id, {}).get("n_steps")
            state = state_of(
                folder, found.get(run_id), n_steps, records.get(run_id), flags.get(run_id)
            )
            if (found_broken := broken.get(run_id)) is not None:
                reason = f"{found_broken.path.name} {found_broken.problem}"
                state = dataclasses.replace(state, group="broken", reason=reason)
                self.problems.append(str(found_broken))
            states.append(state)
        return states

    def differences(self, run_ids: Sequence[str]) -> dict[str, list[str]]:
        """Columns of what some runs differ in, by heading; a cell for each run."""
        for run_id in run_ids:
            path = self.study.path / run_id / "config.yaml"
            if run_id not in self._configs and path.exists():
                try:
                    self._configs[run_id] = config_file.read(path)
                except Broken as error:
                    self.problems.append(str(error))
        configs = [self._configs.get(run_id, {}) for run_id in run_ids]
        # An id begins with the name of the model.
        return headed(differing(configs), [run_id.partition("-")[0] for run_id in run_ids])


def main() -> None:
    """Entry point of `fmscale status`."""
    parser = make_parser("status", __doc__, EXAMPLE)
    parser.add_argument("studies", nargs="*", help="names of studies; default: all in the store")
    parser.add_argument("--failed", action="store_true", help="only failed runs")
    parser.add_argument("--all", action="store_true", help="every run, however many there are")
    parser.add_argument(
        "--watch", nargs="?", type=float, const=2.0, metavar="SECONDS", help="again every 2 seconds"
    )
    options = parser.parse_args()
    console = Console()
    with config_errors_exit(ValueError, OSError):
        views = [StudyView(study) for study in _studies(options.runs_dir, options.studies)]
    max_rows = sys.maxsize if options.all else MAX_ROWS
    if options.watch is None:
        console.print(overview(views, options.failed, max_rows))
        for line in itertools.chain.from_iterable(view.problems for view in views):
            print(line)  # whole: a path that is folded cannot be copied
        return
    try:
        watch(console, views, options.failed, options.watch)
    except KeyboardInterrupt:
        return


def watch(console: Console, views: list[StudyView], only_failed: bool, seconds: float) -> None:
    """Show the overview until every run is done or failed, or nothing is at work any more."""
    quiet = 0
    with Live(console=console, auto_refresh=False) as live:
        while True:
            states = [(view, view.states()) for view in views]
            # What does not fit a screen cannot be shown live.
            room = max(3, (console.height - 8) // len(views) - 4)
            live.update(_overview(states, only_failed, room), refresh=True)
            groups = {run.group for _, runs in states for run in runs}
            quiet = 0 if "running" in groups else quiet + 1
            if not groups & {"running", "missing"} or quiet >= QUIET_LOOKS:
                return
            time.sleep(seconds)


def overview(views: list[StudyView], only_failed: bool, max_rows: int = MAX_ROWS) -> Group:
    """Counts and runs of some studies, to be printed."""
    return _overview([(view, view.states()) for view in views], only_failed, max_rows)


def _overview(
    states: Iterable[tuple[StudyView, list[RunState]]], only_failed: bool, max_rows: int
) -> Group:
    parts: list[str | Table] = []
    for view, runs in states:
        parts += _study_parts(view, runs, only_failed, max_rows)
    return Group(*parts)


def _studies(runs_dir: Path, names: list[str]) -> list[Study]:
    if names:
        # `experiment=gpt_demo` reads naturally after `fmscale sweep experiment=gpt_demo`.
        studies = [Study.open(runs_dir, name.removeprefix("experiment=")) for name in names]
    else:
        folders = sorted(runs_dir.iterdir()) if runs_dir.exists() else []
        studies = [Study(folder) for folder in folders if _is_study(Study(folder))]
    missing = [study.path.name for study in studies if not study.path.exists()]
    if missing or not studies:
        what = ", ".join(missing) or "any study"
        raise ConfigError(
            f"{runs_dir} does not hold {what}; launch one with fmscale sweep, or name another "
            "store with --runs-dir"
        )
    return studies


def _is_study(study: Study) -> bool:
    """Something was asked for, or everything was taken over from other studies."""
    if study.path.name.startswith(".") or not study.path.is_dir():
        return False
    return study.manifest_path.exists() or any(True for _ in study.runs())


def _study_parts(
    view: StudyView, runs: list[RunState], only_failed: bool, max_rows: int
) -> list[str | Table]:
    study = view.study
    counts = Counter(run.group for run in runs)
    numbers = [
        f"[{COLORS[group]}]{counts[group]} {group}[/]"
        for group in GROUPS
        if group != "broken" or counts[group]
    ]
    headline = f"[bold]{escape(study.path.name)}[/bold]: " + " · ".join(numbers)
    shown = [run for run in runs if not only_failed or run.group in ("failed", "broken")]
    if not shown:
        return [headline]
    n_more = len(shown) - max_rows
    if n_more > 0:  # first what a person would act on
        order = ("broken", "failed", "running", "missing", "done")
        shown = sorted(shown, key=lambda run: order.index(run.group))[:max_rows]
    varied = view.differences([run.run_id for run in shown])
    with_reason = any(run.reason for run in shown)
    table = Table()
    for name in ("run", *varied, "state", "steps", *(["reason"] if with_reason else [])):
        table.add_column(name, justify="right" if name == "steps" else "left", overflow="fold")
    for number, run in enumerate(shown):
        state = f"[{COLORS[run.group]}]{run.group}[/]"
        own = [escape(values[number]) for values in varied.values()]
        reason = [escape(run.reason)] if with_reason else []
        table.add_row(escape(run.run_id), *own, state, run.progress, *reason)
    parts: list[str | Table] = [headline, table]
    if n_more > 0:
        parts.append(f"and {n_more:,} more; --all shows them")
    if any(run.group == "failed" for run in shown):
        parts.append(
            f"tracebacks: {escape(str(study.path))}/RUN/traceback.txt; "
            f"fmscale retry {escape(study.path.name)} tries again"
        )
    return parts
