"""Warm worker processes on this machine, driven from a parent that imports no torch."""

from __future__ import annotations

import contextlib
import json
import math
import os
import queue
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

from fmscale.launching.backend import Backend, Event, Report, Task
from fmscale.planning.estimates import cores, default_threads
from fmscale.planning.sweep import Sweep

STOP_SECONDS = 120.0  # that workers have to finish and save their steps, before they are killed


class Worker:
    """One process; its events arrive on a queue that all share."""

    def __init__(self, events: queue.Queue[tuple[Worker, dict[str, Any]]], n_threads: int) -> None:
        threads = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), str(n_threads))
        self.task: Task | None = None
        self.process = subprocess.Popen(
            [sys.executable, "-m", "fmscale.launching.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, **threads},
        )
        self._events = events
        threading.Thread(target=self._listen, daemon=True).start()

    def give(self, task: Task) -> None:
        """Hand over a task; a worker that died meanwhile is noticed by its event."""
        self.task = task
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(json.dumps(task.fields) + "\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            return

    def _listen(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._events.put((self, json.loads(line)))
        self._events.put((self, {"event": "gone", "code": self.process.wait()}))

    def stop(self) -> None:
        """Let it end: an idle one at once, a busy one after it has saved its step."""
        assert self.process.stdin is not None
        if self.task is not None:
            self.process.terminate()  # it saves its step, notes "interrupted" and leaves
        with contextlib.suppress(OSError):  # what it died without reading
            self.process.stdin.close()  # whatever becomes of the step, no other task comes


class Workers(Backend):
    """`n_workers` processes; one that dies is replaced.

    Args:
        n_workers: None: as many as cores divided by threads.
        n_threads: CPU threads of each; None: 1 where all models are small, else all cores.
    """

    def __init__(self, n_workers: int | None = None, n_threads: int | None = None) -> None:
        self.n_workers = n_workers
        self.n_slots = n_workers or math.inf
        self.n_threads = n_threads
        self._queue: queue.Queue[tuple[Worker, dict[str, Any]]] = queue.Queue()
        self._workers: list[Worker] = []
        self._killed_for_memory = killed_for_memory()

    def open(self, sweep: Sweep) -> int:
        self.n_threads = self.n_threads or default_threads(sweep.jobs)
        self.n_slots = n_workers = self.n_workers or max(1, cores() // self.n_threads)
        return n_workers

    def start(self, tasks: list[Task]) -> None:
        for task in tasks:
            worker = next((worker for worker in self._workers if worker.task is None), None)
            if worker is None:
                worker = Worker(self._queue, self.n_threads or 1)
                self._workers.append(worker)
            worker.give(task)

    def events(self, report: Report, timeout: float | None) -> None:
        with contextlib.suppress(queue.Empty):
            worker, message = self._queue.get(timeout=timeout)
            event = self._understand(worker, message)
            if event is not None:
                report(event)

    def leave(self) -> None:
        for worker in self._workers:
            worker.stop()
        deadline = time.monotonic() + STOP_SECONDS
        try:
            for worker in self._workers:
                worker.process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            left = [worker for worker in self._workers if worker.process.poll() is None]
            print(f"{len(left)} workers did not end within {STOP_SECONDS:.0f} s and are killed; "
                  "their runs resume from their last checkpoints", file=sys.stderr)  # fmt: skip
            for worker in left:
                worker.process.kill()
        except BaseException:  # a second Ctrl-C: no time for checkpoints
            for worker in self._workers:
                worker.process.kill()
            raise

    def _understand(self, worker: Worker, message: dict[str, Any]) -> Event | None:
        """The event a message stands for; None if it changes nothing."""
        name, task = message["event"], worker.task
        leaves = name == "gone" or message.get("state") == "oom"
        if leaves and worker in self._workers:
            self._workers.remove(worker)
        if task is None or name == "started":
            return None
        if name == "gone":
            message = self._end_of_process(message["code"])
        event = Event.of(task, message)
        if event.ends:
            worker.task = None
        return event

    def _end_of_process(self, code: int) -> dict[str, Any]:
        """Why a worker that said nothing any more is gone."""
        reason = f"the worker process ended with code {code}"
        state = "failed"
        if code in (-9, 137):
            before, self._killed_for_memory = self._killed_for_memory, killed_for_memory()
            if None not in (before, self._killed_for_memory) and before != self._killed_for_memory:
                state, reason = "oom", f"{reason}: killed by the system for its use of memory"
            else:
                reason += " (killed; often for its use of memory)"
        return {"event": "failed", "reason": reason, "state": state}


def killed_for_memory() -> int | None:
    """Processes of this container or job that the system has killed for their use of memory so far.

    None where it does not count them (not Linux, or control groups of version 1).
    """
    try:
        group = Path("/proc/self/cgroup").read_text().split("0::", 1)[1].splitlines()[0]
        text = Path(f"/sys/fs/cgroup{group}/memory.events").read_text()
    except (OSError, IndexError):
        return None
    counts = dict(line.split() for line in text.splitlines())
    return int(counts["oom_kill"])
