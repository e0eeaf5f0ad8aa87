"""Where image-caption pairs lie: tar files as img2dataset writes them, or a table of paths.

A source lists its pairs once, for the index (`pair_index`), and then reads single images from
known places. Whatever the format, a place is a range of bytes in a file.
"""

from __future__ import annotations

import csv
import hashlib
import json
import os
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, Protocol, TextIO

IMAGE_SUFFIXES = ("jpg", "jpeg", "png", "webp")
SEPARATORS = ("\t", ",", ";")  # open_clip writes tabs, most others commas
WHOLE_FILE = -1  # size of a place that is a file of its own


class Place(NamedTuple):
    """Bytes of one image."""

    file: str  # relative to the source's root
    offset: int
    size: int


class Listed(NamedTuple):
    """One pair, or what there is of it."""

    key: str
    image: Place | None
    caption: str | None


class PairSource(Protocol):
    """What `PairIndex` needs of a format."""

    root: Path
    kind: str

    def files(self) -> list[Path]:
        """The files that are listed, in order."""
        ...

    def pairs(self) -> Iterator[Listed]:
        """All pairs in a fixed order; a part that is missing is None."""
        ...


class TarShards:
    """Tars in the layout of webdataset: members of one key follow each other.

    The caption is the member `.txt`, or "caption" of the member `.json`.

    Args:
        root: a folder (all .tar files in it, by name) or one tar.
    """

    kind = "webdataset"

    def __init__(self, root: str | os.PathLike[str]) -> None:
        path = Path(root).expanduser()
        if not path.exists():
            raise ValueError(f"data.root = {str(root)!r}: no such file or folder.")
        self._files = [path] if path.is_file() else sorted(path.rglob("*.tar"))
        self.root = path.parent if path.is_file() else path
        if not self._files:
            raise ValueError(
                f"data.root = {str(root)!r} holds no .tar file. Give the folder that img2dataset "
                "wrote with output_format=webdataset; compressed tars must be unpacked first."
            )

    def files(self) -> list[Path]:
        return self._files

    def pairs(self) -> Iterator[Listed]:
        for path in self._files:
            name = path.relative_to(self.root).as_posix()
            try:
                with tarfile.open(path, "r:") as tar:
                    yield from _of_tar(tar, name)
                    _check_end(tar, path)
            except (tarfile.TarError, EOFError, OSError) as error:
                raise ValueError(
                    f"{path} cannot be read as a tar ({error}). Fetch or write it again, or take "
                    "it out of data.root."
                ) from error


def _of_tar(tar: tarfile.TarFile, name: str) -> Iterator[Listed]:
    key, image, caption, told = "", None, None, None
    for member in tar:
        if not member.isfile():
            continue
        folder, _, base = member.name.rpartition("/")
        stem, _, suffix = base.partition(".")
        own = f"{folder}/{stem}"
        if own != key:
            if key:
                yield Listed(f"{name}:{key}", image, caption or told)
            key, image, caption, told = own, None, None, None
        suffix = suffix.lower()
        if suffix in IMAGE_SUFFIXES:
            image = Place(name, member.offset_data, member.size)
        elif suffix == "txt":
            caption = _text(tar, member)
        elif suffix == "json":
            told = _caption_of_json(_text(tar, member))
    if key:
        yield Listed(f"{name}:{key}", image, caption or told)


def _check_end(tar: tarfile.TarFile, path: Path) -> None:
    """tarfile takes a tar that was cut short for one that ends there; its end mark tells."""
    last = tar.getmembers()[-1:]
    end = sum(m.offset_data + -(-m.size // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE for m in last)
    with open(path, "rb") as file:
        file.seek(end)
        if file.read(tarfile.BLOCKSIZE) != tarfile.NUL * tarfile.BLOCKSIZE:
            raise tarfile.ReadError("it was cut short: its end mark is missing")


def _text(tar: tarfile.TarFile, member: tarfile.TarInfo) -> str:
    file = tar.extractfile(member)
    assert file is not None
    return file.read().decode("utf-8", errors="replace").strip()


def _caption_of_json(text: str) -> str | None:
    try:
        found = json.loads(text)
    except ValueError:
        return None
    caption = found.get("caption") if isinstance(found, dict) else None
    return caption.strip() or None if isinstance(caption, str) else None


class CaptionTable:
    """A CSV or TSV with a column of image paths and one of captions, as open_clip reads it.

    Args:
        root: the table; paths in it are relative to its folder, or absolute.
        image_column: name of the column of paths.
        caption_column: name of the column of captions.
        separator: what separates columns; None: the first of `SEPARATORS` that makes both columns
            of the header.
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
        headers = {}
        for candidate in SEPARATORS if separator is None else (separator,):
            with self._open() as file:
                headers[candidate] = next(csv.reader(file, delimiter=candidate), [])
        fitting = [s for s, header in headers.items() if set(self.columns) <= set(header)]
        if not fitting:
            header = max(headers.values(), key=len)
            missing = [column for column in self.columns if column not in header]
            raise ValueError(
                f"{self.table} has no column {missing}; it has {header}. Set data.image_column, "
                "data.caption_column or data.separator."
            )
        self.separator = fitting[0]

    def files(self) -> list[Path]:
        return [self.table]

    def pairs(self) -> Iterator[Listed]:
        image_column, caption_column = self.columns
        with self._open() as file:
            for number, row in enumerate(csv.DictReader(file, delimiter=self.separator), start=2):
                path, caption = row[image_column], (row[caption_column] or "").strip()
                there = bool(path) and (self.root / path).is_file()
                place = Place(path, 0, WHOLE_FILE) if there else None
                yield Listed(f"line {number}: {path}", place, caption or None)

    def _open(self) -> TextIO:
        return open(self.table, newline="", encoding="utf-8-sig")


def fingerprint(source: PairSource) -> str:
    """Changes whenever a listed file does: names, sizes and times of change."""
    digest = hashlib.sha256(source.kind.encode())
    for path in source.files():
        stat = path.stat()
        name = path.relative_to(source.root).as_posix()
        digest.update(f"{name} {stat.st_size} {stat.st_mtime_ns}\n".encode())
    return digest.hexdigest()
