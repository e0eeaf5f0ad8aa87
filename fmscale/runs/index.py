"""One small JSON file of every run of a study at once: only what has changed is read again.

Ten thousand files take seconds to open and parse, their signatures (inode, size, time of change)
a fraction. What was read is kept beside the runs, one line each, append-only: processes may add to
it at the same time, and losing it loses nothing.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from pathlib import Path
from typing import Any

from fmscale.runs.files import read_json, read_lines, write_lines

# Files that changed less than this ago are not remembered: a second change inside the same tick of
# the file system's clock could leave the signature as it is (git's "racily clean" entries).
RACY_SECONDS = 2.0

BROKEN = 10**12  # lines: more than any cache has

Signature = list[int]


class Index:
    """The files called `name` in all run folders of a study."""

    def __init__(self, study: Path, name: str) -> None:
        self.study = study
        self.name = name
        self.cache = study / f".index.{name}l"
        self._known: dict[str, tuple[Signature, Any]] = {}
        self._n_lines = 0
        try:
            rows = read_lines(self.cache)
            self._known = {row["run"]: (row["signature"], row["content"]) for row in rows}
            self._n_lines = len(rows)
        except (OSError, ValueError, KeyError, TypeError):
            self._n_lines = BROKEN  # no cache; written anew

    def read(self) -> dict[str, Any]:
        """Run id -> content of its file, for every run that has one, by id.

        Raises:
            ValueError: naming the file, if one does not hold JSON.
        """
        found: dict[str, Any] = {}
        fresh: list[str] = []
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
                    known = (signature, read_json(Path(path)))
                except FileNotFoundError:
                    continue  # deleted just now
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
                write_lines(self.cache, map(self._line, self._known))
                self._n_lines = len(self._known)
            else:
                text = "".join(json.dumps(self._line(run_id)) + "\n" for run_id in fresh)
                with self.cache.open("a") as file:
                    file.write(text)
                self._n_lines += len(fresh)

    def _line(self, run_id: str) -> dict[str, Any]:
        signature, content = self._known[run_id]
        return {"run": run_id, "signature": signature, "content": content}
