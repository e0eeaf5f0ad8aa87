"""Measure finished runs: the same evaluators as at the end of training, into the same records.

What a record already holds under the same settings is not measured again.
"""

from __future__ import annotations

import argparse
import functools
import re
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra import compose, initialize_config_module
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from fmscale.commands.arguments import make_parser
from fmscale.config.compose import with_config_dir
from fmscale.config.trust import stored_config
from fmscale.errors import ConfigError, config_errors_exit
from fmscale.launching.trackers import reach_trackers
from fmscale.runs.files import skip_broken
from fmscale.runs.find import FORMS, find
from fmscale.runs.identity import canonical
from fmscale.runs.record import Evaluation, RunRecord
from fmscale.runs.store import NAME, RunFolder, Study

if TYPE_CHECKING:
    from fmscale.evaluation.runner import Measured

EXAMPLE = """\
examples:
  fmscale evaluate gpt_demo evaluation=position          # every finished run of a study
  fmscale evaluate gpt_2x72-8.39M evaluation=samples     # one run, by the beginning of its id
  fmscale evaluate clip_demo evaluation=adaptation --show zero_shot_error retrieval_text_recall_at_1
  fmscale evaluate my_tasks evaluation=answers --table answers_tasks      # what it is surest of
  fmscale evaluate my_tasks evaluation=in_context evaluation.evaluators.in_context.shots=[0,4]
"""
SECTIONS = ("evaluation", "logger")  # of conf/evaluate.yaml
FEW_RUNS = 3  # at most: the closing table has one row a metric instead of one a run
RUN_WIDTH = 12  # characters; run ids fold before the names of metrics do
MAX_ROWS, MAX_COLUMNS = 24, 4  # metrics that it shows of itself, in either form


@dataclass(frozen=True)
class Request:
    """One run and what is to be measured on it."""

    folder: RunFolder
    config: dict[str, Any]  # the run's, with the evaluation that is asked for
    todo: tuple[str, ...]  # names of the evaluators that are still to run


def select(runs_dir: Path, names: Sequence[str]) -> list[RunFolder]:
    """Finished runs by study, or by any name of a run (`find`); each once, in order.

    Raises:
        ConfigError: for a name that fits nothing, or a study without a finished run.
    """
    found: dict[Path, RunFolder] = {}
    for name in names:
        if re.fullmatch(NAME, name) and (runs_dir / name).is_dir():
            folders = [f for f in Study(runs_dir / name).runs() if f.is_finished()]
            if not folders:
                raise ConfigError(f"study {name} has no finished run yet; see fmscale status")
        else:
            try:
                folders = [find(runs_dir, name)]
            except ValueError as error:
                raise ConfigError(str(error)) from error
        found |= {folder.path: folder for folder in folders}
    return list(found.values())


def compose_settings(overrides: Sequence[str]) -> DictConfig:
    """The configuration of an evaluation, from `conf/evaluate.yaml` and overrides.

    Raises:
        ConfigError: for a choice or a key that does not exist.
    """
    for override in overrides:
        key = re.split(r"[=.@]", override.lstrip("+~"))[0]
        if key not in (*SECTIONS, "hydra"):
            raise ConfigError(
                f"{override}: an evaluation has {' and '.join(SECTIONS)} alone; name the store by "
                "--runs-dir and prepared data by --data-dir. All else is as the run was trained"
            )
    try:
        with initialize_config_module("conf", version_base="1.3"):
            return compose("evaluate", overrides=list(overrides))
    except (HydraException, OmegaConfBaseException) as error:
        raise ConfigError(str(error)) from error


def request(
    folder: RunFolder, settings: DictConfig, *, again: bool = False, data_dir: str | None = None
) -> Request:
    """What is to be measured on a run, without what its record already holds.

    Args:
        settings: from `compose_settings`; may refer to keys of the run's own configuration.
        again: measure also what was measured before.
        data_dir: where prepared data lie, if not where the run was trained.

    Raises:
        ConfigError: for settings that refer to something this run does not have.
    """
    chosen = {key: settings[key] for key in SECTIONS if settings.get(key)}
    config = stored_config(folder, replaced=chosen)
    if data_dir is not None and "data_dir" in config["data"]:
        config["data"]["data_dir"] = data_dir
    own = {key: value for key, value in config.items() if key not in chosen}
    try:
        merged = OmegaConf.to_container(OmegaConf.create({**own, **chosen}), resolve=True)
    except OmegaConfBaseException as error:
        raise ConfigError(f"run {folder.run_id}: {str(error).splitlines()[0]}") from error
    assert isinstance(merged, dict)
    full = {str(key): value for key, value in merged.items()}
    known = {} if again else _measured(folder.record())
    evaluators = full["evaluation"]["evaluators"]
    todo = [name for name, own in evaluators.items() if known.get(name) != canonical(own)]
    return Request(folder, full, tuple(todo))


