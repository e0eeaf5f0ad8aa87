"""Command lines in one style: help that ends with examples, the folder of the store, its studies.

A command ends with 0 if all is well, with 1 and one line if something failed, and with 2 if it was
called with options that it does not have.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from fmscale.errors import ConfigError
from fmscale.runs.store import Study


def make_parser(
    command: str, about: str | None, examples: str, *, store: bool = True, composes: bool = False
) -> argparse.ArgumentParser:
    """The parser of a command, with the options that several have.

    Args:
        about: docstring of the command's module.
        store: it reads or writes runs, so it takes --runs-dir.
        composes: it composes configurations, so it takes Hydra's --config-dir.
    """
    parser = argparse.ArgumentParser(
        prog=f"fmscale {command}",
        description=about,
        epilog=examples,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    if store:
        parser.add_argument(
            "--runs-dir", type=Path, default=os.environ.get("FMSCALE_RUNS_DIR", "runs"),
            metavar="FOLDER", help="the store; default: FMSCALE_RUNS_DIR, or runs",
        )  # fmt: skip
    if composes:
        parser.add_argument(
            "--config-dir", "-cd", metavar="FOLDER",
            help="configurations of one's own, as for fmscale train",
        )  # fmt: skip
    return parser


def open_study(runs_dir: Path, name: str) -> Study:
    """A study that exists.

    Raises:
        ConfigError: if it does not, or for a name that would leave the store.
    """
    try:
        study = Study.open(runs_dir, name)
    except ValueError as error:
        raise ConfigError(str(error)) from error
    if not study.path.is_dir():
        raise ConfigError(f"{study.path} does not exist; name another store with --runs-dir")
    return study
