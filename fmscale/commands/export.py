"""A study as one file, CSV or Parquet: a row for each record.

Keys of the configuration in which the runs differ are columns of their names (model.dropout).
"""

from __future__ import annotations

import csv
import io
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from fmscale.commands.arguments import make_parser, open_study
from fmscale.errors import config_errors_exit
from fmscale.runs.files import write_atomically
from fmscale.runs.hyperparameters import differing, of_record
from fmscale.runs.index import Index
from fmscale.runs.record import RunRecord, flat
from fmscale.runs.store import Study

EXAMPLE = """\
examples:
  fmscale export gpt_demo --out gpt_demo.csv
  fmscale export gpt_demo --out gpt_demo.parquet
  fmscale export gpt_lr --out results.csv --columns model n_tokens lr_peak val_loss status
  fmscale export clip_objectives --out results.csv --columns hyperparameters.objective._target_ \\
      n_samples zero_shot_error
"""


def rows(study: Study, nested: Sequence[str] = ()) -> list[dict[str, Any]]:
    """Records of a study, metrics and what the runs differ in among the columns.

    Those that cannot be read are left out, with a line each on standard error.

    Args:
        nested: parts of the provenance to add, by dotted path, e.g.
            "hyperparameters.optimizer.weight_decay"; absent where a record lacks them.
    """
    found = []
    index = Index(study.path, "record.json", RunRecord.check)
    records = list(index.read().values())
    for error in index.broken.values():
        print(error, file=sys.stderr)
    varied = differing(map(of_record, records))
    for record, own in zip(records, varied, strict=True):
        inner = {path: _walk(record, path) for path in nested}
        inner = {path: value for path, value in inner.items() if value is not None}
        here = {"study": study.path.absolute().name}  # runs taken over are stored with another's
        found.append({**flat(record), **here, **own, **inner})
    return found


def _walk(record: dict[str, Any], path: str) -> Any:
    node: Any = record
    for key in path.split("."):
        node = node.get(key) if isinstance(node, dict) else None
    return node


def select(table: list[dict[str, Any]], columns: list[str] | None = None) -> list[str]:
    """The columns to write, in order: those asked for, or all.

    Raises:
        ValueError: if a column is asked for that no row has.
    """
    known = list(dict.fromkeys(name for row in table for name in row))
    unknown = [name for name in columns or [] if name not in known]
    if unknown:
        raise ValueError(f"no record has the column(s) {', '.join(unknown)}; known: {known}")
    return columns or known


def to_csv(table: list[dict[str, Any]], columns: list[str] | None = None) -> str:
    """The rows as CSV text; a missing value is an empty cell."""
    text = io.StringIO()
    writer = csv.DictWriter(
        text, select(table, columns), restval="", extrasaction="ignore", lineterminator="\n"
    )
    writer.writeheader()
    writer.writerows(table)
    return text.getvalue()


def to_parquet(table: list[dict[str, Any]], columns: list[str] | None = None) -> bytes:
    """The rows as a Parquet file; a missing value is null.

    Raises:
        ValueError: if pyarrow is not installed.
    """
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise ValueError("Parquet needs pyarrow: pip install 'fmscale[report]'") from error
    chosen = select(table, columns)
    content = pyarrow.table({name: _of_one_type(table, name) for name in chosen})
    sink = io.BytesIO()
    pyarrow.parquet.write_table(content, sink)
    return sink.getvalue()


def _of_one_type(table: list[dict[str, Any]], name: str) -> list[Any]:
    """A column; as text if it holds text beside numbers, as "null" beside a rate."""
    column = [row.get(name) for row in table]
    if not any(isinstance(value, str) for value in column):
        return column
    return [value if value is None else str(value) for value in column]


def main() -> None:
    """Entry point of `fmscale export`."""
    parser = make_parser("export", __doc__, EXAMPLE)
    parser.add_argument("study")
    parser.add_argument(
        "--out", type=Path, required=True, metavar="FILE", help="ends with .csv or .parquet"
    )
    parser.add_argument("--columns", nargs="+", metavar="NAME", help="default: all")
    options = parser.parse_args()
    formats: dict[str, Callable[..., str | bytes]] = {".csv": to_csv, ".parquet": to_parquet}
    write = formats.get(options.out.suffix)
    if write is None:
        parser.error(f"--out {options.out} must end with {' or '.join(formats)}")
    nested = [name for name in options.columns or [] if "." in name]
    with config_errors_exit(ValueError, OSError):
        study = open_study(options.runs_dir, options.study)
        table = rows(study, nested)
        if not table:
            raise ValueError(f"{study.path} holds no finished runs; see fmscale status")
        write_atomically(options.out, write(table, options.columns))
    print(f"{len(table)} runs written to {options.out}")
