"""What a person sees of a sweep: progress while it runs, a table when it is over."""

from __future__ import annotations

import shlex
import sys
import time

from rich.console import Console, Group
from rich.live import Live
from rich.markup import escape
from rich.measure import Measurement
from rich.progress import BarColumn, Progress, TaskID, TextColumn
from rich.table import Table
from rich.text import Text

from fmscale.launching.backend import Event, Task
from fmscale.planning.estimates import seconds_of
from fmscale.planning.job import Branch, Job
from fmscale.planning.store_plan import study_of
from fmscale.planning.sweep import Sweep
from fmscale.runs.hyperparameters import differing, headed
from fmscale.runs.identity import short_number
from fmscale.runs.store import Study

TOGETHER = "differs in"  # heads one column of all that would need more than a line
WIDEST = 14  # characters of a value in the closing table; longer ones fold
LADDER = 5  # runs that a forecast needs
AHEAD = 10
LINE_EVERY_SECONDS = 30.0  # off a terminal, at least this often while runs are at work


class SweepDisplay:
    """Runs done, running and left, with the time that remains.

    On a terminal a live display with a bar for each task at work; elsewhere one line for each
    finished run, so that logs stay readable.
    """

    def __init__(self, sweep: Sweep) -> None:
        self.jobs = sweep.jobs
        self.plans = sweep.plans
        self.n_left = sweep.n_left
        self.n_done = sweep.n_runs - self.n_left
        self.console = Console()
        self.began = self.printed_at = time.monotonic()
        self.work_done = 0.0  # expected seconds of finished tasks
        self.work_total = sweep.seconds
        self.at_work: dict[int, tuple[TaskID, float]] = {}  # bars, and expected seconds done
        self.held: dict[int, str] = {}  # tasks held by another process
        self.bars = Progress(
            TextColumn("  {task.description}"),
            BarColumn(bar_width=30),
            TextColumn("{task.percentage:>3.0f} %"),
            console=self.console,
        )
        self.live = Live(console=self.console, refresh_per_second=4, get_renderable=self._render)

    def __enter__(self) -> SweepDisplay:
        if self.console.is_terminal:
            self.live.start()
        else:
            self.console.print(self._headline())
        return self

    def __exit__(self, *error: object) -> None:
        if self.console.is_terminal:
            self.live.stop()

    def update(self, event: Event) -> None:
        """Take note of what has happened."""
        task, key = event.task, id(event.task)
        if event.name == "progress":
            begin, end = self._span(task)
            share = (event.fields["step"] - begin) / max(1, end - begin)
            if key in self.at_work:
                bar, _ = self.at_work[key]
            else:
                bar = self.bars.add_task(self._title(task), total=1.0)
            self.at_work[key] = bar, share * self._work(task)
            self.bars.update(bar, completed=share)
        if event.name == "held":
            if key not in self.held:
                self._print(f"  waiting: {event.fields['reason']}")
            self.held[key] = event.fields["reason"]
        elif event.name != "branch_ready":
            self.held.pop(key, None)
        if event.name in ("done", "failed"):
            if key in self.at_work:
                self.bars.remove_task(self.at_work.pop(key)[0])
            self._count(event)

        if not self.console.is_terminal and self._quiet_for() > LINE_EVERY_SECONDS:
            self._print(f"  {self._headline()}")

    def _quiet_for(self) -> float:
        return time.monotonic() - self.printed_at

    def _print(self, line: str) -> None:
        self.console.print(line, highlight=False)
        self.printed_at = time.monotonic()

    def _count(self, event: Event) -> None:
        task, title = event.task, self._title(event.task)
        lost = event.fields.get("lost", [])  # runs that are given up
        if task.kind == "group":
            how = f": not at once ({event.fields['reason']})" if event.name == "failed" else ""
            self._print(f"  vmapped {title}{how}")
            return
        if event.name == "failed" and not lost:
            self._print(f"  again   {title}: {event.fields['reason']}")
            return
        self.work_done += self._work(task)
        self.n_left -= len(lost)
        if event.name == "failed":
            self._print(f"  FAILED {title}: {event.fields['reason']}")
        elif task.kind == "branch":
            self.n_left -= 1
            self.n_done += 1
            if not self.console.is_terminal:
                self._print(f"  done   {title}   {self._headline()}")

    def _branch(self, task: Task) -> Branch | None:
        branches = self.jobs[task.jobs[0]].branches
        return next((branch for branch in branches if branch.run_id == task.run_id), None)

    def _span(self, task: Task) -> tuple[int, int]:
        """First and last step of a task."""
        branch, job = self._branch(task), self.jobs[task.jobs[0]]
        if branch is not None:
            return branch.branch_step, branch.n_steps
        return 0, job.trunk_steps if task.kind == "trunk" else job.branches[-1].n_steps

    def _title(self, task: Task) -> str:
        branch, job = self._branch(task), self.jobs[task.jobs[0]]
        length = short_number(branch.n_units) if branch is not None else task.kind
        seeds = ",".join(str(self.jobs[index].config["seed"]) for index in task.jobs)
        return f"{job.shape.label} seed {seeds} {length:>6}"

    def _work(self, task: Task) -> float:
        """Expected seconds of a task; of what only groups others, none, once it is done."""
        if task.kind == "group":
            return sum(seconds_of(self.jobs[i], self.plans[i].steps) for i in task.jobs)
        plan, branch = self.plans[task.jobs[0]], self._branch(task)
        if branch is not None:
            return seconds_of(plan.job, branch.n_steps - branch.branch_step)
        trunk = sum(s.stop - s.start for s in plan.segments) if task.kind == "trunk" else 0
        return seconds_of(plan.job, trunk)

    def _headline(self) -> str:
        running = len(self.at_work)
        counts = f"{self.n_done} done · {running} at work · {self.n_left} left"
        if self.held:
            counts += f" · {len(self.held)} held by another process"
        return f"{counts} · ETA {self._eta()}"

    def _eta(self) -> str:
        done = self.work_done + sum(seconds for _, seconds in self.at_work.values())
        elapsed = time.monotonic() - self.began
        if done <= 0 or elapsed < 2:
            return "…"
        left = elapsed * max(0.0, self.work_total - done) / done
        return f"{int(left // 60)}:{int(left % 60):02d}"

    def _render(self) -> Group:
        elapsed = time.monotonic() - self.began
        clock = f"{int(elapsed // 60)}:{int(elapsed % 60):02d}"
        return Group(Text(f"{self._headline()} · elapsed {clock}", style="bold"), self.bars)


