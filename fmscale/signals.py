"""What a signal to stop means: unwind as from an error, and tell the shell which signal it was."""

from __future__ import annotations

import signal
from typing import Any


class Interrupted(SystemExit):
    """Ends the process with the exit code that shells give a signal, e.g. 143 for SIGTERM."""

    def __init__(self, signum: int) -> None:
        super().__init__(128 + signum)
        self.signum = signum

    def __str__(self) -> str:
        return f"stopped by {signal.Signals(self.signum).name}"


def interrupt(signum: int, frame: Any) -> None:
    """A signal handler: runs note that they were interrupted, then the process ends."""
    raise Interrupted(signum)
