"""Tasks in this process, one after the other: `fmscale train`, and a job on a cluster."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fmscale.launching.backend import Backend, Event, Report, Task
from fmscale.training.distributed.world import World


class InProcess(Backend):
    """Does a task while its events are waited for.

    Args:
        do: (fields of a task, report) -> message of its end, e.g. `tasks.do_task`.
        world: the processes that train together, of which this one leads.
    """

    n_slots = 1

    def __init__(self, do: Callable[..., dict[str, Any]], world: World | None = None) -> None:
        self.do = do
        self.world = world or World()
        self._tasks: list[Task] = []

    def start(self, tasks: list[Task]) -> None:
        self._tasks += tasks

    def events(self, report: Report, timeout: float | None) -> None:
        task = self._tasks.pop()
        message = self.do(task.fields, lambda said: report(Event.of(task, said)))
        report(Event.of(task, message))

    def leave(self) -> None:
        """Nothing is left behind."""
