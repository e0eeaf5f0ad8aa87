"""A pool of warm worker processes, driven from a parent that imports no torch."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fmscale.runs.lock import HELD_SECONDS

STOP_SECONDS = 120.0  # that workers have to finish and save their steps, before they are killed


@dataclass
class Task:
    """One unit of work for a worker, with what may follow it."""

    kind: str  # "check", "pack", "trunk", "branch" or "speed"
    config: dict[str, Any]
    run_id: str | None = None  # the branch, or None
    weight: float = 1.0  # expected seconds; heavier tasks start first
    job: int = 0  # index of the job it belongs to
    halvings: int = 0  # of the micro-batch, for want of memory; each doubles the accumulation

    def message(self) -> str:
        fields = {"kind": self.kind, "config": self.config, "run_id": self.run_id,
                  "halvings": self.halvings}  # fmt: skip
        return json.dumps(fields) + "\n"


@dataclass
class Event:
    """Something a worker said, or that it is gone."""

    task: Task
    name: str  # "progress", "branch_ready", "held", "done", "failed"
    fields: dict[str, Any] = field(default_factory=dict)


class Worker:
    """One process; its events arrive on the pool's queue."""

    def __init__(self, events: queue.Queue[tuple[Worker, dict[str, Any]]], n_threads: int) -> None:
        environment = {
            **os.environ,
            "OMP_NUM_THREADS": str(n_threads),
            "MKL_NUM_THREADS": str(n_threads),
        }
        self.task: Task | None = None
        self.process = subprocess.Popen(
            [sys.executable, "-m", "fmscale.launching.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )
        self._events = events
        threading.Thread(target=self._listen, daemon=True).start()

    def give(self, task: Task) -> None:
        """Hand over a task; a worker that died meanwhile is noticed by its event."""
        self.task = task
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(task.message())
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


class Pool:
    """Runs tasks on `n_workers` processes; a worker that dies is replaced."""

    def __init__(self, n_workers: int, n_threads: int) -> None:
        self.n_workers = n_workers
        self.n_threads = n_threads
        self._queue: queue.Queue[tuple[Worker, dict[str, Any]]] = queue.Queue()
        self._workers: list[Worker] = []
        self._killed_for_memory = killed_for_memory()

    def __enter__(self) -> Pool:
        return self

    def __exit__(self, *error: object) -> None:
        for worker in self._workers:
            worker.stop()
        deadline = time.monotonic() + STOP_SECONDS
        try:
            for worker in self._workers:
                worker.process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            left = [worker for worker in self._workers if worker.process.poll() is None]
            print(f"{len(left)} workers did not end within {STOP_SECONDS:.0f} s and are killed; "
                  "their runs go on from their last checkpoints", file=sys.stderr)  # fmt: skip
            for worker in left:
                worker.process.kill()
        except BaseException:  # a second Ctrl-C: no time for checkpoints
            for worker in self._workers:
                worker.process.kill()
            raise

    def run(
        self, tasks: list[Task], follow: Callable[[Event], list[Task]] = lambda event: []
    ) -> Iterator[Event]:
        """Run tasks, heaviest first, and yield what happens.

        A task whose run another process trains is "held": it is tried again later.

        Args:
            tasks: what is ready now.
            follow: called with each event; returns tasks that became ready through it.
        """
        waiting = list(tasks)
        held: list[tuple[float, Task]] = []  # when to try again
        while waiting or held or any(worker.task for worker in self._workers):
            now = time.monotonic()
            waiting += [task for due, task in held if due <= now]
            held = [(due, task) for due, task in held if due > now]
            self._hand_out(waiting)
            pause = max(0.0, min(due for due, _ in held) - now) if held else None
            try:
                worker, message = self._queue.get(timeout=pause)
            except queue.Empty:
                continue
            event = self._understand(worker, message)
            if event is None:
                continue
            if event.name == "held":
                held.append((time.monotonic() + HELD_SECONDS, event.task))
            waiting += follow(event)
            yield event

    def _understand(self, worker: Worker, message: dict[str, Any]) -> Event | None:
        """The event a message stands for; None if it is of no interest to anybody."""
        name, task = message.pop("event"), worker.task
        if (name == "gone" or message.get("leaves")) and worker in self._workers:
            self._workers.remove(worker)
        if task is None or name == "started":
            return None
        if name == "gone":
            name, message = "failed", self._end_of_process(message["code"])
        if name in ("done", "failed", "held"):
            worker.task = None
        return Event(task, name, message)

    def _end_of_process(self, code: int) -> dict[str, Any]:
        """Why a worker that said nothing any more is gone."""
        reason = f"the worker process ended with code {code}"
        state = "failed"
        if code in (-9, 137):
            before, self._killed_for_memory = self._killed_for_memory, killed_for_memory()
            if None not in (before, self._killed_for_memory) and before != self._killed_for_memory:
                state, reason = "oom", f"{reason}: killed by the system for want of memory"
            else:
                reason += " (killed; often for lack of memory)"
        return {"reason": reason, "traceback": None, "state": state}

    def _hand_out(self, waiting: list[Task]) -> None:
        """Give waiting tasks to idle workers, starting workers as needed."""
        waiting.sort(key=lambda task: task.weight)
        while waiting:
            idle = next((worker for worker in self._workers if worker.task is None), None)
            if idle is None:
                if len(self._workers) >= self.n_workers:
                    return
                idle = Worker(self._queue, self.n_threads)
                self._workers.append(idle)
            idle.give(waiting.pop())


def killed_for_memory() -> int | None:
    """Processes of this container or job that the system has killed for want of memory so far.

    None where it does not count them (not Linux, or control groups of version 1).
    """
    try:
        group = Path("/proc/self/cgroup").read_text().split("0::", 1)[1].splitlines()[0]
        text = Path(f"/sys/fs/cgroup{group}/memory.events").read_text()
    except (OSError, IndexError):
        return None
    counts = dict(line.split() for line in text.splitlines())
    return int(counts["oom_kill"])
