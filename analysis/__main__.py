"""fmscale-analysis (= python -m analysis): tables, fits, forecasts and reports of scaling runs."""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Sequence

from analysis import __version__
from analysis.certificate import FitError
from analysis.cli import (
    adaptation,
    chain,
    compare,
    curves,
    fit,
    forecast,
    gain,
    isoflop,
    language,
    next,
    plot,
    report,
    score,
    table,
)
from analysis.cli.options import check_folder
from analysis.cli.screen import output_that_may_close
from analysis.table import TableError

COMMANDS = (
    table,
    fit,
    compare,
    isoflop,
    curves,
    forecast,
    gain,
    chain,
    adaptation,
    language,
    next,
    plot,
    score,
    report,
)


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="fmscale-analysis", description=__doc__, epilog=f"example: {report.EXAMPLE}"
    )
    parser.add_argument("--version", action="version", version=__version__)
    parsers = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for command in COMMANDS:
        command.add(parsers)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; wrong input ends with one line on stderr and exit code 2."""
    args = make_parser().parse_args(arguments)
    words = sys.argv[1:] if arguments is None else arguments
    args.command_line = shlex.join(["fmscale-analysis", *words])
    try:
        check_folder(*(getattr(args, name, None) for name in ("json", "card", "plot")))
        with output_that_may_close() as early:
            code = int(args.run(args))
        return early.code or code
    except (TableError, FitError, ValueError) as error:
        print(f"fmscale-analysis: error: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(
            f"fmscale-analysis: error: {error.filename or 'standard output'}: {error.strerror}",
            file=sys.stderr,
        )
        return 2


if __name__ == "__main__":
    sys.exit(main())