def _measured(record: RunRecord) -> dict[str, str]:
    """Settings of each evaluator that ran last and of which no metric was replaced since."""
    return {entry.evaluator: canonical(entry.settings) for entry in record.evaluations}


def check(requests: Sequence[Request]) -> None:
    """Build all parts and ask the evaluators, before anything is measured.

    Raises:
        ConfigError: naming the run and what does not fit.
    """
    from fmscale.config.build import build_parts
    from fmscale.evaluation.runner import check_evaluators
    from fmscale.training import checkpoint

    for r in requests:
        if not checkpoint.steps_saved(r.folder.checkpoints):
            raise ConfigError(f"run {r.folder.run_id} kept no weights in {r.folder.checkpoints}")
        parts = build_parts(r.config)
        try:
            check_evaluators({name: parts.evaluators[name] for name in r.todo}, parts.data)
        except ValueError as error:
            raise ConfigError(f"run {r.folder.run_id}: {error}") from error


def measure(r: Request, device: str, begin: Any = lambda name: None) -> RunRecord:
    """Run what is to do on one run; its record gains the metrics evaluator by evaluator.

    Args:
        device: where the model runs.
        begin: told the name of each evaluator before it runs.
    """
    from fmscale.commands.convert import load_run
    from fmscale.config.build import build_parts
    from fmscale.evaluation.runner import evaluate
    from fmscale.training.record import evaluations

    parts = build_parts(r.config)
    model = load_run(r.folder)[0].to(device)
    record = r.folder.record()
    for name in r.todo:
        own = {name: parts.evaluators[name]}
        measured = evaluate(model, parts.data, parts.objective, own, begin)
        (entry,) = evaluations(r.config, measured)
        for table, rows in measured.tables.items():
            r.folder.write_table(table, rows)
        record = r.folder.update_record(functools.partial(_add, entry, measured))
    return record


def _add(entry: Evaluation, measured: Measured, record: RunRecord) -> RunRecord:
    return record.with_evaluation(entry, measured.metrics, measured.units)


def _device(name: str) -> str:
    import torch

    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.empty(0, device=name)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise ConfigError(f"--device {name} cannot be used ({reason}); try auto") from error
    return name


def closing_table(records: Sequence[RunRecord], names: Sequence[str]) -> Table:
    """One row a run, or one a metric where runs are few; a missing value is a dash."""
    table = Table()
    if len(records) <= FEW_RUNS:
        table.add_column("metric", overflow="fold")
        table.add_column("unit", no_wrap=True)
        for record in records:
            table.add_column(record.run_id, justify="right", overflow="fold", max_width=RUN_WIDTH)
        for name in names:
            unit = next((r.units[name] for r in records if name in r.units), "")
            table.add_row(name, unit, *(_shown(r.metrics.get(name)) for r in records))
        return table
    table.add_column("run", overflow="fold")
    for name in names:
        unit = next((r.units[name] for r in records if name in r.units), "")
        table.add_column(f"{name}\n[{unit}]".replace("[", r"\["), justify="right", overflow="fold")
    for record in records:
        table.add_row(record.run_id, *(_shown(record.metrics.get(name)) for name in names))
    return table


