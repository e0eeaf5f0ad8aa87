"""joblib still keeps the processes of its pool where they are looked for."""

from __future__ import annotations

import os

import pytest

from fmscale.launching.remote.joblib_internals import worker_processes

loky = pytest.importorskip("joblib.externals.loky")


def test_the_processes_of_a_pool_are_those_that_work():
    pool = loky.ProcessPoolExecutor(max_workers=1)
    try:
        at_work = pool.submit(os.getpid).result(timeout=120)
        (process,) = worker_processes(pool)
        assert process.pid == at_work != os.getpid()
        process.terminate()
        process.join(timeout=120)
        assert not process.is_alive()
    finally:
        pool.shutdown(wait=False, kill_workers=True)
