"""Whether a file of prepared data still holds what was written. Standard library only."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fmscale.runs.files import Broken, read_sealed, write_sealed

log = logging.getLogger(__name__)
REMEDY = "it is made again"

# Up to this size a file is read at every opening, in a hundredth of a second. A larger one is read
# once while the machine is up, unless its size, its inode or its time of change is another.
READ_ALWAYS = 1 << 24  # bytes


def sha256(path: Path) -> str:
    """Of a whole file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def holds(path: Path, expected: str) -> bool:
    """Whether the SHA-256 of a file is the expected one."""
    stat = path.stat()
    state = [str(path.resolve()), stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns]
    key = hashlib.sha256(f"{state} {expected} {_boot()}".encode()).hexdigest()
    mark = Path(tempfile.gettempdir()) / f"fmscale-read-{os.getuid()}" / key
    large = stat.st_size > READ_ALWAYS
    if large and mark.exists():
        return True
    if sha256(path) != expected:
        return False
    if large:
        with contextlib.suppress(OSError):  # then it is read again next time
            mark.parent.mkdir(mode=0o700, exist_ok=True)
            mark.touch()
    return True


def noted(path: Path, make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """The note beside a file of prepared data, `<file>.json`, with the file's checksum.

    Args:
        make: writes the file, and returns the note; called where there is no whole file with its
            note, which a line says if it is damaged.
    """
    note = path.with_suffix(".json")
    try:
        found = read_sealed(note, REMEDY)
        if path.exists() and holds(path, found["sha256"]):
            return found
        log.warning("%s", Broken(path, "is damaged (its checksum differs)", REMEDY))
    except FileNotFoundError:
        pass
    except KeyError:
        log.warning("%s", Broken(note, "is of an earlier release, without checksums", REMEDY))
    except Broken as error:
        log.warning("%s", error)
    found = make()
    to_disk(path)
    found["sha256"] = sha256(path)
    write_sealed(note, found)
    return found


def to_disk(path: Path) -> None:
    """Wait until a file, or the names in a folder, will survive a power cut."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _boot() -> str:
    """This start of the machine: what a power cut left is not trusted by what was read before."""
    with contextlib.suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_text()
    return ""
