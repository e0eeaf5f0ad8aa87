"""Readers of plain text and JSONL.

Readers stream: at most one document, or one block of a long file, is in memory. They yield what
cannot be read as well, so that rows keep their numbers and the caller decides what to do.
"""

from __future__ import annotations

import gzip
import io
import json
import math
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from fmscale.data.preparation.document import BLOCK, Document, Part, Unreadable
from fmscale.data.preparation.settings import Recipe


def read_text(part: Part, recipe: Recipe) -> Iterator[Document | Unreadable]:
    """Blocks of a text file, each ending at a line's end; a short file is one block."""
    path = Path(part.path)
    with path.open("rb") as file:
        total = path.stat().st_size
        offset = _block_start(file, part.begin, total)
        for nominal in range(part.begin + BLOCK, part.end + BLOCK, BLOCK):
            end = _block_start(file, min(nominal, part.end), total)
            if end == offset:  # the block before ended with the file
                break
            file.seek(offset)
            where = part.path if total <= BLOCK else f"{part.path}, bytes {offset} to {end}"
            yield _decoded(file.read(end - offset), part.path, where, offset, recipe)
            offset = end


def _block_start(file: IO[bytes], nominal: int, total: int) -> int:
    """The first line start at or after a nominal offset; the same whoever asks."""
    if nominal == 0 or nominal >= total:
        return min(nominal, total)
    file.seek(nominal - 1)
    ahead = file.readline(BLOCK)
    if ahead.endswith(b"\n") or nominal - 1 + len(ahead) == total:
        return nominal - 1 + len(ahead)
    # A block without a line's end: cut between two characters of UTF-8.
    file.seek(nominal)
    return nominal + next((i for i, b in enumerate(file.read(4)) if b & 0xC0 != 0x80), 0)


def _decoded(
    data: bytes, source: str, where: str, offset: int, recipe: Recipe
) -> Document | Unreadable:
    try:
        return Document(data.decode(), source, where)
    except UnicodeDecodeError as error:
        if recipe.on_bad == "replace":
            return Document(data.decode(errors="replace"), source, where)
        return Unreadable(
            "undecodable",
            where,
            f"{source}: byte {data[error.start]:#04x} at offset {offset + error.start} is not "
            "UTF-8. Convert the file, or choose --on-bad drop or replace",
        )


def read_unknown(part: Part, recipe: Recipe) -> Iterator[Document | Unreadable]:
    """A file of a format that is not read, or damaged, as one document that cannot be."""
    yield Unreadable("unknown_format", part.path, f"{part.path} is no text, or damaged")


def read_jsonl(part: Part, recipe: Recipe) -> Iterator[Document | Unreadable]:
    """Lines that begin inside the part; empty ones are skipped."""
    try:
        yield from _lines(part, recipe)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:  # what follows is lost
        yield Unreadable("undecodable", part.path, f"{part.path} is damaged ({error}). Fetch it "
                         "again, or choose --on-bad drop to take what comes before")  # fmt: skip


def _lines(part: Part, recipe: Recipe) -> Iterator[Document | Unreadable]:
    with _open_lines(part.path) as file:
        if part.begin:
            file.seek(part.begin - 1)
            file.readline()  # belongs to the part before, or is the line break before this one
        while (offset := file.tell()) < part.end:
            line = file.readline()
            if not line:
                break
            if not line.strip():
                continue
            where = f"{part.path}, line at byte {offset}"
            found = _from_line(line, part.path, where, recipe)
            if isinstance(found, Unreadable) and recipe.on_bad == "stop":
                # Counting lines means reading the file from its start: only for a message.
                exact = f"{part.path}, line {_row_at(part.path, offset)}"
                found = Unreadable(found.reason, exact, found.message.replace(where, exact))
            yield found


def _open_lines(path: str) -> IO[bytes]:
    if path.lower().endswith(".gz"):
        return io.BufferedReader(gzip.open(path, "rb"))
    return Path(path).open("rb")


def _from_line(line: bytes, path: str, where: str, recipe: Recipe) -> Document | Unreadable:
    try:
        values = json.loads(line)
    except UnicodeDecodeError:
        problem = "is not UTF-8"
    except (ValueError, RecursionError) as error:
        problem = f"is not JSON ({error})"
    else:
        if isinstance(values, dict):
            return from_fields(values, path, where, recipe)
        problem = f"holds a {type(values).__name__} instead of an object"
    return Unreadable("not_json", where, f"{where} {problem}. Repair it, or choose --on-bad drop")


def _row_at(path: str, offset: int) -> int:
    """The number of the line that begins at an offset, from 1."""
    row, left = 1, offset
    with _open_lines(path) as file:
        while left > 0:
            data = file.read(min(left, 1 << 20))
            row += data.count(b"\n")
            left -= len(data)
    return row


def from_fields(
    values: dict[str, Any], path: str, where: str, recipe: Recipe
) -> Document | Unreadable:
    """A document from a row with named fields."""
    text = values.get(recipe.field)
    if not isinstance(text, str):
        problem = (
            f"has no field {recipe.field!r} (it has {', '.join(map(repr, values)) or 'none'})"
            if recipe.field not in values
            else f"has {text!r:.60} in field {recipe.field!r}, which is no text"
        )
        return Unreadable(
            "missing_field",
            where,
            f"{where} {problem}. Name the field that holds the text (--field), or choose --on-bad "
            "drop",
        )
    try:
        text.encode()
    except UnicodeEncodeError:  # JSON can spell halves of surrogate pairs
        if recipe.on_bad != "replace":
            return Unreadable("undecodable", where, f"{where}: field {recipe.field!r} holds half a "
                              "surrogate pair. Choose --on-bad drop or replace")  # fmt: skip
        text = text.encode(errors="replace").decode()
    source, score = path, None
    for name in (recipe.source_field, recipe.score_field):
        if name is not None and values.get(name) is None:
            return Unreadable("missing_field", where, f"{where} has no field {name!r} (it has "
                              f"{', '.join(map(repr, values))}). Choose --on-bad drop")  # fmt: skip
    if recipe.source_field is not None:
        source = str(values[recipe.source_field])
    if recipe.score_field is not None:
        try:
            score = float(values[recipe.score_field])
        except (TypeError, ValueError):
            score = math.nan
        if math.isnan(score):
            return Unreadable("missing_field", where, f"{where} has {values[recipe.score_field]!r} "
                              f"in field {recipe.score_field!r}, which is no number. Choose "
                              "--on-bad drop")  # fmt: skip
    return Document(text, source, where, score)
