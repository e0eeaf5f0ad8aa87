"""Worker processes for the pieces of an input, with progress that is counted across them."""

from __future__ import annotations

import concurrent.futures
import multiprocessing
import multiprocessing.connection
import os
import threading
from collections.abc import Callable, Sequence
from typing import Any

Report = Callable[[int], None]

_counter: Any = None  # shared by all workers: characters read


def run_all(
    function: Callable[..., None],
    tasks: Sequence[tuple[Any, ...]],
    n_workers: int,
    progress: Callable[[int], None],
    done: Callable[[int], None],
) -> None:
    """Call `function(*task, report)` for every task; the first error stops the rest.

    Args:
        function: importable by name; `report` takes the characters read since the last call.
        n_workers: processes; 1 works in this one.
        progress: called with the characters read so far by all workers.
        done: called with the index of each task when it is complete.
    """
    if n_workers == 1 or len(tasks) < 2:
        total = 0

        def report(n: int) -> None:
            nonlocal total
            total += n
            progress(total)

        for i, task in enumerate(tasks):
            function(*task, report)
            done(i)
        return
    context = multiprocessing.get_context("spawn")
    counter = context.Value("q", 0)
    with concurrent.futures.ProcessPoolExecutor(
        min(n_workers, len(tasks)), context, initializer=_begin, initargs=(counter,)
    ) as executor:
        numbers = {executor.submit(_call, function, task): i for i, task in enumerate(tasks)}
        waiting = set(numbers)
        try:
            while waiting:
                finished, waiting = concurrent.futures.wait(
                    waiting, timeout=0.2, return_when=concurrent.futures.FIRST_COMPLETED
                )
                progress(counter.value)
                for future in finished:
                    future.result()
                    done(numbers[future])
        except BaseException:
            executor.shutdown(wait=False, cancel_futures=True)
            raise


def _begin(counter: Any) -> None:
    global _counter
    _counter = counter
    os.environ["TOKENIZERS_PARALLELISM"] = "false"  # the processes are the parallelism
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """A killed parent must not leave workers behind that write into its folder."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    multiprocessing.connection.wait([parent.sentinel])
    os._exit(1)


def _call(function: Callable[..., None], task: tuple[Any, ...]) -> None:
    unreported = 0

    def report(n: int) -> None:
        nonlocal unreported
        unreported += n
        if unreported > 1 << 16:  # the lock is taken rarely
            flush()

    def flush() -> None:
        nonlocal unreported
        with _counter.get_lock():
            _counter.value += unreported
        unreported = 0

    function(*task, report)
    flush()
