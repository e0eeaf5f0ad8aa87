"""Options shared by the commands that read a table: which column is what, which rows stay."""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from analysis.json_values import finite
from analysis.laws import LAWS, Law, get_law
from analysis.outputs import replacing, write_text
from analysis.report.study import COMPUTE, PARAMETERS
from analysis.solver.objectives import ALIASES, OBJECTIVES
from analysis.tables.envelope import RULES, envelope
from analysis.tables.files import (
    DERIVATIONS,
    HISTORY_KEYS,
    map_columns,
    read_table,
    warn_of_repeated_ids,
)
from analysis.tables.filters import drop_highest, final_runs, positive_values, where
from analysis.tables.table import RunTable, TableError, data_column, metrics_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FEWEST_ON_ENVELOPE = 4
LETTERS = {"n": "N", "d": "D", "c": "C", "u": "U", "steps": "S", "x": "x", "l": "L"}


# Options that mean the same in every command that has them.
SHARED: dict[str, dict[str, Any]] = {
    "all_runs": {"action": "store_true"},
    "by": {"metavar": "COLUMN"},
    "cluster": {"metavar": "COLUMN", "help": "rows that weigh as one run"},
    "hold_out": {"metavar": "QUERY"},
    "json": {"metavar": "FILE", "help": "write the answer at full precision"},
    "level": {"type": float, "default": 0.95, "help": "of intervals (%(default)s)"},
    "out": {"metavar": "FOLDER", "help": "write the figures into this folder"},
    "plot": {"metavar": "FILE"},
    "predict": {"metavar": "TABLE"},
    "seed": {"type": int, "default": 0},
    "where": {
        "action": "append", "default": [], "metavar": "QUERY",
        "help": "keep rows, e.g. 'task == \"imagenet\"'; may be repeated",
    },
}  # fmt: skip


def add_shared(parser: argparse._ActionsContainer, *names: str, **helps: str) -> None:
    """Shared options by name, those of `helps` with what they mean to this command."""
    for name in (*names, *helps):
        known = SHARED[name] | ({"help": helps[name]} if name in helps else {})
        parser.add_argument(f"--{name.replace('_', '-')}", **known)


def add_source_options(parser: argparse.ArgumentParser) -> None:
    option = parser.add_argument
    option("table", help="CSV, TSV, JSON lines, Parquet, a run-store folder or "
           "wandb://entity/project")  # fmt: skip
    option("--keys", type=lambda text: tuple(text.split(",")), default=HISTORY_KEYS,
           help="history keys to read from W&B (val/loss)")  # fmt: skip
    option("--decimal", choices=(".", ","),
           help="decimal mark, where a column does not tell what 3,765 is")  # fmt: skip


def add_table_options(parser: argparse.ArgumentParser) -> None:
    add_source_options(parser)
    columns = parser.add_argument_group("columns")
    for name, help in {
        "n": "parameters",
        "d": "training tokens or samples",
        "c": "training FLOPs",
        "u": "unique tokens or samples",
        "steps": "optimizer steps",
        "x": "the variable of a one-variable law",
        "l": "the loss, for a link from loss to metric",
        "error": "standard error of the metric; or a formula of columns",
        "run-id": "identifies a row; must be unique",
    }.items():
        columns.add_argument(f"--{name}", metavar="COLUMN", help=help)
    columns.add_argument("--metric", "--loss", metavar="COLUMN", help="to be predicted")
    for letter in "ndc":
        columns.add_argument(f"--{letter}-from", choices=sorted(DERIVATIONS),
                             help=f"derive {letter.upper()}: C = 6 N D")  # fmt: skip
    rows = parser.add_argument_group("rows (what is dropped is always listed)")
    add_shared(rows, "where", all_runs="keep runs that did not finish and mid-trunk losses")
    option = rows.add_argument
    option("--drop-highest-loss", type=int, default=0, metavar="K")
    option("--pool", action="append", default=[], metavar="COLUMN",
           help="take runs that differ in this column as comparable; may be repeated")  # fmt: skip
    option("--envelope", choices=RULES, help="keep the efficient frontier, by this rule")
    option("--bins", type=int, default=10, help="bins of the envelope in log x")
    option("--pad", type=float, default=0.0, help="decades added above the largest x")
    option("--quantile", type=float, default=0.1, help="for --envelope quantile")


def add_objective_options(parser: argparse.ArgumentParser) -> None:
    option = parser.add_argument
    option("--objective", choices=sorted((*OBJECTIVES, *ALIASES)), help="default: the law's own")
    option("--delta", type=float, default=1e-3, help="Huber width")
    add_shared(parser, "seed")


