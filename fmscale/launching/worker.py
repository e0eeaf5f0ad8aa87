"""A warm worker process: imports torch once, then does one task after the other.

Started as `python -m fmscale.launching.worker`. Reads one JSON task a line from standard input
and writes one JSON event a line to standard output; whatever else the code prints goes to
standard error, so that it cannot garble the events.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import traceback
from typing import Any, TextIO


def main() -> None:
    """Serve tasks until standard input closes."""
    # A Ctrl-C reaches the whole process group; the parent decides and sends SIGTERM.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _terminate)
    events = os.fdopen(os.dup(sys.stdout.fileno()), "w", buffering=1)
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())

    import torch

    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    from fmscale.launching.tasks import run_task  # imports Lightning: seconds, once

    _send(events, {"event": "started", "pid": os.getpid()})
    for line in sys.stdin:
        task = json.loads(line)
        try:
            result = run_task(task, lambda event: _send(events, event))
        except Exception as error:
            _send(
                events,
                {
                    "event": "failed",
                    "reason": f"{type(error).__name__}: {error}",
                    "traceback": traceback.format_exc(),
                },
            )
        else:
            _send(events, {"event": "done", "result": result})


def _send(events: TextIO, event: dict[str, Any]) -> None:
    events.write(json.dumps(event) + "\n")
    events.flush()


def _terminate(signum: int, frame: Any) -> None:
    raise SystemExit(128 + signum)


if __name__ == "__main__":
    main()
