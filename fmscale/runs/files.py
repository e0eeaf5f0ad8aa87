"""Writing that survives a crash: whole-file replacement and append-only JSON lines."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

CHECKSUM = "checksum"  # key of a sealed object


class Broken(ValueError):
    """A file that does not hold what it should: one line with the remedy."""

    def __init__(self, path: Path, problem: str, remedy: str) -> None:
        super().__init__(path, problem, remedy)

    @property
    def path(self) -> Path:
        """The file."""
        return Path(self.args[0])

    @property
    def problem(self) -> str:
        """What is wrong with it."""
        return str(self.args[1])

    def __str__(self) -> str:
        return printable(f"broken: {self.path} {self.problem}; {self.args[2]}")


class Foreign(Broken):
    """A file that is whole, but of another release."""


def printable(text: str) -> str:
    """Foreign text without what a terminal would take for an order."""
    return "".join(c if c.isprintable() else "?" for c in text)


@contextmanager
def skip_broken() -> Iterator[None]:
    """Report what cannot be read in one line on standard error, instead of raising."""
    try:
        yield
    except Broken as error:
        print(error, file=sys.stderr)


def allow() -> None:
    """Nothing is checked before writing."""


def write_atomically(
    path: Path, content: str | bytes | memoryview, verify: Callable[[], None] = allow
) -> None:
    """Replace `path` with `content`: a reader sees the old file or the new one, never a part.

    The temporary file lies in the same folder (a rename across file systems is a copy) and is
    removed again if writing fails, for example on a full disk.

    Args:
        verify: called first, and again at the last moment; what it raises leaves all as it is.

    Raises:
        OSError: naming the file, if it cannot be written.
    """
    verify()
    path.parent.mkdir(parents=True, exist_ok=True)
    data = content.encode() if isinstance(content, str) else content
    handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        os.fchmod(handle, 0o644)  # mkstemp makes files that only the owner can read
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        verify()
        os.replace(temporary, path)
    except OSError as error:
        Path(temporary).unlink(missing_ok=True)
        raise _with_remedy(error, path) from error
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def write_json(path: Path, value: Any) -> None:
    """Write `value` as indented JSON, atomically. NaN and infinity are refused."""
    write_atomically(path, json.dumps(value, indent=2, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    """Read a JSON file; ValueError, naming the file, if it does not hold JSON."""
    try:
        return json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:  # bad UTF-8 is a ValueError, too
        raise ValueError(f"{path} does not hold valid JSON: {error}") from error


def seal(row: dict[str, Any]) -> dict[str, Any]:
    """`row` with a checksum, so that a changed digit is noticed. NaN and infinity are refused."""
    plain = json.loads(json.dumps(row, allow_nan=False))  # as it will be read: keys are texts
    return {**plain, CHECKSUM: _checksum(plain)}


def write_sealed(path: Path, row: dict[str, Any], verify: Callable[[], None] = allow) -> None:
    """Write a JSON object with its checksum, atomically."""
    write_atomically(path, json.dumps(seal(row), indent=2) + "\n", verify)


def read_sealed(path: Path, remedy: str = "delete it; it is made again") -> dict[str, Any]:
    """Read a JSON object without its checksum; one that states none is taken as it is.

    Raises:
        Broken: if it holds no JSON object, or another than was written.
        FileNotFoundError: if it does not exist.
    """
    content = _content(path)
    if not content.strip():
        raise Broken(path, "is empty", remedy)
    try:
        row = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise Broken(path, f"does not hold valid JSON ({error})", remedy) from error
    if not isinstance(row, dict):
        raise Broken(path, "holds no JSON object", remedy)
    stated = row.pop(CHECKSUM, None)
    if stated is not None and stated != _checksum(row):
        raise Broken(path, "was altered (its checksum differs)", remedy)
    return row


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise
    except OSError as error:
        raise Broken(path, f"cannot be read ({error.strerror})", "make it readable") from error


def _checksum(row: dict[str, Any]) -> str:
    """16 digits of the SHA-256 of an object as sorted JSON; `analysis` has the same rule."""
    return hashlib.sha256(json.dumps(row, sort_keys=True).encode()).hexdigest()[:16]


def append_line(path: Path, row: dict[str, Any], verify: Callable[[], None] = allow) -> None:
    """Append one row to a JSON-lines file in a single write.

    One `write` to a descriptor opened for appending cannot interleave with another process, and
    a kill can tear at most the last line, which `read_lines` recognizes. What a full disk took only
    a part of is taken back: the next row must not continue it.

    Args:
        verify: called once the file is open: should another process take the run over right after
            it, and replace the file, the row goes into the replaced one.

    Raises:
        OSError: naming the file, if the row does not fit.
    """
    data = (json.dumps(row, allow_nan=False) + "\n").encode()
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        try:
            verify()
            written = os.write(handle, data)
            if written < len(data):
                os.ftruncate(handle, os.fstat(handle).st_size - written)
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        finally:
            os.close(handle)
    except OSError as error:
        raise _with_remedy(error, path) from error


def _with_remedy(error: OSError, path: Path) -> OSError:
    """The same error with the file and a remedy."""
    gone = error.errno in (errno.ENOENT, errno.ENOTDIR)
    remedy = "its folder was moved or deleted" if gone else "free some space or move runs_dir"
    return OSError(error.errno, f"cannot write {path} ({error.strerror}); {remedy}")


def read_lines(
    path: Path, complain: Callable[[Broken], None] | None = None
) -> list[dict[str, Any]]:
    """Rows of a JSON-lines file; a torn last line (no newline) is left out.

    Args:
        complain: called about complete lines that are no rows, which are left out; None: raise.

    Raises:
        Broken: naming file and line.
    """
    try:
        lines = _content(path).split(b"\n")
    except FileNotFoundError:
        return []
    rows, bad = [], []
    for number, line in enumerate(lines[:-1], start=1):  # what follows the last newline is torn
        try:
            row = json.loads(line)
            if not isinstance(row, dict):
                raise ValueError("no JSON object")
        except (ValueError, RecursionError) as error:
            bad.append(f"line {number}: {error}")
        else:
            rows.append(row)
    if bad:
        broken = Broken(path, f"has {len(bad)} line(s) that are no rows ({bad[0]})", "delete them")
        if complain is None:
            raise broken
        complain(broken)
    return rows


def write_lines(
    path: Path, rows: Iterable[dict[str, Any]], verify: Callable[[], None] = allow
) -> None:
    """Replace a JSON-lines file, atomically."""
    text = "".join(json.dumps(row, allow_nan=False) + "\n" for row in rows)
    write_atomically(path, text, verify)
