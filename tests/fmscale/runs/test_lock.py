"""One process trains a run at a time, and the place of a dead one can be taken."""

from __future__ import annotations

import dataclasses
import errno
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from fmscale.runs import lock
from fmscale.runs.lock import Held, Holder, LockLost, RunLock, holder_of, is_alive


def plant(folder: Path, **changes) -> Path:
    """A lock that somebody left: by default this living process."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "lock.json"
    holder = dataclasses.replace(Holder.here(), **changes)
    path.write_text(json.dumps(dataclasses.asdict(holder)))
    return path


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(lock, "HEARTBEAT_SECONDS", 0.05)


def dead_pid() -> int:
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    return child.pid


def test_a_second_process_is_told_who_is_at_work(tmp_path):
    with RunLock(tmp_path), pytest.raises(Held, match=f"process {os.getpid()} on "):
        RunLock(tmp_path).__enter__()
    assert list(tmp_path.iterdir()) == []
    with RunLock(tmp_path):
        pass


def test_the_place_of_a_dead_process_is_taken(tmp_path):
    plant(tmp_path, pid=dead_pid())
    assert not is_alive(tmp_path)
    with RunLock(tmp_path) as mine:
        assert holder_of(tmp_path) == mine.me


def test_a_reused_process_number_is_not_the_holder(tmp_path):
    plant(tmp_path, started="1")  # our own number, but a process of long ago
    assert not is_alive(tmp_path)
    with RunLock(tmp_path):
        pass


def test_a_restart_of_the_machine_ends_all_holders_after_a_silence(tmp_path, quick):
    path = plant(tmp_path, kernel="an earlier boot")
    assert is_alive(tmp_path)  # it cannot be told from a container on the same machine
    os.utime(path, (time.time() - 100, time.time() - 100))
    with RunLock(tmp_path):
        pass


def test_a_holder_on_another_host_is_known_by_its_heartbeat(tmp_path, quick, monkeypatch):
    path = plant(tmp_path, hostname="elsewhere")
    with pytest.raises(Held, match="on elsewhere"):
        RunLock(tmp_path).__enter__()
    os.utime(path, (time.time() - 100, time.time() - 100))
    with RunLock(tmp_path) as mine:
        assert holder_of(tmp_path) == mine.me


@pytest.mark.parametrize("jump", [-1e6, 1e6])
def test_a_clock_that_jumped_robs_nobody_whose_heart_beats(tmp_path, quick, monkeypatch, jump):
    path = plant(tmp_path, hostname="elsewhere")
    os.utime(path, (time.time() + jump, time.time() + jump))
    ticks = iter(range(10**6))
    real = lock._modified

    def beating(p):
        return None if real(p) is None else real(p) + next(ticks)

    monkeypatch.setattr(lock, "_modified", beating)
    with pytest.raises(Held):
        RunLock(tmp_path).__enter__()


@pytest.mark.parametrize("jump", [-1e6, 1e6])
def test_a_clock_that_jumped_keeps_no_dead_holder_alive(tmp_path, quick, jump):
    path = plant(tmp_path, pid=dead_pid())
    os.utime(path, (time.time() + jump, time.time() + jump))
    with RunLock(tmp_path):
        pass
    path = plant(tmp_path, hostname="elsewhere")
    os.utime(path, (time.time() + jump, time.time() + jump))
    with RunLock(tmp_path):
        pass


def test_a_torn_lock_file_is_taken_over_after_a_silence(tmp_path, quick):
    path = tmp_path / "lock.json"
    path.write_text('{"token": "ab')
    with pytest.raises(Held, match="another process"):
        RunLock(tmp_path).__enter__()
    os.utime(path, (time.time() - 100, time.time() - 100))
    with RunLock(tmp_path):
        pass


def test_who_lost_the_lock_notices_before_writing_results(tmp_path, quick):
    with RunLock(tmp_path) as mine:
        mine.verify()
        path = plant(tmp_path, hostname="elsewhere")
        with pytest.raises(LockLost, match="taken for dead"):
            mine.verify()
    assert path.exists()  # the new holder's lock is not ours to remove


def test_the_heart_beats_while_the_lock_is_held(tmp_path, quick):
    with RunLock(tmp_path) as mine:
        os.utime(mine.path, (0, 0))
        deadline = time.monotonic() + 5
        while mine.path.stat().st_mtime < 1 and time.monotonic() < deadline:
            time.sleep(0.01)
        assert mine.path.stat().st_mtime > 1


CONTENDER = """
import sys, time
from pathlib import Path
from fmscale.runs.lock import Held, RunLock
folder, log = Path(sys.argv[1]), Path(sys.argv[2])
for _ in range(40):
    try:
        with RunLock(folder):
            with log.open("a") as file: file.write("in\\n")
            time.sleep(0.001)
            with log.open("a") as file: file.write("out\\n")
    except Held:
        time.sleep(0.001)
