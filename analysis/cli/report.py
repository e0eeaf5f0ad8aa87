"""fmscale-analysis report: figures, fit cards, fits.json and report.html of whole studies."""

from __future__ import annotations

import argparse
from datetime import date
from pathlib import Path

from analysis.cli.options import add_shared, parse_laws
from analysis.cli.score import registered_lines
from analysis.cli.screen import plan_lines, progress, wrapped
from analysis.forecasting.registered import FOLDER, registered, tally
from analysis.report import analyze_study, write_report
from analysis.report.study import COMPUTE, PARAMETERS, StudyReport
from analysis.tables.files import read_table
from analysis.tables.number_formats import parse_unit
from analysis.tables.run_store import load_curves
from analysis.tables.table import RunTable, TableError

EXPONENTS = ("b", "c", "alpha", "beta", "alpha_N", "alpha_D", "E")
EXAMPLE = "fmscale-analysis report runs/gpt_demo runs/clip_demo --out reports/demo"


def add_options(parser: argparse.ArgumentParser) -> None:
    option = parser.add_argument
    option("studies", nargs="+", help="study folders (runs/<study>)")
    option("--out", required=True, help="folder to write to")
    option("--bootstrap", type=int, default=2000, help="refits per interval")
    option("--parameters", default=PARAMETERS, help="record column used as N")
    option("--compute", default=COMPUTE, help="record column used as C")
    option("--metric", "--loss", metavar="COLUMN", help="draw and forecast this, not the loss")
    option("--laws", default="", help="fitted beside the standard ones; MODULE:CLASS for your own")
    option("--flops", help="compute to decide about (10 times the largest run)")
    option("--registry", type=Path, default=FOLDER, help="of registered forecasts (forecasts)")
    add_shared(parser, "seed")


def run(args: argparse.Namespace) -> int:
    done: list[StudyReport] = []
    laws = parse_laws(args.laws) if args.laws else ()
    with progress("fitting") as step:
        for folder in args.studies:
            done.append(analyze_study(
                read_table(folder), args.bootstrap, args.seed, args.parameters, args.compute,
                progress=step, curves=read_curves(folder), metric=args.metric, laws=laws,
                flops=None if args.flops is None else parse_unit(args.flops),
            ))  # fmt: skip
        kept = [
            one
            for one in registered(args.registry)
            if any(one.concerns(study.table) for study in done)
        ]
        step("writing figures")
        paths = write_report(done, args.out, f"{date.today()}: {args.command_line}", kept)
    for study in done:
        print_answer(study)
    for study in done:
        print_laws(study)
    if kept:
        print(f"registered forecasts: {tally(kept)}")
        print("\n".join(registered_lines(kept, [study.table for study in done])))
    for study in done:
        print(f"{study.study}, which run next:")
        print("\n".join(plan_lines(study.plan)) if study.plan else wrapped(f"  {study.no_plan}"))
    files = " and ".join(map(str, paths["files"]))
    print(wrapped(f"{len(paths['figures'])} figures, {len(paths['cards'])} fit cards, {files}"))
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


def print_laws(study: StudyReport) -> None:
    """The laws of all runs, their error on held-out ones, and what to know of them."""
    for panel in study.panels:
        print(wrapped(f"{study.study}, {panel.metric} against {panel.letters} ({panel.rule}):"))
        for result in panel.answers:
            shown = [n for n in result.parameters if n in EXPONENTS]
            intervals = [f"{n} {result.interval_text(n)}" for n in shown]
            held = result.held_out and result.held_out["mean_absolute_relative_error"]
            error = [] if held is None else [f"held-out error {held:.2%}"]
            text = ", ".join([result.formula(), *intervals, *error])
            print(wrapped(f"  {result.law}: {text}"))
        for law, why in panel.refused:
            print(wrapped(f"  {law}: refused, {why}"))
    for note in [*study.cautions(), *map(str, study.table.dropped)]:
        print(wrapped(f"  {note}"))
