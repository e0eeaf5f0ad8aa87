"""A study as one CSV file: a row for each record, for committing beside an experiment."""

from __future__ import annotations

import argparse
import csv
import io
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fmscale.runs.files import write_atomically
from fmscale.runs.store import Study

EXAMPLE = """\
examples:
  fmscale export gpt_demo --out gpt_demo.csv
  fmscale export gpt_lr --out results.csv --columns model n_tokens lr_peak val_loss status
  fmscale export clip_objectives --out results.csv --columns hyperparameters.objective._target_ \\
      n_samples zero_shot_error
"""


def rows(study: Study, nested: Sequence[str] = ()) -> list[dict[str, Any]]:
    """Records of a study, metrics among the columns, nested provenance left out.

    Args:
        nested: parts of the provenance to add, by dotted path, e.g.
            "hyperparameters.optimizer.weight_decay"; absent where a record lacks them.
    """
    found = []
    for folder in study.runs():
        if folder.is_finished():
            stored = folder.record()
            record, flat = stored.to_dict(), stored.scalars()
            precision = record["environment"].get("precision")
            inner = {path: _walk(record, path) for path in nested}
            inner = {path: value for path, value in inner.items() if value is not None}
            found.append({**flat, **record["metrics"], "precision": precision, **inner})
    return found


def _walk(record: dict[str, Any], path: str) -> Any:
    node: Any = record
    for key in path.split("."):
        node = node.get(key) if isinstance(node, dict) else None
    return node


def to_csv(table: list[dict[str, Any]], columns: list[str] | None = None) -> str:
    """The rows as CSV text; a missing value is an empty cell.

    Raises:
        ValueError: if a column is asked for that no row has.
    """
    known = list(dict.fromkeys(name for row in table for name in row))
    unknown = [name for name in columns or [] if name not in known]
    if unknown:
        raise ValueError(f"no record has the column(s) {', '.join(unknown)}; known: {known}")
    text = io.StringIO()
    writer = csv.DictWriter(
        text, columns or known, restval="", extrasaction="ignore", lineterminator="\n"
    )
    writer.writeheader()
    writer.writerows(table)
    return text.getvalue()


def main() -> None:
    """Entry point of `fmscale export`."""
    parser = argparse.ArgumentParser(
        prog="fmscale export",
        description=__doc__,
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("study")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--columns", nargs="+")
    parser.add_argument("--runs-dir", default=os.environ.get("FMSCALE_RUNS_DIR", "runs"))
    options = parser.parse_args()
    nested = [name for name in options.columns or [] if "." in name]
    table = rows(Study.open(options.runs_dir, options.study), nested)
    if not table:
        parser.error(f"{options.runs_dir}/{options.study} holds no finished runs")
    try:
        write_atomically(options.out, to_csv(table, options.columns))
    except ValueError as error:
        parser.error(str(error))
    print(f"{len(table)} runs written to {options.out}")


if __name__ == "__main__":
    main()
