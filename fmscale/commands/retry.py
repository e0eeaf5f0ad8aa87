"""Train what is missing of a study, from the configurations stored when it was launched."""

from __future__ import annotations

import signal
import sys

from fmscale.commands.arguments import make_parser, open_study
from fmscale.config.build import build_shape
from fmscale.config.compose import compose_launcher, quoted
from fmscale.config.launchers import register_launchers
from fmscale.config.trust import stored_config
from fmscale.errors import ConfigError, config_errors_exit
from fmscale.launching.backend import Backend
from fmscale.launching.driver import Options, run
from fmscale.launching.preflight import drop_broken
from fmscale.planning.earlier import completed, finished_of
from fmscale.planning.job import Job
from fmscale.planning.store_plan import merge
from fmscale.planning.sweep import Sweep
from fmscale.runs.files import Broken
from fmscale.runs.find import FORMS, find
from fmscale.runs.store import RunFolder, Study
from fmscale.signals import interrupt

EXAMPLE = """\
examples:
  fmscale retry gpt_demo
  fmscale retry gpt_demo --runs gpt_2x24-524k-s1-20fe0f3392
  fmscale retry gpt_demo --max-halvings 2     # what ran out of memory, in smaller micro-batches
  fmscale retry gpt_demo launcher=slurm hydra.launcher.partition=gpu    # queued, not trained here
"""
FLAGS = (  # options of the launcher by shorter names
    ("--workers", "n_workers", "processes; default: cores / threads"),
    ("--threads", "n_threads", "CPU threads of each process"),
    ("--max-retries", "max_retries", "of a run that fails again"),
    ("--max-halvings", "max_halvings", "of the micro-batch of a run that is out of memory"),
)


def unfinished_jobs(study: Study, names: list[str] | None = None) -> list[Job]:
    """Jobs that train every run that is neither finished nor running now, one a trunk.

    A run whose configuration cannot be read is left out, with a line on standard error.

    Args:
        names: only these runs; None: all.

    Raises:
        ConfigError: for a run that does not exist, or whose stored configuration now gets another
            id (it was written by another version) or names code that is not trusted.
    """
    try:
        folders = [_find(study, name) for name in names] if names else list(study.runs())
    except ValueError as error:
        raise ConfigError(str(error)) from error
    drop_broken(study, {folder.run_id for folder in folders})
    jobs = []
    for folder in folders:
        if folder.is_finished() or folder.is_at_work():
            continue
        try:
            config = stored_config(folder)
        except Broken as error:  # the other runs go on
            print(error, file=sys.stderr)
            continue
        # The store may have been moved since.
        config["paths"] = {**config["paths"], "runs_dir": str(study.path.parent)}
        config["study"] = study.path.name
        if "content" not in config:  # of release 0.1.0
            trunk_id = study.manifest().get(folder.run_id, {}).get("trunk_id", "")
            config = completed(config, finished_of(study, trunk_id))
        job = Job.plan(config, build_shape(config))
        if job.branches[0].run_id != folder.run_id:
            raise ConfigError(
                f"{folder.path}/config.yaml now has the id {job.branches[0].run_id}: another "
                "version of fmscale wrote it. Launch the sweep again"
            )
        jobs.append(job)
    return merge(jobs)


def _find(study: Study, name: str) -> RunFolder:
    """A run of this study, by any name of it."""
    place, slash, own = name.rstrip("/").rpartition("/")
    if slash and place != study.path.name:
        raise ValueError(f"--runs {name}: retry trains runs of {study.path.name} alone")
    return find(study.path.parent, f"{study.path.name}/{own}")


def launcher_of(study: Study, overrides: list[str]) -> tuple[Backend, Options]:
    """What trains the runs, as for a sweep of this study.

    Args:
        overrides: "launcher=NAME" and "hydra.launcher.KEY=VALUE".

    Raises:
        ConfigError: for another override, or what is no option of the launcher.
    """
    for override in overrides:
        if not override.lstrip("+").startswith(("launcher=", "hydra.launcher.", "hydra/launcher=")):
            raise ConfigError(
                f"{override}: runs are trained as they were asked for; only the launcher can be "
                "chosen (launcher=..., hydra.launcher.KEY=...)"
            )
    register_launchers()
    place = [f"paths.runs_dir={quoted(study.path.parent)}", f"study={study.path.name}"]
    launcher = compose_launcher([*place, *overrides])
    return launcher.open_backend(), Options(**launcher.options)


def main() -> None:
    """Entry point of `fmscale retry`."""
    parser = make_parser("retry", __doc__, EXAMPLE)
    parser.add_argument("study")
    parser.add_argument(
        "launcher", nargs="*", metavar="launcher=NAME hydra.launcher.KEY=VALUE",
        help="what trains them, as for fmscale sweep; default: workers on this machine",
    )  # fmt: skip
    parser.add_argument("--runs", nargs="+", metavar="RUN", help=f"only these: {FORMS}")
    for flag, key, meaning in FLAGS:
        parser.add_argument(flag, type=int, dest=key, help=meaning)
    options = parser.parse_intermixed_args()
    signal.signal(signal.SIGTERM, interrupt)
    with config_errors_exit():
        study = open_study(options.runs_dir, options.study)
        jobs = unfinished_jobs(study, options.runs)
        if not jobs:
            print(f"Nothing to retry: every run of {options.study} is finished or running.")
            return
        given = [(key, getattr(options, key)) for _, key, _ in FLAGS]
        flags = [f"hydra.launcher.{key}={value}" for key, value in given if value is not None]
        failed = run(Sweep(jobs), *launcher_of(study, [*options.launcher, *flags]))
    sys.exit(1 if failed else 0)
