"""Writing that survives a crash: whole-file replacement and append-only JSON lines."""

from __future__ import annotations

import errno
import json
import os
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any


def write_atomically(path: Path, content: str | bytes | memoryview) -> None:
    """Replace `path` with `content`: a reader sees the old file or the new one, never a part.

    The temporary file lies in the same folder (a rename across file systems is a copy) and is
    removed again if writing fails, for example on a full disk.

    Raises:
        OSError: naming the file, if it cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    data = content.encode() if isinstance(content, str) else content
    handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        os.fchmod(handle, 0o644)  # mkstemp makes files that only the owner can read
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        Path(temporary).unlink(missing_ok=True)
        raise _told(error, path) from error
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def write_json(path: Path, value: Any) -> None:
    """Write `value` as indented JSON, atomically. NaN and infinity are refused."""
    write_atomically(path, json.dumps(value, indent=2, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Raises:
        ValueError: naming the file, if it does not hold JSON.
    """
    try:
        return json.loads(path.read_text())
    except json.JSONDecodeError as error:
        raise ValueError(f"{path} does not hold valid JSON: {error}") from error


def append_line(path: Path, row: dict[str, Any]) -> None:
    """Append one row to a JSON-lines file in a single write.

    One `write` to a descriptor opened for appending cannot interleave with another process, and
    a kill can tear at most the last line, which `read_lines` recognises. What a full disk took only
    a part of is taken back: the next row must not continue it.

    Raises:
        OSError: naming the file, if the row does not fit.
    """
    data = (json.dumps(row, allow_nan=False) + "\n").encode()
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        try:
            written = os.write(handle, data)
            if written < len(data):
                os.ftruncate(handle, os.fstat(handle).st_size - written)
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        finally:
            os.close(handle)
    except OSError as error:
        raise _told(error, path) from error


def _told(error: OSError, path: Path) -> OSError:
    """The same error with the file and a remedy."""
    remedy = "free some space or move runs_dir"
    return OSError(error.errno, f"cannot write {path} ({error.strerror}); {remedy}")


def read_lines(path: Path) -> list[dict[str, Any]]:
    """Rows of a JSON-lines file; a torn last line (no newline) is left out.

    Raises:
        ValueError: naming file and line, if a complete line is not JSON.
    """
    if not path.exists():
        return []
    lines = path.read_bytes().split(b"\n")
    rows = []
    for number, line in enumerate(lines[:-1], start=1):  # what follows the last newline is torn
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError as error:
            raise ValueError(f"{path}, line {number}, is not JSON: {error}") from error
    return rows


def write_lines(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    """Replace a JSON-lines file, atomically."""
    write_atomically(path, "".join(json.dumps(row, allow_nan=False) + "\n" for row in rows))