"""


def test_many_contenders_are_never_inside_together(tmp_path):
    plant(tmp_path / "run", pid=dead_pid())  # all of them race for a dead one's place first
    log = tmp_path / "log"
    command = [sys.executable, "-c", CONTENDER, str(tmp_path / "run"), str(log)]
    children = [subprocess.Popen(command) for _ in range(4)]
    assert [child.wait() for child in children] == [0] * 4
    lines = log.read_text().split()
    assert lines == ["in", "out"] * (len(lines) // 2)
    assert len(lines) > 8


def test_a_dead_process_that_nobody_waits_for_holds_nothing(tmp_path):
    code = (
        "import sys, time; from pathlib import Path; from fmscale.runs.lock import RunLock\n"
        "RunLock(Path(sys.argv[1])).__enter__(); print('in', flush=True); time.sleep(60)"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    child = subprocess.Popen(command, stdout=subprocess.PIPE)
    assert child.stdout.readline() == b"in\n"
    assert is_alive(tmp_path)
    child.kill()
    stat = Path(f"/proc/{child.pid}/stat")
    while stat.read_text().rpartition(")")[2].split()[0] != "Z":
        time.sleep(0.01)
    assert not is_alive(tmp_path)
    with RunLock(tmp_path):
        pass
    child.wait()


@pytest.fixture
def no_flock(monkeypatch):
    """A file system without file locks, as Lustre mounted without them."""

    def refused(handle, operation):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(lock.fcntl, "flock", refused)


COUNTER = """
import sys
from pathlib import Path
from fmscale.runs import lock
def refused(handle, operation): raise OSError(37, "No locks available")
lock.fcntl.flock = refused
folder = Path(sys.argv[1])
for _ in range(25):
    with lock.one_at_a_time(folder):
        (folder / "count").write_text(str(int((folder / "count").read_text()) + 1))
"""


def test_without_file_locks_no_update_is_lost(tmp_path):
    (tmp_path / "count").write_text("0")
    # One that died inside: its place is taken by one of the others.
    (tmp_path / ".turn.json").write_text(
        json.dumps(dataclasses.asdict(dataclasses.replace(Holder.here(), pid=dead_pid())))
    )
    command = [sys.executable, "-c", COUNTER, str(tmp_path)]
    children = [subprocess.Popen(command) for _ in range(4)]
    assert [child.wait() for child in children] == [0] * 4
    assert (tmp_path / "count").read_text() == "100"
    assert not (tmp_path / ".turn.json").exists()


def test_without_file_locks_a_run_is_locked_all_the_same(tmp_path, no_flock):
    with RunLock(tmp_path), pytest.raises(Held):
        RunLock(tmp_path).__enter__()
    assert list(tmp_path.iterdir()) == []


def test_a_run_that_was_moved_away_is_said_to_be(tmp_path, quick):
    folder = tmp_path / "run"
    with RunLock(folder) as mine:
        folder.rename(tmp_path / "moved")
        with pytest.raises(FileNotFoundError, match="was moved or deleted while"):
            mine.verify()
    assert not folder.exists()
