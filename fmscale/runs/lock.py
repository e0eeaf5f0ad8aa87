"""Who trains a run right now: one process at a time, and a dead one's place can be taken.

`lock.json` in a run's folder names its holder. A holder on this machine is asked for directly, by
process id and start time, so neither a crash nor a reused id confuses anybody. A holder elsewhere
is known by its heartbeat, the modification time of the file: both sides of the comparison come
from the clock of the file system that holds the store, so clocks of the machines do not matter.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import platform
import random
import tempfile
import threading
import time
import uuid
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType

from fmscale.runs.files import read_json

HEARTBEAT_SECONDS = 5.0
STALE_SECONDS = 60.0  # a holder elsewhere whose heart has not beaten for so long counts as dead
HELD_SECONDS = 2.0  # until a run that another process trains is tried again


class Held(Exception):
    """Another process trains this run."""


class LockLost(Held):
    """This process was taken for dead, and another one resumed its run."""


@dataclass(frozen=True)
class Holder:
    """A process, told apart from every other one that ever had its number."""

    token: str  # of this one acquisition
    hostname: str
    kernel: str  # boot and process namespace: where `pid` has a meaning
    pid: int
    started: str  # start time in the kernel's own ticks; "" where the system does not tell

    @staticmethod
    def here() -> Holder:
        """This process."""
        pid = os.getpid()
        return Holder(uuid.uuid4().hex, platform.node(), _kernel(), pid, _start_time(pid) or "")

    def lives(self) -> bool | None:
        """Whether it still exists; None if it runs elsewhere and cannot be asked."""
        if (self.hostname, self.kernel) != (platform.node(), _kernel()):
            return None
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return False
        except PermissionError:  # another user's, which the system may hide
            return _start_time(self.pid) in (None, self.started)
        return not self.started or _start_time(self.pid) == self.started

    def __str__(self) -> str:
        return f"process {self.pid} on {self.hostname}"


class RunLock:
    """Exclusive right to train in one folder; entering raises `Held`, naming a living holder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.path = folder / "lock.json"
        self.me = Holder.here()
        self.lost = False
        self._released = threading.Event()

    def __enter__(self) -> RunLock:
        self.folder.mkdir(parents=True, exist_ok=True)
        seen = holder_of(self.folder)
        askable = seen is not None and seen.lives() is not None
        if is_alive(self.folder) or (
            not askable and self.path.exists() and beats(self.path, 2.5 * HEARTBEAT_SECONDS)
        ):
            raise Held(f"{self.folder.name} is trained by {seen or 'another process'}")
        with one_at_a_time(self.folder):
            if holder_of(self.folder) != seen:
                raise Held(f"{self.folder.name} has just been taken by another process")
            self.path.unlink(missing_ok=True)
            if not _place(self.path, self.me):
                raise Held(f"{self.folder.name} has just been taken by another process")
        threading.Thread(target=self._beat, daemon=True).start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._released.set()
        with contextlib.suppress(OSError), one_at_a_time(self.folder):
            if holder_of(self.folder) == self.me:
                self.path.unlink()

    def verify(self) -> None:
        """Make sure this run is ours: else LockLost, or FileNotFoundError for a deleted folder."""
        if self.lost or holder_of(self.folder) != self.me:
            self.lost = True
            if not self.folder.is_dir():
                raise gone(self.folder)
            raise LockLost(
                f"{self.folder} now belongs to {holder_of(self.folder)}: this process was silent "
                f"for more than {STALE_SECONDS:.0f} s and was taken for dead; its work is dropped"
            )

    def _beat(self) -> None:
        while not self._released.wait(HEARTBEAT_SECONDS):
            try:
                if holder_of(self.folder) != self.me:
                    self.lost = True
                    return
                os.utime(self.path)
            except OSError:
                continue  # a store that is away for a while; `verify` decides


def gone(folder: Path) -> FileNotFoundError:
    """What is said of a folder that vanished under its process."""
    return FileNotFoundError(
        f"{folder} was moved or deleted while its runs were trained; they resume from their last "
        "checkpoints with the same command for the new place"
    )


