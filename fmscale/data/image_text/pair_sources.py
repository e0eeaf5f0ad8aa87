"""Where image-caption pairs lie: what a source lists, and tar files as img2dataset writes them.

A source lists its pairs once, for the index (`pair_index`), and then reads single images from
known places. Whatever the format, a place is a range of bytes in a file.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, Protocol

from fmscale.data.file_names import is_hidden

IMAGE_SUFFIXES = ("jpg", "jpeg", "png", "webp", "gif", "bmp", "tif", "tiff")
TAR = re.compile(r"\.(tar|tgz|tar\.(gz|bz2|xz|zst))$")
WHOLE_FILE = -1  # size of a place that is a file of its own
LONGEST_CAPTION = 1 << 15  # bytes; more is a mistake, such as a mark that was never closed
LONGEST_JSON = 1 << 24  # bytes of a member that holds a caption among other things


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
    problem: str | None = None  # what is wrong with its record, whatever else there is


class MalformedRecord(ValueError):
    """A record from which no caption can be taken; the message says why."""


class PairSource(Protocol):
    """What `PairIndex` needs of a format."""

    root: Path
    kind: str

    def files(self) -> list[Path]:
        """The files that are listed, in order."""

    def pairs(self) -> Iterator[Listed]:
        """All pairs in a fixed order; a part that is missing is None."""


class TarShards:
    """Tars in the layout of webdataset: members of one key lie in one tar, side by side or apart.

    The caption is the member `.txt`, or "caption" of the member `.json`. Hidden members are none.
    `root` is a folder (all .tar files in it, by name) or one tar.
    """

    kind = "webdataset"

    def __init__(self, root: str | os.PathLike[str]) -> None:
        path = Path(root).expanduser()
        if not path.exists():
            raise ValueError(f"data.root = {str(root)!r}: no such file or folder.")
        self.root = path.parent if path.is_file() else path
        found = (t for t in path.rglob("*.t*") if not is_hidden(t.relative_to(path)))
        tars = [path] if path.is_file() else sorted(t for t in found if TAR.search(t.name))
        for packed in (tar for tar in tars if tar.suffix != ".tar" and tar != path):
            raise ValueError(f"data.root = {str(root)!r}: {packed.name} is compressed. Unpack it, "
                             "or take it out.")  # fmt: skip
        self._files = tars
        if not self._files:
            raise ValueError(
                f"data.root = {str(root)!r} holds no .tar file. Give the folder that img2dataset "
                "wrote with output_format=webdataset."
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
    found: dict[str, _Members] = {}
    key = ""
    for member in tar:
        if not member.isfile() or is_hidden(member.name):
            continue
        folder, _, base = member.name.rpartition("/")
        stem, _, suffix = base.partition(".")
        before, key, suffix = key, f"{folder}/{stem}", suffix.lower()
        if suffix in IMAGE_SUFFIXES and key != before and key in found and found[key].image:
            yield found.pop(key).pair()  # of two joined tars, both of which count from 0
        found.setdefault(key, _Members(name, key)).add(tar, member, suffix)
    yield from (members.pair() for members in found.values())


@dataclass
class _Members:
    """What a tar holds under one key, as far as it was read."""

    file: str
    key: str
    image: Place | None = None
    caption: str | None = None
    json_caption: str | None = None  # the caption in a .json
    problems: dict[str, str] = field(default_factory=dict)  # by ending

    def add(self, tar: tarfile.TarFile, member: tarfile.TarInfo, suffix: str) -> None:
        try:
            if suffix in IMAGE_SUFFIXES:
                if self.image is not None:
                    raise MalformedRecord("two pictures of one key")
                self.image = Place(self.file, member.offset_data, member.size)
            elif suffix == "txt":
                self.caption = _text(tar, member, LONGEST_CAPTION)
            elif suffix == "json":
                self.json_caption = _caption_of_json(_text(tar, member, LONGEST_JSON))
        except MalformedRecord as error:
            self.problems[suffix] = f".{suffix}: {error}"

    def pair(self) -> Listed:
        if self.caption:
            self.problems.pop("json", None)  # its caption is not needed
        problem = next(iter(self.problems.values()), None)
        caption = self.caption or self.json_caption
        return Listed(f"{self.file}:{self.key}", self.image, caption, problem)


def _check_end(tar: tarfile.TarFile, path: Path) -> None:
    """tarfile takes a tar that was cut short for one that ends there; its end mark tells."""
    last = tar.getmembers()[-1:]
    end = sum(m.offset_data + -(-m.size // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE for m in last)
    with open(path, "rb") as file:
        file.seek(end)
        if file.read(tarfile.BLOCKSIZE) != tarfile.NUL * tarfile.BLOCKSIZE:
            raise tarfile.ReadError("it was cut short: its end mark is missing")


def _text(tar: tarfile.TarFile, member: tarfile.TarInfo, longest: int) -> str:
    if member.size > longest:
        raise MalformedRecord(f"{member.size:,} bytes, more than {longest:,}")
    file = tar.extractfile(member)
    assert file is not None
    return utf8(file.read()).strip()


def _caption_of_json(text: str) -> str | None:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise MalformedRecord(f"no JSON ({type(error).__name__}: {error})") from error
    caption = found.get("caption") if isinstance(found, dict) else None
    if not isinstance(caption, str):
        return None
    return checked(caption.strip()) or None


def utf8(content: bytes) -> str:
    """The text in some bytes, or `MalformedRecord`."""
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        raise MalformedRecord(
            f"byte {content[error.start]:#04x} at place {error.start} is not UTF-8"
        ) from error


def checked(caption: str) -> str:
    """The caption, if it is text of a caption's length, or `MalformedRecord`."""
    try:
        caption.encode()
    except UnicodeEncodeError as error:  # JSON can spell what stands for nothing
        raise MalformedRecord("half a surrogate pair in its caption") from error
    if len(caption) > LONGEST_CAPTION:
        raise MalformedRecord(f"a caption of {len(caption):,} characters")
    return caption


def fingerprint(source: PairSource) -> str:
    """Changes whenever a listed file does: names, sizes and times of change."""
    digest = hashlib.sha256(source.kind.encode())
    for path in source.files():
        stat = path.stat()
        name = path.relative_to(source.root).as_posix()
        digest.update(f"{name} {stat.st_size} {stat.st_mtime_ns}\n".encode())
    return digest.hexdigest()
