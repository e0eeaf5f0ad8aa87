"""What a preparation reads: parts of files, grouped into pieces, and the documents in them."""

from __future__ import annotations

from dataclasses import dataclass

BLOCK = 1 << 22  # a longer text file counts as several documents, cut at line ends


@dataclass(frozen=True)
class Part:
    """A range of one file (or of a remote data set)."""

    kind: str  # "text", "jsonl", "parquet", "arrow", "hub" or "unknown": see `readers`
    path: str
    begin: int  # bytes, row groups, record batches or remote shards
    end: int
    size: int  # bytes of input, for grouping and progress
    changed: int = 0  # time of the file's last change, ns


@dataclass(frozen=True)
class Piece:
    """Parts that become one shard."""

    parts: tuple[Part, ...]
    split: str | None  # "train" or "validation" as a whole; None: divided by document

    @property
    def size(self) -> int:
        return sum(part.size for part in self.parts)


@dataclass(frozen=True)
class Document:
    """Some text and where it comes from."""

    text: str
    source: str  # what `exclude` looks at
    where: str  # for a person: file and row
    score: float | None = None


@dataclass(frozen=True)
class Unreadable:
    """A document that is none."""

    reason: str  # a column of the manifest
    where: str
    message: str  # what is wrong, and the remedy