def print_outcome(jobs: list[Job], failed: dict[str, str]) -> None:
    """Table of all runs of a sweep; failures with their reasons below it.

    Between model and seed stands what the runs differ in besides. MFU is the share of this
    machine's speed at matrix products that the training used.
    """
    console = Console()
    runs = [(job, branch) for job in jobs for branch in job.branches]
    varied = differing(job.config for job, _ in runs)
    own = headed(varied, [job.shape.label for job, _ in runs])
    rows = [_outcome_row(study_of(job), job, branch) for job, branch in runs]
    unit = jobs[0].shape.unit
    title = f"{jobs[0].config['study']}: runs, D in {unit}, C in FLOP"
    table = _table(title, rows, own)
    # Where a screen is narrow, what differs comes before how fast it went.
    unbounded = console.options.update(max_width=sys.maxsize)
    for name in ("MFU", "train s", "C", None):
        if Measurement.get(console, unbounded, table).maximum <= console.width:
            break
        if name is None and own:  # more than a line holds
            pairs = (
                [f"{key}={v[number]}" for key, v in own.items()] for number in range(len(rows))
            )
            own = {TOGETHER: ["\n".join(own) for own in pairs]}
        for row in rows:
            row.pop(name or "", None)
        table = _table(title, rows, own)
    console.print(table)
    for run_id, reason in failed.items():
        console.print(f"[red]failed[/red] {run_id}: {reason}", highlight=False)
    if failed:
        console.print("Tracebacks are in the run folders; the same command tries these runs again.")
    if len(runs) - len(failed) >= LADDER and len({job.shape.label for job in jobs}) > 1:
        ahead = AHEAD * max(job.flops(branch.n_units)["flops"] for job, branch in runs)
        console.print(f"What to train with {AHEAD} times the largest run's compute:")
        flops = f"{ahead:.3g}".replace("e+", "e")
        folder = shlex.quote(str(study_of(jobs[0]).path))
        command = f"  fmscale-analysis forecast {folder} --flops {flops}"
        console.print(command, highlight=False, markup=False, soft_wrap=True)


def _table(title: str, rows: list[dict[str, str]], varied: dict[str, list[str]]) -> Table:
    table = Table(title=title, title_justify="left", pad_edge=False)
    for name in ("model", *varied, *list(rows[0])[1:]):
        is_text = name in ("model", "status", TOGETHER)
        width = WIDEST if name in varied and len(varied) > 1 else None
        table.add_column(
            name, justify="left" if is_text else "right", overflow="fold", max_width=width
        )
    for number, row in enumerate(rows):
        front, *rest = row.values()
        table.add_row(front, *(escape(values[number]) for values in varied.values()), *rest)
    return table


def _outcome_row(study: Study, job: Job, branch: Branch) -> dict[str, str]:
    folder, metric = study.run(branch.run_id), job.shape.metrics[0]
    row = {
        "model": job.shape.label,
        "seed": str(job.config["seed"]),
        "D": short_number(branch.n_units),
        "C": f"{job.flops(branch.n_units)['flops']:.3g}",
        metric: "",
        "train s": "",
        "MFU": "",
    }
    if not folder.is_finished():
        status = folder.status()
        return {**row, "status": status["state"] if status else "missing"}
    record = folder.record()
    loss = record.metrics.get(metric)
    seconds, utilization = record.seconds_train, record.flops_utilization
    return {
        **row,
        metric: f"{loss:.4f}" if loss is not None else "",
        "train s": f"{seconds:.1f}" if seconds is not None else "",
        "MFU": f"{utilization:.0%}" if utilization is not None else "",
        "status": record.status,
    }