def holder_of(folder: Path) -> Holder | None:
    """Who holds the folder's lock, alive or not; None if nobody does or the file is torn."""
    return _holder(folder / "lock.json")


def is_alive(folder: Path) -> bool:
    """Whether a living process holds the folder's lock, as far as can be told from here."""
    holder = holder_of(folder)
    lives = holder.lives() if holder is not None else None
    if lives is not None:
        return lives
    age = _age(folder / "lock.json")
    # Also a time far in the future says nothing of a heart that beats now.
    return age is not None and abs(age) <= STALE_SECONDS


def beats(path: Path, seconds: float) -> bool:
    """Watch a lock for some seconds: does its heart beat, or does it vanish?"""
    before = _modified(path)
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if _modified(path) != before:
            return True
        time.sleep(min(0.2, seconds))
    return False


def _modified(path: Path) -> int | None:
    try:
        return path.stat().st_mtime_ns
    except FileNotFoundError:
        return None


def _age(path: Path) -> float | None:
    """Seconds since a file changed, by the clock of its file system; None if there is none."""
    modified = _modified(path)
    if modified is None:
        return None
    try:
        with tempfile.TemporaryFile(dir=path.parent) as probe:
            now = os.fstat(probe.fileno()).st_mtime_ns
    except OSError:  # a store that can only be read
        now = time.time_ns()
    return (now - modified) / 1e9


@contextlib.contextmanager
def one_at_a_time(folder: Path) -> Iterator[None]:
    """Look and replace without interruption by another process.

    A file system without file locks (Lustre mounted without `flock`, some network shares) has a
    lock file instead.
    """
    with contextlib.ExitStack() as stack:
        handle = os.open(folder, os.O_RDONLY)
        stack.callback(os.close, handle)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
        except OSError:
            stack.enter_context(_lock_file(folder / ".turn.json"))
        yield


@contextlib.contextmanager
def _lock_file(path: Path) -> Iterator[None]:
    """Inside, `path` is this process's; a dead process's is taken from it, by one process only."""
    me = Holder.here()
    while not _place(path, me):
        holder = _holder(path)
        lives = holder.lives() if holder is not None else True
        if lives is None:  # elsewhere: it is kept for milliseconds only
            lives = (_age(path) or 0.0) <= STALE_SECONDS
        if holder is not None and not lives:
            with contextlib.suppress(FileExistsError, FileNotFoundError):
                # Who makes this name removes the file; it stays, for those who look too late.
                os.link(path, path.with_name(f".turn.{holder.token}"))
                path.unlink()
        time.sleep(0.002 + 0.008 * random.random())
    try:
        yield
    finally:
        if _holder(path) == me:
            path.unlink()


def _place(path: Path, holder: Holder) -> bool:
    """Put the whole file in place; False if there is one already, since a link overwrites none."""
    handle, temporary = tempfile.mkstemp(prefix=".lock.", dir=path.parent)
    try:
        with os.fdopen(handle, "w") as file:
            json.dump(asdict(holder), file)
        os.link(temporary, path)
    except FileExistsError:
        return False
    finally:
        Path(temporary).unlink(missing_ok=True)
    return True


def _holder(path: Path) -> Holder | None:
    try:
        return Holder(**read_json(path))
    except (FileNotFoundError, ValueError, TypeError):
        return None


def _kernel() -> str:
    """Identity of the running kernel and of the process namespace in it."""
    parts = []
    with contextlib.suppress(OSError):
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text().strip())
    with contextlib.suppress(OSError):
        parts.append(os.readlink("/proc/self/ns/pid"))
    return " ".join(parts)


def _start_time(pid: int) -> str | None:
    """When a process started, in ticks since boot; None where the system does not tell.

    A process that is dead and that nobody has waited for ("zombie") never started.
    """
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    fields = text.rpartition(")")[2].split()  # from field 3 on; the name before may hold spaces
    return fields[19] if fields[0] not in ("Z", "X") else "never"
