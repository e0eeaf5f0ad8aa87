"""One small JSON file of every run of a study at once: only what has changed is read again.

Ten thousand files take seconds to open and parse, their signatures (inode, size, time of change)
a fraction. What was read is kept beside the runs, one line each with its checksum, append-only:
processes may add to it at the same time, and losing it loses nothing.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import time
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

from fmscale.runs.files import Broken, Foreign, write_atomically
from fmscale.runs.record import RunRecord
from fmscale.runs.store import Study, read_own

# Files that changed less than this ago are not remembered: a second change inside the same tick of
# the file system's clock could leave the signature as it is (git's "racily clean" entries).
RACY_SECONDS = 2.0

BROKEN = 10**12  # lines: more than any cache has

Signature = list[int]


class Index:
    """The files called `name` in all run folders of a study.

    Args:
        check: raises for content that is not what it should be.
        keep: the keys wanted of each file; None: all.
    """

    def __init__(
        self,
        study: Path,
        name: str,
        check: Callable[[dict[str, Any]], None],
        keep: Collection[str] | None = None,
    ) -> None:
        self.study = study
        self.name = name
        self.check = check
        self.keep = keep
        part = "" if keep is None else "-".join(keep) + "."
        self.cache = study / f".index.{part}{name}l"
        self.broken: dict[str, Broken] = {}  # by run id, at the last reading
        try:
            lines = self.cache.read_bytes().split(b"\n")[:-1]  # what follows the last one is torn
        except OSError:
            lines = []
        rows = [_unsealed(line) for line in lines]
        self._known: dict[str, tuple[Signature, dict[str, Any]]] = {
            r["run"]: (r["signature"], r["content"]) for r in rows if r is not None
        }
        self._n_lines = BROKEN if None in rows else len(rows)  # written anew

    def read(self) -> dict[str, dict[str, Any]]:
        """Run id -> content of its file, for every run that has one, by id.

        What cannot be read is left out and found in `broken`, with the reason and the remedy.
        """
        found: dict[str, dict[str, Any]] = {}
        fresh: list[str] = []
        self.broken = {}
        now = time.time_ns()
        for run_id in sorted(os.listdir(self.study)):
            path = f"{self.study}/{run_id}/{self.name}"
            try:
                stat = os.stat(path)
            except (FileNotFoundError, NotADirectoryError):
                continue
            signature = [stat.st_ino, stat.st_size, stat.st_mtime_ns]
            known = self._known.get(run_id)
            if known is None or known[0] != signature:
                try:
                    content = read_own(Path(path), self.check)
                except FileNotFoundError:
                    continue  # deleted just now
                except Broken as error:
                    self.broken[run_id] = error
                    continue
                if self.keep is not None:
                    content = {key: content.get(key) for key in self.keep}
                known = (signature, content)
                if abs(now - stat.st_mtime_ns) > RACY_SECONDS * 1e9:
                    self._known[run_id] = known
                    fresh.append(run_id)
            found[run_id] = known[1]
        gone = set(self._known) - set(found)
        for run_id in gone:
            del self._known[run_id]
        if fresh or gone:
            self._remember(fresh)
        return found

    def _remember(self, fresh: list[str]) -> None:
        """Add the fresh lines, or write all anew once half of the file is outdated."""
        with contextlib.suppress(OSError):  # a store that can only be read is read in full
            if self._n_lines + len(fresh) > 2 * len(self._known):
                write_atomically(self.cache, b"".join(map(self._line, self._known)))
                self._n_lines = len(self._known)
            else:
                with self.cache.open("ab") as file:
                    file.write(b"".join(map(self._line, fresh)))
                self._n_lines += len(fresh)

    def _line(self, run_id: str) -> bytes:
        signature, content = self._known[run_id]
        row = {"run": run_id, "signature": signature, "content": content}
        body = json.dumps(row).encode()
        return _digest(body) + b" " + body + b"\n"


def outcomes(study: Study) -> Index:
    """How each finished run of a study ended: its record's `status` and `n_steps`."""
    return Index(study.path, "record.json", RunRecord.check, keep=("status", "n_steps"))


def set_broken_aside(study: Study, run_ids: Collection[str]) -> list[Broken]:
    """Rename records that cannot be read, so that their runs count as unfinished.

    Those of another release stay where they are.

    Returns:
        What was wrong with each.
    """
    if not study.path.is_dir():
        return []
    index = outcomes(study)
    index.read()
    found = [
        error
        for run_id, error in index.broken.items()
        if run_id in run_ids and not isinstance(error, Foreign)
    ]
    for error in found:
        os.replace(error.path, f"{error.path}.broken")
    return found


def _unsealed(line: bytes) -> dict[str, Any] | None:
    """The row of a line of the cache; None if it was altered."""
    digest, _, body = line.partition(b" ")
    row: dict[str, Any] | None = json.loads(body) if digest == _digest(body) else None
    return row


def _digest(body: bytes) -> bytes:
    return hashlib.sha256(body).hexdigest()[:16].encode()
