"""Jobs in the worker processes of joblib on this machine."""

from __future__ import annotations

import signal
from concurrent.futures import Future, wait
from typing import Any

from fmscale.launching.carry_out import Order, carry_out
from fmscale.launching.remote import Crew
from fmscale.launching.sweep import cores
from fmscale.settings import ConfigError
from fmscale.signals import Interrupted, interrupt


class JoblibCrew(Crew):
    """One order after the other for each of `n_jobs` processes.

    A killed process ends them all; the same sweep again goes on from their checkpoints.

    Args:
        n_jobs: processes; None or -1: as many as cores divided by threads.
    """

    def __init__(self, n_jobs: int | None = None) -> None:
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
        self._futures: dict[int, Future[Any]] = {}

    def width(self, n_jobs: int) -> int:
        return min(n_jobs, self.n_jobs or cores())

    def start(self, orders: dict[int, Order], keys: dict[int, str]) -> None:
        threads = max(order.n_threads or cores() for order in orders.values())
        n_jobs = min(len(orders), self.n_jobs or max(1, cores() // threads))
        self._pool = self._make_pool(max_workers=n_jobs, timeout=None)
        self._futures = {i: self._pool.submit(_work, order) for i, order in orders.items()}

    def ended(self) -> dict[int, str]:
        return {i: _how(future) for i, future in self._futures.items() if future.done()}

    def leave(self, *, finished: bool) -> None:
        try:
            if not finished:
                for process in self._pool._processes.values():
                    process.terminate()  # it saves its step and leaves
                wait(self._futures.values())
        finally:  # also after a second Ctrl-C
            self._pool.shutdown(wait=finished, kill_workers=not finished)


class _Desk:
    """Where a joblib process takes its orders; once told to stop, it takes no more."""

    def __init__(self) -> None:
        self.at_work = self.closed = False

    def work(self, order: Order) -> dict[str, str]:
        # A Ctrl-C reaches the whole process group; the parent decides and sends SIGTERM.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, self.close)
        if self.closed:
            raise Interrupted(signal.SIGTERM)
        self.at_work = True
        try:
            return carry_out(order)
        finally:
            self.at_work = False

    def close(self, signum: int, frame: Any) -> None:
        self.closed = True
        if self.at_work:  # an idle process that left would have joblib kill the others
            interrupt(signum, frame)


_desk = _Desk()


def _work(order: Order) -> dict[str, str]:
    return _desk.work(order)


def _how(future: Future[Any]) -> str:
    if future.cancelled() or (error := future.exception()) is None:
        return "its joblib process ended without a word"
    return f"joblib gave up: {type(error).__name__}: {error}".splitlines()[0]
