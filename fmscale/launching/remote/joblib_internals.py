"""The worker processes of joblib's pool, which it keeps to itself."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any


def worker_processes(pool: Any) -> Collection[Any]:
    """Those of a loky executor that run now, as `multiprocessing` has them."""
    processes: Collection[Any] = pool._processes.values()
    return processes
