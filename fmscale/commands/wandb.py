"""`fmscale wandb`: upload a study to Weights & Biases, and lay out its workspace or report."""

from __future__ import annotations

import argparse
import os
import re
import sys

from rich.console import Console

from fmscale.runs.store import Study
from fmscale.tracking.panels import study_sections
from fmscale.tracking.upload import push_study
from fmscale.tracking.workspace import DashboardError, build_report, build_workspace

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

    require_server()
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
    require_server()
    if options.entity is None:
        raise DashboardError("say whose project it is: --entity ENTITY")
    records = [f.record() for f in study.runs() if f.is_finished()]
    if not records:
        raise DashboardError(f"{study.path} has no finished run; train it first")
    build = build_workspace if options.action == "workspace" else build_report
    page = build(
        study_sections(records),
        study=study.path.name,
        entity=options.entity,
        project=options.project,
    )
    page.save()
    print(f"{options.action} of {study.path.name}: {page.url}")


def require_server() -> None:
    """Raises DashboardError: without a key or a server, before anything is read."""
    from fmscale.tracking.wandb import why_offline

    if (problem := why_offline()) is not None:
        raise DashboardError(problem)


def main() -> None:
    """Entry point of `fmscale wandb`."""
    parser = argparse.ArgumentParser(
        prog="fmscale wandb",
        description=__doc__,
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("action", choices=("push", "workspace", "report"))
    parser.add_argument("study", help="name of the study, a folder of --runs-dir")
    parser.add_argument("--entity", help="user or team; for push, default: that of the account")
    parser.add_argument("--project", default="fmscale", help="default: fmscale")
    parser.add_argument("--runs-dir", default=os.environ.get("FMSCALE_RUNS_DIR", "runs"))
    options = parser.parse_args()
    for name in ("entity", "project"):
        value = getattr(options, name)
        if value is not None and not re.fullmatch(r"[A-Za-z0-9_.-]+", value):
            parser.error(f"--{name} {value!r}: letters, digits, '_', '-' and '.' only")
    try:
        study = Study.open(options.runs_dir, options.study)
        if not study.path.is_dir():
            raise DashboardError(f"no study at {study.path}; see --runs-dir")
        {"push": push}.get(options.action, lay_out)(study, options)
    except (DashboardError, ValueError) as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
