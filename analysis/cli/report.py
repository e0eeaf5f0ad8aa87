"""fmscale-analysis report: figures, fit cards, fits.json and report.html of whole studies."""

from __future__ import annotations

import argparse
from datetime import date

from analysis.cli.screen import console, progress, wrapped
from analysis.files import read_table
from analysis.load import load_curves
from analysis.numerals import parse_unit
from analysis.report import analyze_study, write_report
from analysis.report.study import COMPUTE, PARAMETERS, StudyReport
from analysis.report.write import summary_rows
from analysis.table import RunTable, TableError

EXAMPLE = "fmscale-analysis report runs/gpt_demo runs/clip_demo --out reports/demo"


def add(parsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = parsers.add_parser(
        "report", help="figures, cards and one html page of studies", epilog=f"example: {EXAMPLE}"
    )
    parser.add_argument("studies", nargs="+", help="study folders (runs/<study>)")
    parser.add_argument("--out", required=True, help="folder to write to")
    parser.add_argument("--bootstrap", type=int, default=2000, help="refits per interval")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--parameters", default=PARAMETERS, help="record column used as N")
    parser.add_argument("--compute", default=COMPUTE, help="record column used as C")
    parser.add_argument(
        "--metric", "--loss", metavar="COLUMN", help="draw and forecast this, not the loss"
    )
    parser.add_argument("--flops", help="compute to decide about (10 times the largest run)")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    out = console()
    done: list[StudyReport] = []
    with progress("fitting") as step:
        for folder in args.studies:
            runs = read_table(folder)
            done.append(
                analyze_study(
                    runs,
                    args.bootstrap,
                    args.seed,
                    args.parameters,
                    args.compute,
                    progress=step,
                    curves=read_curves(folder),
                    metric=args.metric,
                    flops=None if args.flops is None else parse_unit(args.flops),
                )
            )
        step("writing figures")
        paths = write_report(done, args.out, f"{date.today()}: {args.command_line}")
    for study in done:
        print_answer(study)
    print_summary(done)
    for study in done:
        for note in study.cautions():
            out.print(f"{study.study}: {note}", style="dim", markup=False, highlight=False)
        for dropped in study.table.dropped:
            out.print(f"{study.study}: {dropped}", highlight=False, markup=False)
    out.print(
        f"{len(paths['figures'])} figures, {len(paths['cards'])} fit cards, "
        f"{' and '.join(str(p) for p in paths['files'])}",
        highlight=False,
    )
    return 0


def print_answer(study: StudyReport) -> None:
    """What to train, before the laws."""
    lines = [study.no_outlook] if study.outlook is None else study.outlook.decision.lines()
    print(f"{study.study}:")
    for line in lines:
        print(wrapped(line))


def read_curves(folder: str) -> RunTable | None:
    """Training curves of a study; a study that logged none has no approach 1 from curves."""
    try:
        return load_curves(folder)
    except TableError:
        return None


def print_summary(studies: list[StudyReport]) -> None:
    from rich import box
    from rich.markup import escape
    from rich.table import Table

    table = Table(title="fitted laws", box=box.SIMPLE_HEAD, title_justify="left", pad_edge=False)
    for name in ("study", "figure", "law", "formula", "95 % intervals", "held-out error"):
        table.add_column(name, overflow="fold")
    for row in summary_rows(studies):
        table.add_row(*(escape(cell) for cell in row))
    console().print(table)
