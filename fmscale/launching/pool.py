"""A pool of warm worker processes, driven from a parent that imports no torch."""

from __future__ import annotations

import json
import os
import queue
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Task:
    """One unit of work for a worker, with what may follow it."""

    kind: str  # "check", "trunk", "branch" or "speed"
    config: dict[str, Any]
    run_id: str | None = None  # the branch, or None
    weight: float = 1.0  # expected seconds; heavier tasks start first
    job: int = 0  # index of the job it belongs to

    def message(self) -> str:
        fields = {"kind": self.kind, "config": self.config, "run_id": self.run_id}
        return json.dumps(fields) + "\n"


@dataclass
class Event:
    """Something a worker said, or that it is gone."""

    task: Task
    name: str  # "progress", "branch_ready", "done", "failed"
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
        """Let an idle worker end by itself."""
        assert self.process.stdin is not None
        self.process.stdin.close()


class Pool:
    """Runs tasks on `n_workers` processes; a worker that dies is replaced."""

    def __init__(self, n_workers: int, n_threads: int) -> None:
        self.n_workers = n_workers
        self.n_threads = n_threads
        self._queue: queue.Queue[tuple[Worker, dict[str, Any]]] = queue.Queue()
        self._workers: list[Worker] = []

    def __enter__(self) -> Pool:
        return self

    def __exit__(self, *error: object) -> None:
        for worker in self._workers:
            if worker.task is not None:
                worker.process.terminate()  # it notes "interrupted" and leaves
            else:
                worker.stop()
        for worker in self._workers:
            worker.process.wait()

    def run(
        self, tasks: list[Task], follow: Callable[[Event], list[Task]] = lambda event: []
    ) -> Iterator[Event]:
        """Run tasks, heaviest first, and yield what happens.

        Args:
            tasks: what is ready now.
            follow: called with each event; returns tasks that became ready through it.
        """
        waiting = list(tasks)
        while waiting or any(worker.task for worker in self._workers):
            self._hand_out(waiting)
            worker, message = self._queue.get()
            name, task = message.pop("event"), worker.task
            if name == "gone":
                self._workers.remove(worker)
                if task is None:
                    continue
                reason = f"the worker process ended with code {message['code']}"
                if message["code"] in (-9, 137):
                    reason += " (killed; often for lack of memory)"
                name, message = "failed", {"reason": reason, "traceback": None}
            if task is None:
                continue  # it has started, or said its last word
            if name == "started":
                continue
            if name in ("done", "failed"):
                worker.task = None
            event = Event(task, name, message)
            waiting += follow(event)
            yield event

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
