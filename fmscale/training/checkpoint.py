"""State of a run after some optimizer step, on disk, whole or not at all.

A file ends with the SHA-256 of what comes before it, so that a flipped bit is noticed and not
trained on.

Plain tensors and numbers only, so that `weights_only` loading reads them and nothing unpickled
can run code. Batches and schedule are functions of the step and need no state of their own.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import logging
import os
from collections.abc import Collection
from pathlib import Path
from typing import Any, NamedTuple

import torch

from fmscale.runs.checkpoint_paths import path_of, steps_saved, surplus
from fmscale.runs.files import Broken, write_atomically

log = logging.getLogger(__name__)

MARK = b"fmscale1"
REMEDY = "delete it; a finished run is trained again once its record.json is deleted as well"
TRAILER = hashlib.sha256().digest_size + len(MARK)  # bytes at the end of a file


class Checkpoint(NamedTuple):
    """Everything needed to resume bit for bit."""

    step: int  # optimizer steps done
    model: dict[str, Any]  # state dict
    optimizer: dict[str, Any]  # state dict
    seconds: float  # training time spent so far along the path
    precision: str  # as trained so far; a branch keeps it
    seconds_trunk: float = 0.0  # of `seconds`, what the trunk took that a run left


def save(folder: Path, checkpoint: Checkpoint) -> Path:
    """Write a checkpoint atomically and return its path."""
    buffer = io.BytesIO()
    torch.save(checkpoint._asdict(), buffer)
    checksum = hashlib.sha256(buffer.getbuffer()).digest()
    buffer.write(checksum + MARK)
    path = path_of(folder, checkpoint.step)
    write_atomically(path, buffer.getbuffer())
    return path


def load(path: Path) -> Checkpoint:
    """Read a checkpoint; Broken if it is torn, altered or none."""
    try:
        whole = path.read_bytes()
    except OSError as error:
        raise Broken(path, f"cannot be read ({error.strerror})", "make it readable") from error
    if not _is_whole(whole):
        raise Broken(path, "is torn or altered (its checksum differs)", REMEDY)
    try:
        content = io.BytesIO(memoryview(whole)[:-TRAILER])
        stored = torch.load(content, map_location="cpu", weights_only=True)
        return Checkpoint(**stored)
    except Exception as error:  # torch raises half a dozen kinds for a foreign file
        raise Broken(path, f"cannot be read ({type(error).__name__})", REMEDY) from error


def latest(folder: Path, at_most: int) -> Checkpoint | None:
    """The newest readable checkpoint of at most `at_most` steps.

    An unreadable one is named and set aside as `.broken`, so that it counts for nothing any more.
    """
    for step in reversed(steps_saved(folder)):
        if step > at_most:
            continue
        try:
            return load(path_of(folder, step))
        except ValueError as error:
            log.warning("%s; resuming from the one before it", error)
            _set_aside(path_of(folder, step))
    return None


def set_broken_aside(folder: Path) -> None:
    """Check the checksums of all checkpoints; name and set aside what is torn or altered."""
    for path in (path_of(folder, step) for step in steps_saved(folder)):
        if not _is_whole(path.read_bytes()):
            log.warning("checkpoint %s is torn or altered; it is made anew", path)
            _set_aside(path)


def prune(folder: Path, *, keep: Collection[int], newest: int) -> None:
    """Delete checkpoints, except those after the steps `keep` and the `newest` others.

    What a killed process left half-written goes as well.
    """
    for path in (*surplus(folder, keep=keep, newest=newest), *folder.glob(".step_*")):
        path.unlink(missing_ok=True)


def _set_aside(path: Path) -> None:
    with contextlib.suppress(FileNotFoundError):  # another process was quicker
        os.replace(path, path.with_suffix(".broken"))


def _is_whole(content: bytes) -> bool:
    checksum, mark = content[-TRAILER : -len(MARK)], content[-len(MARK) :]
    body = memoryview(content)[:-TRAILER]
    return mark == MARK and hashlib.sha256(body).digest() == checksum
