"""What a signal to stop means: unwind as from an error, and tell the shell which signal it was."""

from __future__ import annotations

import math
import signal
import time
from typing import Any

# What stops a whole process group reaches a worker twice: by itself, and passed on by its parent.
# The second must not cut the last words of the first short.
ECHO_SECONDS = 3.0


class Interrupted(SystemExit):
    """Ends the process with the exit code that shells give a signal, e.g. 143 for SIGTERM."""

    def __init__(self, signum: int) -> None:
        super().__init__(128 + signum)
        self.signum = signum

    def __str__(self) -> str:
        return f"stopped by {signal.Signals(self.signum).name}"


_told_at = -math.inf


def interrupt(signum: int, frame: Any) -> None:
    """A signal handler: runs note that they were interrupted, then the process ends."""
    global _told_at
    now = time.monotonic()
    if now - _told_at > ECHO_SECONDS:
        _told_at = now
        raise Interrupted(signum)
