"""A warm worker process: imports torch once, then does one task after the other.

Started as `python -m fmscale.launching.worker`. Reads one JSON task a line from standard input
and writes one JSON event a line to standard output; whatever else the code prints goes to
standard error, so that it cannot garble the events. Should the sweep that started it die, it saves
its step and ends as well.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import queue
import signal
import sys
import threading
from typing import Any, TextIO

from fmscale.signals import interrupt


def main() -> None:
    """Serve tasks until standard input closes."""
    # A Ctrl-C reaches the whole process group; the parent decides and sends SIGTERM.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, interrupt)
    events = os.fdopen(os.dup(sys.stdout.fileno()), "w", buffering=1)
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    tasks: queue.Queue[dict[str, Any] | None] = queue.Queue()
    at_work = threading.Event()
    threading.Thread(target=_listen, args=(tasks, at_work), daemon=True).start()

    import torch

    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    from fmscale.launching.tasks import do_task  # imports Lightning: seconds, once

    _send(events, {"event": "started", "pid": os.getpid()})
    while (task := tasks.get()) is not None:
        at_work.set()
        message = do_task(task, functools.partial(_send, events))
        _send(events, message)
        if message.get("state") == "oom":
            return  # a fresh process takes this one's place
        at_work.clear()


def _listen(tasks: queue.Queue[dict[str, Any] | None], at_work: threading.Event) -> None:
    """Queue the tasks that arrive; when no more can come, end what is at work."""
    for line in sys.stdin:
        tasks.put(json.loads(line))
    tasks.put(None)
    if at_work.is_set():  # this is how an idle worker is dismissed; a busy one has lost its parent
        os.kill(os.getpid(), signal.SIGTERM)


def _send(events: TextIO, event: dict[str, Any]) -> None:
    with contextlib.suppress(BrokenPipeError):  # the parent is dead: `_listen` has noticed, too
        events.write(json.dumps(event) + "\n")
        events.flush()


if __name__ == "__main__":
    main()
