"""Tasks in the worker processes of joblib on this machine."""

from __future__ import annotations

import signal
from concurrent.futures import Future, wait
from typing import Any

from fmscale.errors import ConfigError
from fmscale.launching.backend import Task
from fmscale.launching.job_process import JobSpec, run_job
from fmscale.launching.remote.backend import Remote
from fmscale.launching.remote.joblib_internals import worker_processes
from fmscale.planning.estimates import cores
from fmscale.planning.sweep import Sweep
from fmscale.signals import Interrupted, interrupt


class Joblib(Remote):
    """One task after the other for each of `n_jobs` processes.

    A killed process ends what runs in the others as well; the rest goes to new ones.

    Args:
        n_jobs: processes; None or -1: as many as cores divided by threads.
        common: arguments of every `Remote`.
    """

    def __init__(self, n_jobs: int | None = None, **common: Any) -> None:
        super().__init__(**common)
        try:
            # joblib's own pool: `joblib.Parallel` would run a single job in the parent.
            from joblib.externals.loky import get_reusable_executor
        except ImportError as error:
            raise ConfigError(
                "launcher=joblib needs the package joblib: pip install 'fmscale[joblib]'"
            ) from error
        if n_jobs is not None and n_jobs != -1 and n_jobs < 1:
            raise ConfigError(f"hydra.launcher.n_jobs={n_jobs} must be at least 1, -1 or null")
        self.n_jobs = None if n_jobs == -1 else n_jobs
        self._make_pool = get_reusable_executor
        self._pool: Any = None
        self._futures: dict[int, Future[dict[str, Any]]] = {}

    def open(self, sweep: Sweep) -> int:
        n_left = super().open(sweep)
        self.n_slots = n_jobs = self.n_jobs or max(1, cores() // (self.n_threads or cores()))
        return min(n_left, n_jobs)

    def send(self, specs: dict[int, JobSpec], tasks: list[Task]) -> None:
        # The same pool as before, or another one where a process of it was killed.
        self._pool = self._make_pool(
            max_workers=int(self.n_slots), timeout=None, initializer=_get_ready
        )
        self._futures |= {i: self._pool.submit(_work, spec) for i, spec in specs.items()}

    def ended(self) -> dict[int, dict[str, Any]]:
        over = {i: future for i, future in self._futures.items() if future.done()}
        self._futures = {i: f for i, f in self._futures.items() if i not in over}
        return {i: _outcome(future) for i, future in over.items()}

    def leave(self) -> None:
        if self._pool is None:
            return
        busy = bool(self._futures)
        try:
            if busy:
                for process in worker_processes(self._pool):
                    process.terminate()  # it saves its step and leaves
                wait(self._futures.values())
        finally:  # also after a second Ctrl-C
            self._pool.shutdown(wait=not busy, kill_workers=busy)


class _Process:
    """What a joblib process is at; once asked to stop, it begins nothing more."""

    at_work = closed = False

    def close(self, signum: int, frame: Any) -> None:
        self.closed = True
        if self.at_work:  # an idle process that left would have joblib kill the others
            interrupt(signum, frame)


_process = _Process()


def _get_ready() -> None:
    # A Ctrl-C reaches the whole process group; the parent decides and sends SIGTERM.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _process.close)


def _work(spec: JobSpec) -> dict[str, Any]:
    if _process.closed:
        raise Interrupted(signal.SIGTERM)
    _process.at_work = True
    try:
        return run_job(spec)
    finally:
        _process.at_work = False


def _outcome(future: Future[dict[str, Any]]) -> dict[str, Any]:
    if (error := future.exception()) is None:
        return future.result()
    reason = f"joblib gave up: {type(error).__name__}: {error}".splitlines()[0]
    return {"event": "failed", "state": "failed", "reason": reason}