def read_mapped(
    args: argparse.Namespace,
    with_envelope: bool = True,
    prepare: Callable[[RunTable], RunTable] = lambda table: table,
) -> RunTable:
    """Table with canonical columns, after the row options; `prepare` changes it as it was read."""
    table = prepare(read_table(args.table, args.keys, args.decimal))
    table = replace(table, pooled=tuple(args.pool), all_runs=args.all_runs)
    is_store = "schema_version" in table.frame and "run_id" in table.frame
    if not args.all_runs:
        table = final_runs(table)
    columns = {letter: getattr(args, name) for name, letter in LETTERS.items()}
    columns |= {"metric": args.metric, "error": args.error}
    families = sorted(set(table.frame["family"].astype(str))) if is_store and len(table) else []
    if len(families) > 1 and args.metric is None:
        raise TableError(
            f"{args.table} holds runs of {' and '.join(families)}: name one study's folder, or a "
            "family by --where and columns by --n, --d, --c and --metric"
        )
    if len(families) == 1:
        columns["N"] = columns["N"] or PARAMETERS
        columns["D"] = columns["D"] or data_column(table)
        columns["C"] = columns["C"] or COMPUTE
        columns["metric"] = columns["metric"] or metrics_of(table)[0]
    rules = {letter.upper(): getattr(args, f"{letter}_from") for letter in "ndc"}
    derive = {letter: rule for letter, rule in rules.items() if rule}
    table = map_columns(table, columns, derive, args.run_id)
    if args.run_id is None:
        table = warn_of_repeated_ids(table)
    for query in args.where:
        table = where(table, query)
    if columns["metric"] is None:
        raise TableError("name the column to predict: --metric COLUMN (or --loss COLUMN)")
    if args.drop_highest_loss:
        table = drop_highest(table, "metric", args.drop_highest_loss)
    if with_envelope and args.envelope:
        x = "x" if "x" in table.conventions else "C"
        if x not in table.conventions:
            raise TableError("--envelope needs --x or --c")
        table = positive_values(table, [x], "metric")
        count = len(table)
        table = envelope(table, args.envelope, x, "metric", args.bins, args.pad, args.quantile)
        if len(table) < FEWEST_ON_ENVELOPE:
            raise TableError(
                f"--envelope {args.envelope} keeps {len(table)} of {count} rows, too few for a "
                "law: take another rule (bins, quantile), or fit all rows"
            )
    return table


def groups_of(table: RunTable, by: str | None) -> list[tuple[str, RunTable]]:
    """The table itself, named "all", or one table for each value of a column."""
    if by is None:
        return [("all", table)]
    column = table.own(by)
    if column not in table.frame:
        have = ", ".join(map(str, table.given.columns[:40]))
        raise TableError(f"--by {by!r}: no such column; there are: {have}")
    table = table.keep(table.frame[column].notna(), f"{by} is missing")
    values = table.frame[column]
    return [(str(v), table.with_frame(table.frame[values == v])) for v in dict.fromkeys(values)]


def beside(path: str, name: str) -> str:
    """The path with a name added to the file's, for one file a group."""
    if not name:
        return path
    place = Path(path)
    plain = re.sub(r"[^A-Za-z0-9.-]+", "_", name)
    return str(place.with_name(f"{place.stem}_{plain}{place.suffix}"))


def column_of(law: Law, table: RunTable) -> dict[str, str]:
    """Letters of a law -> columns; a one-variable law takes x, or the only letter there is."""
    out = {}
    for letter in law.columns:
        out[letter] = letter
        if letter == "x" and "x" not in table.conventions:
            have = [c for c in ("N", "D", "C", "S") if c in table.conventions]
            if len(have) != 1:
                raise TableError(
                    f"law {law.name} is of one variable: name it with --x COLUMN"
                    + (f" (or give only one of {', '.join(have)})" if have else "")
                )
            out[letter] = have[0]
        if letter == "L" and "L" not in table.conventions:
            raise TableError(
                f"law {law.name} predicts a metric from a loss: name it with --l COLUMN"
            )
    return out


def parse_laws(text: str) -> list[str]:
    """Names of laws; one's own, MODULE:CLASS, are known by their names from here on."""
    names = [get_law(n.strip()).name for n in text.split(",") if n.strip()]
    if not names:
        raise ValueError(f"--laws {text!r}: name some of {', '.join(LAWS)}")
    return names


def parse_assignments(items: Sequence[str], option: str) -> dict[str, float]:
    """["E=1.69", "alpha=0.3,beta=0.3"] -> numbers by name."""
    out: dict[str, float] = {}
    for item in items:
        for part in item.split(","):
            name, _, value = part.partition("=")
            try:
                out[name.strip()] = float(value)
            except ValueError as error:
                raise ValueError(f"{option} {part!r}: expected name=number") from error
    return out


def check_folder(*paths: str | None) -> None:
    """Raise before anything is computed if an answer could not be written."""
    for path in paths:
        if path not in (None, "-") and not Path(str(path)).absolute().parent.is_dir():
            raise TableError(f"{path}: there is no folder {Path(str(path)).parent} to write to")


def write_json(path: str | None, answer: Any) -> None:
    """Write JSON (to stdout for "-"); floats keep every digit, what is not finite becomes null."""
    if path is None:
        return
    text = json.dumps(finite(answer), indent=1, allow_nan=False) + "\n"
    if path == "-":
        sys.stdout.write(text)
    else:
        write_text(path, text)


def write_figures(folder: str | None, figures: Mapping[str, Callable[[], Figure]]) -> None:
    """Draw each figure into NAME.png of a folder and print where; nothing without a folder."""
    if folder is None:
        return
    Path(folder).mkdir(parents=True, exist_ok=True)
    for name, draw in figures.items():
        path = Path(folder) / f"{name}.png"
        with replacing(path) as temporary:
            draw().savefig(temporary)
        print(path)
