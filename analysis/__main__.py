"""fmscale-analysis (= python -m analysis): tables, fits, forecasts and reports of scaling runs."""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Sequence
from typing import NoReturn

from analysis import __version__
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
from analysis.solver.global_fit import FitError

COMMANDS = (
    table, fit, compare, isoflop, curves, forecast, gain, chain, adaptation, language, next, plot,
    score, report,
)  # fmt: skip


class Parser(argparse.ArgumentParser):
    """A parser whose errors are one line, as all errors here."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: error: {message} (--help tells more)\n")


def make_parser() -> Parser:
    parser = Parser(
        prog="fmscale-analysis", description=__doc__, epilog=f"example: {report.EXAMPLE}"
    )
    parser.add_argument("--version", action="version", version=__version__)
    parsers = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for command in COMMANDS:
        first, _, more = str(command.__doc__).partition("\n")
        name, _, what = first.removeprefix("fmscale-analysis ").partition(": ")
        one = parsers.add_parser(
            name,
            help=what.rstrip("."),
            description=f"{what} {more}",
            epilog=f"example: {command.EXAMPLE}",
        )
        command.add_options(one)
        one.set_defaults(run=command.run)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command: 0 fine, 1 failed, 2 wrong usage or a table it cannot use; an error is one
    line on stderr."""
    if "" not in sys.path:
        sys.path.append("")  # laws of one's own are found in the present folder, too
    args = make_parser().parse_args(arguments)
    words = sys.argv[1:] if arguments is None else arguments
    args.command_line = shlex.join(["fmscale-analysis", *words])
    try:
        check_folder(*(getattr(args, name, None) for name in ("json", "card", "plot")))
        with output_that_may_close() as early:
            code = int(args.run(args))
        return early.code or code
    except FitError as error:
        code, problem = 1, str(error)
    except ValueError as error:
        code, problem = 2, str(error)
    except OSError as error:
        code, problem = 1, f"{error.filename or 'standard output'}: {error.strerror}"
    print(f"fmscale-analysis: error: {problem}", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
