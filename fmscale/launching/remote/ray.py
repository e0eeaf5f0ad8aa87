"""Tasks of Ray, on this machine or on a cluster that is up."""

from __future__ import annotations

import os
import signal
from typing import Any

from fmscale.errors import ConfigError
from fmscale.launching.backend import Task
from fmscale.launching.job_process import JobSpec, run_job
from fmscale.launching.remote.backend import Remote
from fmscale.signals import Interrupted


class Ray(Remote):
    """One Ray task each; Ray knows where there is room.

    Args:
        ray: `init`, arguments of `ray.init`: `address: auto` joins a running cluster; and `remote`,
            options of each task, e.g. `num_cpus: 4`, `num_gpus: 1`, `max_retries: 3`.
        common: arguments of every `Remote`.
    """

    def __init__(self, ray: dict[str, dict[str, Any]], **common: Any) -> None:
        super().__init__(**common)
        try:
            import ray as library
        except ImportError as error:
            raise ConfigError(
                "launcher=ray needs the package ray: pip install 'fmscale[ray]'"
            ) from error
        self.ray = library
        self.init = {"include_dashboard": False, "log_to_driver": False, **ray["init"]}
        self.remote = ray["remote"]
        self._open: dict[Any, int] = {}  # reference -> id of the task

    def _connect(self) -> None:
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

    def send(self, specs: dict[int, JobSpec], tasks: list[Task]) -> None:
        if not self.ray.is_initialized():
            self._connect()
        task = self.ray.remote(**self.remote)(_work) if self.remote else self.ray.remote(_work)
        self._open |= {task.remote(spec): index for index, spec in specs.items()}

    def ended(self) -> dict[int, dict[str, Any]]:
        if not self._open:
            return {}
        ready, _ = self.ray.wait(list(self._open), num_returns=len(self._open), timeout=0)
        return {self._open.pop(reference): self._outcome(reference) for reference in ready}

    def _outcome(self, reference: Any) -> dict[str, Any]:
        try:
            return dict(self.ray.get(reference))
        except Exception as error:  # Ray has a kind for every way to die
            reason = f"its Ray task failed: {type(error).__name__}: {error}".splitlines()[0]
        return {"event": "failed", "state": "failed", "reason": reason}

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

    def leave(self) -> None:
        # As from Ctrl-C: a task at work saves its step; one that waits never starts.
        for reference in self._open:
            self.ray.cancel(reference)
        if self._open:
            self.ray.wait(list(self._open), num_returns=len(self._open))
        self.ray.shutdown()


def _work(spec: JobSpec) -> dict[str, Any]:
    """What a Ray task does; canceled, it saves its step and ends like any other."""
    try:
        return run_job(spec)
    except Interrupted as error:
        return {"event": "failed", "state": "interrupted", "reason": str(error)}
