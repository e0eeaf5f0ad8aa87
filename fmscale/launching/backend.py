"""What does the tasks of a sweep: this process, others of this machine, a cluster.

Backends differ in how a task is started and watched. Which comes next, what is tried again and what
a failure means is the same for all (`fmscale.launching.driver`).
"""

from __future__ import annotations

import math
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from typing import Any, Self

from fmscale.planning.sweep import Sweep
from fmscale.runs.lock import HELD_SECONDS
from fmscale.training.distributed.world import World


@dataclass
class Task:
    """One unit of work: plain values, so that any process can be given it."""

    kind: str  # "check", "speed", "group" (vmapped), "trunk", "branch"; "job": trunk and branches
    configs: list[dict[str, Any]]  # of the job; several for a vmapped group
    run_id: str | None = None  # the branch, or None
    halvings: int = 0  # of the micro-batch, after running out of memory
    options: dict[str, Any] = field(default_factory=dict)  # of the driver, for a "job"
    jobs: tuple[int, ...] = (0,)  # their indices in the sweep
    weight: float = 1.0  # expected seconds; heavier tasks start first

    @property
    def fields(self) -> dict[str, Any]:
        """What the process that does it has to know."""
        return asdict(self)


@dataclass
class Event:
    """Something that has happened to a task."""

    task: Task
    name: str  # "progress", "branch_ready"; "held", "done", "failed"
    fields: dict[str, Any] = field(default_factory=dict)

    @property
    def ends(self) -> bool:
        """Whether the task is over, or has to wait."""
        return self.name in ("held", "done", "failed")

    @staticmethod
    def of(task: Task, message: dict[str, Any]) -> Event:
        """What the process of a task has said."""
        return Event(task, message["event"], {k: v for k, v in message.items() if k != "event"})


Report = Callable[[Event], None]


class Backend(ABC):
    """Starts tasks and reports events; as a context, it leaves none of its processes behind."""

    world = World()  # of each task
    n_slots: float = math.inf  # tasks at once; infinite where a scheduler has a queue of its own
    is_here = True  # its tasks share this machine, and cost no queue
    whole_jobs = False  # a trunk and its branches are one task, since it outlives this process

    def open(self, sweep: Sweep) -> int:
        """Get ready for a sweep; returns how many tasks run at the same time."""
        return 1

    @abstractmethod
    def start(self, tasks: list[Task]) -> None:
        """Start tasks, no more than there are free slots; ConfigError if they cannot be started."""

    @abstractmethod
    def events(self, report: Report, timeout: float | None) -> None:
        """Report what has happened, or wait for something, `timeout` seconds at most."""

    @abstractmethod
    def leave(self) -> None:
        """This process goes; tasks may still be at work."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.leave()

    def run(
        self,
        tasks: Iterable[Task],
        follow: Callable[[Event], Iterable[Task]],
        until: Callable[[], bool] = lambda: False,
    ) -> None:
        """Do tasks, heaviest first.

        A task whose run another process trains is "held": it is tried again later.

        Args:
            tasks: what is ready now.
            follow: called with each event; returns tasks that became ready through it.
            until: whether to stop before all is done.
        """
        waiting, at_work = list(tasks), set[int]()
        held: list[tuple[float, Task]] = []  # when to try again

        def report(event: Event) -> None:
            if event.ends:
                at_work.discard(id(event.task))
            if event.name == "held":
                held.append((time.monotonic() + HELD_SECONDS, event.task))
            waiting.extend(follow(event))

        while (waiting or held or at_work) and not until():
            now = time.monotonic()
            waiting += [task for due, task in held if due <= now]
            held[:] = [(due, task) for due, task in held if due > now]
            waiting.sort(key=lambda task: -task.weight)
            free = min(len(waiting), self.n_slots - len(at_work))
            if free > 0:
                batch, waiting[: int(free)] = waiting[: int(free)], []
                at_work |= {id(task) for task in batch}
                self.start(batch)
            pause = max(0.0, min(due for due, _ in held) - now) if held else None
            if at_work:
                self.events(report, pause)
            elif pause:
                time.sleep(pause)
