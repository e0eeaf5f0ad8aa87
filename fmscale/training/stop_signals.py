"""A signal to stop: the step under way is finished and saved first.

Ctrl-C, a scheduler's SIGTERM and the like lose no step. While no steps are made (data, evaluation)
a signal acts at once: the newest checkpoint is all there is to keep.
"""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytorch_lightning as pl

from fmscale.signals import ECHO_SECONDS, Interrupted
from fmscale.training.callbacks import StepCallback, Training
from fmscale.training.saving import CheckpointCallback

# SIGUSR2 is how submitit has Slurm announce preemption and the end of a job's time.
STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR2)


class InterruptionGuard(StepCallback):
    """Holds a stop signal back until the step is done and its checkpoint on disk.

    Then the handler that was there before acts, so that a launcher's own (which may ask a
    scheduler to start the job again) still has its say; where there is none, the process ends. A
    second signal, later than an echo of the first, does not wait.
    """

    def __init__(self, saving: CheckpointCallback) -> None:
        self.saving = saving
        self.requested: int | None = None
        self.requested_at = 0.0  # seconds of the monotonic clock
        # Before Lightning installs its own, which would end an accumulated step half-way.
        self.before: dict[int, Any] = {}
        if threading.current_thread() is threading.main_thread():
            handlers = {signum: signal.getsignal(signum) for signum in STOP_SIGNALS}
            self.before = {s: h for s, h in handlers.items() if h is not signal.SIG_IGN}

    def on_train_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        self._begin()

    def on_step_end(self, module: Training) -> None:
        if self.requested is None:
            return
        self.saving.save(module)
        self._restore()
        before = self.before[self.requested]
        # Python's own raises KeyboardInterrupt, which Lightning turns into exit code 1.
        if callable(before) and before is not signal.default_int_handler:
            before(self.requested, None)
        raise Interrupted(self.requested)

    def on_train_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        self._end()

    def on_exception(self, trainer: pl.Trainer, pl_module: Any, exception: BaseException) -> None:
        self._end(exception)

    @contextlib.contextmanager
    def watching(self) -> Iterator[InterruptionGuard]:
        """Holds signals back inside, for steps that Lightning does not take."""
        self._begin()
        try:
            yield self
        except BaseException as error:
            self._end(error)
            raise
        self._end()

    def _begin(self) -> None:
        for signum in self.before:
            signal.signal(signum, self._request)

    def _end(self, error: BaseException | None = None) -> None:
        """End the process if it was asked to after the last step, or in one that failed."""
        self._restore()
        if self.requested is not None and not isinstance(error, SystemExit):
            raise Interrupted(self.requested) from error

    def _request(self, signum: int, frame: Any) -> None:
        if self.requested is None:
            self.requested, self.requested_at = signum, time.monotonic()
        elif time.monotonic() - self.requested_at > ECHO_SECONDS:
            raise Interrupted(signum)

    def _restore(self) -> None:
        for signum, handler in self.before.items():
            signal.signal(signum, handler)
