"""Jobs as tasks of Ray, on this machine or on a cluster that is up."""

from __future__ import annotations

from typing import Any

from fmscale.launching.carry_out import Order, carry_out
from fmscale.launching.remote import Crew
from fmscale.settings import ConfigError


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
        try:
            self.ray.init(**self.init)
        except (ConnectionError, TypeError, ValueError) as error:
            raise ConfigError(f"ray.init(**hydra.launcher.ray.init) failed: {error}") from error
        task = (
            self.ray.remote(**self.remote)(carry_out) if self.remote else self.ray.remote(carry_out)
        )
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

    def leave(self, *, finished: bool) -> None:
        for reference in self._open:
            self.ray.cancel(reference, force=True)
        self.ray.shutdown()
