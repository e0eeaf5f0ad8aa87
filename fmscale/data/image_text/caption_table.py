"""Image-caption pairs in a CSV or TSV of image paths and captions, as open_clip reads it.

A record is a line, and each line is judged by itself: a quotation mark that is never closed must
not swallow the pairs after it.
"""

from __future__ import annotations

import csv
import os
import re
from collections.abc import Iterator
from pathlib import Path

from fmscale.data.image_text.pair_sources import (
    WHOLE_FILE,
    Listed,
    MalformedRecord,
    Place,
    checked,
    utf8,
)

SEPARATORS = ("\t", ",", ";")  # open_clip writes tabs, most others commas
QUOTED = re.compile('"(?:[^"]|"")*"')  # a field as CSV quotes it


class CaptionTable:
    """A table with a column of image paths and one of captions.

    Args:
        root: the table; paths in it are relative to its folder, or absolute.
        separator: what separates columns; None: the first of `SEPARATORS` that makes both columns
            of the header.

    Raises:
        ValueError: naming the file, if it is none, or its header has not each column once.
    """

    kind = "table"

    def __init__(
        self,
        root: str | os.PathLike[str],
        image_column: str = "filepath",
        caption_column: str = "title",
        separator: str | None = None,
    ) -> None:
        self.table = Path(root).expanduser()
        if not self.table.is_file():
            raise ValueError(f"data.root = {str(root)!r}: no such file. Give a CSV or TSV.")
        if separator is not None and len(separator) != 1:
            raise ValueError(
                f"data.separator = {separator!r}: give one character, or null to see it in the "
                "header."
            )
        self.root = self.table.parent
        self.columns = (image_column, caption_column)
        candidates = SEPARATORS if separator is None else (separator,)
        try:
            line = _utf8(next(self._lines(), ""))
            headers = {s: next(csv.reader([line], delimiter=s), []) for s in candidates}
        except (MalformedRecord, csv.Error) as error:
            raise ValueError(
                f"{self.table}, line 1: {error}. Save the table as CSV or TSV in UTF-8."
            ) from error
        fitting = [s for s, header in headers.items() if set(self.columns) <= set(header)]
        if not fitting:
            header = max(headers.values(), key=len)
            missing = [column for column in self.columns if column not in header]
            raise ValueError(
                f"{self.table} has no column {missing}; it has {header}. Set data.image_column, "
                "data.caption_column or data.separator."
            )
        self.separator = fitting[0]
        self.header = headers[self.separator]
        if twice := [column for column in self.columns if self.header.count(column) > 1]:
            raise ValueError(f"{self.table} has two columns {twice}. Rename one of each.")

    def files(self) -> list[Path]:
        return [self.table]

    def pairs(self) -> Iterator[Listed]:
        image_at, caption_at = map(self.header.index, self.columns)
        quoted = self.separator != "\t" or self._tabs_are_quoted()
        for number, line in enumerate(self._lines(), start=1):
            if number == 1 or not line:
                continue
            try:
                fields = self._fields(line, quoted)
                path, caption = fields[image_at], checked(fields[caption_at].strip())
            except MalformedRecord as error:
                yield Listed(f"line {number}", None, None, str(error))
                continue
            there = bool(path) and os.path.isfile(self.root / path)
            place = Place(path, 0, WHOLE_FILE) if there else None
            yield Listed(f"line {number}: {path}", place, caption or None)

    def _fields(self, line: str, quoted: bool) -> list[str]:
        line = _utf8(line)
        try:
            fields = (
                next(csv.reader([line.replace("\r", " ")], delimiter=self.separator, strict=True))
                if quoted
                else line.split(self.separator)
            )
        except csv.Error as error:
            raise MalformedRecord(f"it cannot be split into columns: {error}") from error
        if len(fields) != len(self.header):
            raise MalformedRecord(f"{len(fields)} columns where the header has {len(self.header)}")
        return fields

    def _tabs_are_quoted(self) -> bool:
        """Whether a file of tabs is written as CSV: no quotation mark stands where CSV has none,
        and the header or one doubled mark shows that they are not the captions' own."""
        shown = False
        for number, line in enumerate(self._lines()):
            for cell in (cell for cell in line.split(self.separator) if '"' in cell):
                if QUOTED.fullmatch(cell) is None:
                    return False
                shown |= number == 0 or '""' in cell[1:-1]
        return shown

    def _lines(self) -> Iterator[str]:
        """Lines without their ends; bytes that are not UTF-8 are kept as halves of pairs."""
        with open(self.table, newline="", encoding="latin-1") as file:
            first = file.readline()
        # Only a table of an old Macintosh has no line feeds; elsewhere a return is a space.
        end = "\r" if first.endswith("\r") else "\n"
        with open(self.table, newline=end, encoding="utf-8-sig", errors="surrogateescape") as file:
            yield from (line.rstrip("\r\n") for line in file)


def _utf8(line: str) -> str:
    return utf8(line.encode("utf-8", "surrogateescape"))
