"""`fmscale wandb`: upload a study to Weights & Biases, and lay out its workspace or report."""

from __future__ import annotations

import argparse
import re
import sys

from rich.console import Console

from fmscale.commands.arguments import make_parser, open_study
from fmscale.errors import ConfigError, config_errors_exit
from fmscale.runs.store import Study
from fmscale.tracking.panels import study_sections
from fmscale.tracking.upload import push_study
from fmscale.tracking.workspace import build_report, build_workspace

EXAMPLE = """\
examples:
  fmscale wandb push gpt_demo                               # runs that are new or changed
  fmscale wandb push gpt_demo --entity my-team --project scaling
  fmscale wandb workspace gpt_demo --entity my-team         # scaling plots, curves, rate sweep
  fmscale wandb report gpt_demo --entity my-team
"""


def push(study: Study, options: argparse.Namespace) -> None:
    """Upload every finished run that is not there yet."""
    from fmscale.tracking.wandb import WandbTracker

    destination = f"{options.entity or 'default'}/{options.project}"
    tracker = WandbTracker(project=options.project, entity=options.entity, mode="online")
    n_finished = sum(folder.is_finished() for folder in study.runs())
    with Console().status(f"{n_finished} finished runs") as status:
        done = 0

        def report(run_id: str) -> None:
            nonlocal done
            done += 1
            status.update(f"{done} runs dealt with, {n_finished} are finished; {run_id}")

        pushed = push_study(study, tracker, destination, report=report)
    print(
        f"{study.path.name} -> {destination}: {len(pushed.uploaded)} runs uploaded, "
        f"{len(pushed.unchanged)} already there, {len(pushed.unfinished)} without a record yet"
    )
    for line in pushed.broken:
        print(line, file=sys.stderr)


def lay_out(study: Study, options: argparse.Namespace) -> None:
    """Save a workspace or a report of the study on the server."""
    if options.entity is None:
        raise ConfigError("say whose project it is: --entity ENTITY")
    records = [f.record() for f in study.runs() if f.is_finished()]
    if not records:
        raise ConfigError(f"{study.path} has no finished run; train it first")
    build = build_workspace if options.action == "workspace" else build_report
    where = {"study": study.path.name, "entity": options.entity, "project": options.project}
    page = build(study_sections(records), **where)
    page.save()
    print(f"{options.action} of {study.path.name}: {page.url}")


def require_server() -> None:
    """Raises ConfigError: without a key or a server, before anything is read."""
    from fmscale.tracking.wandb import why_offline

    if (problem := why_offline()) is not None:
        raise ConfigError(problem)


def main() -> None:
    """Entry point of `fmscale wandb`."""
    parser = make_parser("wandb", __doc__, EXAMPLE)
    parser.add_argument("action", choices=("push", "workspace", "report"))
    parser.add_argument("study", help="name of the study, a folder of --runs-dir")
    parser.add_argument("--entity", help="user or team; for push, default: that of the account")
    parser.add_argument("--project", default="fmscale", help="default: fmscale")
    options = parser.parse_args()
    for name in ("entity", "project"):
        value = getattr(options, name)
        if value is not None and not re.fullmatch(r"[A-Za-z0-9_.-]+", value):
            parser.error(f"--{name} {value!r}: letters, digits, '_', '-' and '.' only")
    with config_errors_exit(ValueError, OSError):
        study = open_study(options.runs_dir, options.study)
        require_server()
        {"push": push}.get(options.action, lay_out)(study, options)
