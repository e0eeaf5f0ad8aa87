"""Jobs as tasks of Ray, on this machine or on a cluster that is up."""

from __future__ import annotations

import os
import signal
from typing import Any

from fmscale.launching.carry_out import Order, carry_out
from fmscale.launching.remote import Crew
from fmscale.settings import ConfigError
from fmscale.signals import Interrupted


class RayCrew(Crew):
    """One Ray task a job.

    Args:
        init: arguments of `ray.init`; `address: auto` joins a running cluster.
        remote: options of each task, e.g. `num_cpus: 4`, `num_gpus: 1`, `max_retries: 3`.
    """

    def __init__(self, init: dict[str, Any], remote: dict[str, Any]) -> None:
        try:
            import ray
        except ImportError as error:
            raise ConfigError(
                "launcher=ray needs the package ray: pip install 'fmscale[ray]'"
            ) from error
        self.ray = ray
        self.init = {"include_dashboard": False, "log_to_driver": False, **init}
        self.remote = remote
        self._open: dict[Any, int] = {}
        self._ended: dict[int, str] = {}

    def width(self, n_jobs: int) -> int:
        return n_jobs

    def start(self, orders: dict[int, Order], keys: dict[int, str]) -> None:
        # Ray would have its workers make way for whatever else this machine does (nice 15), for
        # minutes on end on a busy one.
        os.environ.setdefault("RAY_worker_niceness", "0")
        on_sigterm = signal.getsignal(signal.SIGTERM)
        try:
            self.ray.init(**self.init)
        except (ConnectionError, TypeError, ValueError) as error:
            raise ConfigError(f"ray.init(**hydra.launcher.ray.init) failed: {error}") from error
        finally:
            signal.signal(signal.SIGTERM, on_sigterm)  # Ray's own would exit with code 15
        self.name_what_is_lacking()
        task = self.ray.remote(**self.remote)(_work) if self.remote else self.ray.remote(_work)
        self._open = {task.remote(order): index for index, order in orders.items()}

    def ended(self) -> dict[int, str]:
        if self._open:
            ready, _ = self.ray.wait(list(self._open), num_returns=len(self._open), timeout=0)
            for reference in ready:
                self._ended[self._open.pop(reference)] = self._how(reference)
        return dict(self._ended)

    def _how(self, reference: Any) -> str:
        try:
            self.ray.get(reference)
        except Exception as error:  # Ray has a kind for every way to die
            return f"its Ray task failed: {type(error).__name__}: {error}".splitlines()[0]
        return "its Ray task ended without a word"

    def name_what_is_lacking(self) -> None:
        """Ray lets a task wait for ever for what no machine has, in case one joins that does."""
        nodes = [node["Resources"] for node in self.ray.nodes() if node["Alive"]]
        for option, resource in (("num_cpus", "CPU"), ("num_gpus", "GPU")):
            wanted = self.remote.get(option) or 0
            most = max((node.get(resource, 0.0) for node in nodes), default=0.0)
            if wanted > most:
                print(
                    f"hydra.launcher.ray.remote.{option}={wanted}, but no machine of this Ray "
                    f"cluster has more than {most:g}: the jobs wait until one joins."
                )

    def leave(self, *, finished: bool) -> None:
        # As from Ctrl-C: a task at work saves its step; one that waits never starts.
        for reference in self._open:
            self.ray.cancel(reference)
        if self._open:
            self.ray.wait(list(self._open), num_returns=len(self._open))
        self.ray.shutdown()


def _work(order: Order) -> dict[str, str]:
    """What a Ray task does; cancelled, it saves its step and ends like any other."""
    try:
        return carry_out(order)
    except Interrupted:
        return {}
