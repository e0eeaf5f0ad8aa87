"""CSV and its like: separator, header and decimal mark, found from the whole file."""

from __future__ import annotations

import codecs
import csv
import itertools
import os
import re
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd

from analysis.tables.number_formats import decimal_marks, readings
from analysis.tables.table import TableError, is_number, numerals_of

SEPARATORS = "\t;|,"  # the rarest in names and numbers first
FORMULA = re.compile(r"^(?:[=@\t\r]|[+-](?![\d.,\s]|$))")
DISARMED = re.compile(r"^'(?=[=@\t\r+-])")
TAIL = 65536  # bytes at the end of a file
LOOKED_AT = 50  # rows from which the separator is found


def read_delimited(
    path: Path, separator: str | None, decimal: str | None
) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """A text table, and what a reader should know of how its numbers were read.

    Args:
        separator: between cells; None: found from the first rows.
        decimal: "." or ",", for numbers that can be read either way; None: found from the columns.

    Raises:
        TableError: if the file is no regular table of text.
    """
    with path.open("rb") as file:
        start = file.read(3)
    utf16 = start[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
    encoding = "utf-16" if utf16 else "utf-8-sig"
    try:
        separator = separator or _find_separator(path, encoding)
        _check_header(path, encoding, separator)
        frame = _read(path, encoding, separator)
        torn = len(frame) > 0 and _is_torn(path, separator, frame.shape[1])
        if torn:
            frame = frame[:-1].copy()
        notes = settle_decimals(
            frame, decimal, separator == ";", lambda: _read(path, encoding, separator, dtype=str)
        )
    except pd.errors.EmptyDataError as error:
        raise TableError(f"{path}: the file is empty") from error
    except pd.errors.ParserWarning as error:
        raise TableError(f"{path}: a row has more cells than the header has names") from error
    except (pd.errors.ParserError, csv.Error) as error:
        raise TableError(f"{path}: not a regular table ({error})") from error
    except UnicodeError as error:
        raise TableError(f"{path}: not UTF-8 text ({error}); save it as UTF-8") from error
    if torn:
        notes = (*notes, f"{path.name}: 1 line left out: the last line is torn")
    return frame, notes


def _is_torn(path: Path, separator: str, width: int) -> bool:
    """Whether the last line has too few cells and no end: its last number may be cut."""
    with path.open("rb") as file:
        file.seek(-min(TAIL, path.stat().st_size), os.SEEK_END)
        *_, last = file.read().replace(b"\0", b"").decode("utf-8", "replace").split("\n")
    return bool(last) and len(next(csv.reader([last], delimiter=separator), [])) < width


def _rows(path: Path, encoding: str, separator: str) -> list[list[str]]:
    """The first rows as cells; a quoted cell may hold separators and line breaks."""
    with path.open(encoding=encoding, newline="") as file:
        return [r for r in itertools.islice(csv.reader(file, delimiter=separator), LOOKED_AT) if r]


def _find_separator(path: Path, encoding: str) -> str:
    """The mark that cuts header and rows into equally many cells, but for empty ones at the end."""
    found = {separator: _rows(path, encoding, separator) for separator in SEPARATORS}
    for separator, rows in found.items():
        width = len(rows[0]) if rows else 0
        if width > 1 and all(len(r) >= width and not any(r[width:]) for r in rows):
            return separator
    return max(SEPARATORS, key=lambda s: (len(found[s][0]) if found[s] else 0, s == ","))


def _check_header(path: Path, encoding: str, separator: str) -> None:
    rows = _rows(path, encoding, separator)
    names = [name.strip() for name in rows[0]] if rows else []
    twice = sorted({name for name in names if name and names.count(name) > 1})
    if twice:
        raise TableError(f"{path}: the header names {', '.join(twice)} twice; rename one")


def _read(path: Path, encoding: str, separator: str, **options: Any) -> pd.DataFrame:
    # Before 3.1 pandas read floats with a wrong last digit by default; since then it warns.
    old = tuple(int(v) for v in pd.__version__.split(".")[:2]) < (3, 1)
    exact: dict[str, Any] = {"float_precision": "round_trip"} if old else {}
    with warnings.catch_warnings():
        # Rows longer than the header would shift every column, or lose their end.
        warnings.simplefilter("error", pd.errors.ParserWarning)
        frame: pd.DataFrame = pd.read_csv(
            path, sep=separator, encoding=encoding, index_col=False, low_memory=False,
            **exact, **options,
        )  # fmt: skip
    frame = frame.rename(columns=str.strip)
    for column in frame:
        cells = {c: c[1:] for c in numerals_of(frame[column]) if DISARMED.match(c)}
        if cells:
            frame[column] = frame[column].replace(cells)
    return frame


def without_formulas(frame: pd.DataFrame) -> pd.DataFrame:
    """Cells and names that a spreadsheet would run as formulas, with an apostrophe before them."""

    def disarm(value: Any) -> Any:
        return FORMULA.sub(r"'\g<0>", value) if isinstance(value, str) else value

    texts = [str(c) for c in frame if not is_number(frame[c])]
    return frame.assign(**{c: frame[c].map(disarm) for c in texts}).rename(columns=disarm)


def settle_decimals(
    frame: pd.DataFrame,
    decimal: str | None,
    semicolons: bool = False,
    written: Callable[[], pd.DataFrame] | None = None,
) -> tuple[str, ...]:
    """Turn columns of text into numbers, in place, where their decimal mark is known.

    A column tells its mark by one cell that is a number under no other (1.234,5; 3,76; 1,234,567).
    Where all its cells are like 3,765 the other columns tell it, then semicolons between cells
    (spreadsheets write them where the comma is the decimal mark). What nothing tells stays text,
    and is refused where it is needed as a number.

    Args:
        decimal: the user's own word for such columns.
        written: gives the same table with all cells as text.

    Returns:
        One line for each column that was read by what other columns tell.
    """
    cells = {c: numerals_of(frame[c]) for c in frame if not is_number(frame[c])}
    marks = {c: decimal_marks(found) for c, found in cells.items()}
    as_text = frame
    if written is not None and {mark for mark, _ in marks.values()} & {",", "3,765"}:
        as_text = written()
        floats = [c for c in frame if pd.api.types.is_float_dtype(frame[c])]
        marks |= {c: decimal_marks(numerals_of(as_text[c])) for c in floats}
    told = {mark for mark, _ in marks.values() if mark in (".", ",")}
    either = {mark for mark, _ in marks.values() if mark in ("3.765", "3,765")}
    notes = []
    for c, (mark, example) in marks.items():
        if mark in either:
            chosen = decimal or _by_others(mark, told, either, semicolons)
            if chosen and not decimal and (chosen not in example or (chosen == "," and not told)):
                notes.append(
                    f"{c}: {example} is read as {readings(example)[chosen]:.15g}, as the rest of "
                    f"the file tells; --decimal {'.' if chosen == ',' else ','} reads it as "
                    f"{readings(example)['.' if chosen == ',' else ',']:.15g}"
                )
            mark = chosen or "mixed"
        if mark == "," or (mark == "." and not is_number(frame[c])):
            frame[c] = _numbers(as_text[c], mark, keep_labels=c in cells and mark == marks[c][0])
    return tuple(notes)


def _by_others(mark: str, told: set[str], either: set[str], semicolons: bool) -> str | None:
    """The decimal mark of a column like 3,765 (or 3.765) by what the others tell, if they do."""
    if told:
        agreed = next(iter(told)) if len(told) == 1 else None
        return None if agreed == "." and mark == "3,765" and semicolons else agreed
    if len(either) == 2:
        return None if semicolons else "."
    return "." if mark == "3.765" else "," if semicolons else None


def _numbers(column: pd.Series[Any], mark: str, keep_labels: bool) -> pd.Series[Any]:
    """Cells as numbers; labels that are numbers as well (70B, 46.7%) stay what they are."""
    cells = {cell: readings(cell) for cell in numerals_of(column)}
    if keep_labels and any(not cell.strip()[-1].isdigit() for cell in cells):
        return column
    found = {c: int(v[mark]) if v[mark].is_integer() else v[mark] for c, v in cells.items()}
    return column.map(lambda v: found.get(v, v)).infer_objects()