def _shown(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"


@contextmanager
def _progress(console: Console, n: int) -> Iterator[Any]:
    """Shows which run and evaluator is at work; yields (advance, run id, evaluator) -> None."""
    bars = Progress(
        TextColumn("{task.description}"), BarColumn(bar_width=30), MofNCompleteColumn(),
        TimeRemainingColumn(), console=console, disable=not console.is_terminal,
    )  # fmt: skip
    task = bars.add_task("", total=n)
    began = time.monotonic()

    def show(run_id: str, evaluator: str, advance: int) -> None:
        bars.update(task, advance=advance, description=f"{run_id} {evaluator}")
        if not console.is_terminal and not evaluator:
            done = int(bars.tasks[0].completed)
            spent = time.monotonic() - began
            console.print(f"{done}/{n} evaluations, {spent:.0f} s: {run_id}", highlight=False)

    with bars:
        yield show


def _run(options: argparse.Namespace, console: Console) -> None:
    from fmscale.config.build import build_tracker, target_of
    from fmscale.tracking.tracker import NoTracker
    from fmscale.tracking.upload import send_run

    names = [given for given in options.names if "=" not in given]
    if not names:
        raise ConfigError("name runs or studies, e.g. fmscale evaluate gpt_demo")
    overrides = [given for given in options.names if "=" in given]
    settings = compose_settings(with_config_dir(overrides, options.config_dir))
    folders = select(options.runs_dir, names)
    records, requests, diverged = {}, [], []
    for folder in folders:
        with skip_broken():
            record = folder.record()
            if record.status == "diverged":
                diverged.append(folder.run_id)
            else:
                requests.append(
                    request(folder, settings, again=options.again, data_dir=options.data_dir)
                )
            records[folder.run_id] = record
    if not records:
        raise ConfigError("no run that is asked for can be read")
    todo = [r for r in requests if r.todo]
    reach_trackers({**r.config, "study": r.folder.study} for r in requests)
    if diverged:
        console.print(f"left out, since they diverged: {', '.join(diverged)}", highlight=False)
    if todo:
        with console.status("checking data and evaluators"):
            check(todo)
            device = _device(options.device)
        with _progress(console, sum(len(r.todo) for r in todo)) as show:
            for r in todo:
                run_id = r.folder.run_id
                with skip_broken():
                    records[run_id] = measure(
                        r, device, lambda evaluator, run_id=run_id: show(run_id, evaluator, 0)
                    )
                show(run_id, "", len(r.todo))
    else:
        console.print("Nothing to measure: the records hold all of it. --again measures anew.")
    if target_of(settings.logger) is not NoTracker:
        for r in requests:  # whole, its tables included
            send_run(r.folder, build_tracker(r.config), r.config, tables=True)
    _report(console, requests, list(records.values()), options.show)
    for name in options.table or []:
        _print_table(console, folders, name)


def _latest(record: RunRecord) -> list[Evaluation]:
    """What each evaluator measured last, of all it measured under several settings."""
    return list({entry.evaluator: entry for entry in record.evaluations}.values())


def _report(
    console: Console,
    requests: Sequence[Request],
    records: Sequence[RunRecord],
    show: Sequence[str] | None,
) -> None:
    asked = {name for r in requests for name in r.config["evaluation"]["evaluators"]}
    latest = [e for record in records for e in _latest(record) if e.evaluator in asked]
    known = list(dict.fromkeys(metric for entry in latest for metric in entry.metrics))
    everything = {name for record in records for name in record.metrics}
    unknown = [name for name in show or [] if name not in everything]
    if unknown:
        raise ConfigError(
            f"--show: no record has {', '.join(unknown)}; known: {sorted(everything)}"
        )
    most = MAX_ROWS if len(records) <= FEW_RUNS else MAX_COLUMNS
    console.print(closing_table(records, list(show or known[:most])))
    if not show and len(known) > most:
        more = ", ".join(known[most : most + 8])
        console.print(
            escape(f"and {len(known) - most} more in each record ({more}, ...); --show NAME"),
            highlight=False,
        )


def _print_table(console: Console, folders: Sequence[RunFolder], name: str) -> None:
    for folder in folders:
        tables = folder.tables()
        if name not in tables:
            raise ConfigError(
                f"--table {name}: run {folder.run_id} has {sorted(tables) or 'no table'}"
            )
        rows = tables[name]
        table = Table(title=f"{name} of {folder.run_id}", title_justify="left")
        for column in rows[0]:
            table.add_column(column, overflow="fold")
        for row in rows:
            cells = (f"{v:.4g}" if isinstance(v, float) else str(v) for v in row.values())
            table.add_row(*map(escape, cells))
        console.print(table)


def main() -> None:
    """Entry point of `fmscale evaluate`."""
    parser = make_parser("evaluate", __doc__, EXAMPLE, composes=True)
    parser.add_argument(
        "names", nargs="+", metavar="RUN|STUDY|KEY=VALUE",
        help=f"study; {FORMS}; settings as Hydra writes them",
    )  # fmt: skip
    parser.add_argument("--again", action="store_true", help="also what was measured before")
    parser.add_argument("--show", nargs="+", metavar="METRIC", help="columns of the closing table")
    parser.add_argument("--table", nargs="+", metavar="NAME", help="tables of the runs to print")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, ...")
    parser.add_argument("--data-dir", help="where prepared data lie, if not as in training")
    options = parser.parse_intermixed_args()  # settings may follow an option
    with config_errors_exit():
        _run(options, Console())
