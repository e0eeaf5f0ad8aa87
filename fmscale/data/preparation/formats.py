"""What format a file is in, judged by its name and by how it begins, never by its name alone.

Only text, JSON lines and columns are read. Whatever else is known is refused by its name: read as
text, it would train a model on braces, markup or compressed bytes.
"""

from __future__ import annotations

import gzip
import json
import zlib
from pathlib import Path

HEAD = 1 << 16  # bytes that are looked at
JSON_LINES = (".jsonl", ".ndjson", ".json")
_UNPACK = "Unpack it first"
_EXTRACT = "Extract its text first"
_COLUMNS = "Write it as Parquet, or as JSON with one object a line"
# How known files begin, what they are, and what to do.
MAGIC = {
    b"\x28\xb5\x2f\xfd": ("compressed with zstd", _UNPACK),
    b"BZh": ("compressed with bzip2", _UNPACK),
    b"\xfd7zXZ\0": ("compressed with xz", _UNPACK),
    b"\x1f\x8b": ("compressed with gzip", f"{_UNPACK}; of compressed files, JSON lines are read"),
    b"7z\xbc\xaf": ("a 7z archive", _UNPACK),
    b"PK\x03\x04": ("a zip archive or an office document", _EXTRACT),
    b"%PDF-": ("a PDF", _EXTRACT),
    b"{\\rtf": ("rich text", _EXTRACT),
    b"PAR1": ("Parquet", "Call it .parquet"),
    b"ARROW1": ("Arrow", "Call it .arrow"),
    b"\x93NUMPY": ("an array of NumPy", "Give text; token ids are trained on without prepare"),
    b"\xff\xfe": ("UTF-16 or UTF-32", "Convert it to UTF-8 (iconv)"),
    b"\xfe\xff": ("UTF-16", "Convert it to UTF-8 (iconv)"),
    b"\0\0\xfe\xff": ("UTF-32", "Convert it to UTF-8 (iconv)"),
}
ENDINGS = {
    ".csv": ("a table", _COLUMNS),
    ".tsv": ("a table", _COLUMNS),
    ".html": ("markup", _EXTRACT),
    ".htm": ("markup", _EXTRACT),
    ".xml": ("markup", _EXTRACT),
    ".tar": ("an archive", _UNPACK),
}


def format_of(path: Path) -> str:
    """ "text", "jsonl", "parquet" or "arrow".

    Raises:
        ValueError: naming the file, what it is and the remedy, for anything else that is known.
    """
    name = path.name.lower()
    if name.endswith((".parquet", ".arrow")):
        return name.rpartition(".")[2]
    packed = name.endswith(".gz")
    ending = Path(name.removesuffix(".gz")).suffix
    if packed and ending in JSON_LINES:
        head = _unpacked_head(path)
    else:
        with path.open("rb") as file:
            head = file.read(HEAD)
    for magic, (what, remedy) in MAGIC.items():
        if head.startswith(magic):
            raise _unknown(path, what, remedy)
    if ending in ENDINGS:
        raise _unknown(path, *ENDINGS[ending])
    if len(head) >= 64 and head.count(0) > 0.3 * len(head):
        raise _unknown(path, "UTF-16 or binary", "Convert it to UTF-8 (iconv), or take it out")
    if ending == ".json":
        _check_json_lines(path, head)
    if ending in ("", ".txt") and _begins_with_an_object(head):
        raise _unknown(path, "JSON with one object a line, not text", "Call it .jsonl")
    return "jsonl" if ending in JSON_LINES else "text"


def _unpacked_head(path: Path) -> bytes:
    try:
        with gzip.open(path, "rb") as file:
            return file.read(HEAD)
    except (EOFError, OSError, zlib.error) as error:
        raise _unknown(path, f"no whole gzip file ({error})", "Fetch it again") from error


def _check_json_lines(path: Path, head: bytes) -> None:
    """Refuse JSON that has not one object a line."""
    first, line_end, _ = head.removeprefix(b"\xef\xbb\xbf").lstrip().partition(b"\n")
    if first.startswith(b"[") or not first.startswith(b"{"):
        what = "one JSON array" if first.startswith(b"[") else "no JSON object"
        raise _unknown(path, what, "Write one object a line (jq -c '.[]')")
    if (line_end or len(head) < HEAD) and not _begins_with_an_object(head):
        raise _unknown(
            path, "JSON, but its first line is no whole object", "Write one a line (jq -c .)"
        )


def _begins_with_an_object(head: bytes) -> bool:
    """Whether the first line is JSON, and an object."""
    first = head.removeprefix(b"\xef\xbb\xbf").lstrip().partition(b"\n")[0]
    try:
        return first.startswith(b"{") and bool(json.loads(first))
    except (ValueError, RecursionError):
        return False


def _unknown(path: Path, what: str, remedy: str) -> ValueError:
    return ValueError(f"{path} is {what}. {remedy}, or leave it out (--on-bad drop)")
