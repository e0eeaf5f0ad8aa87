"""Callbacks of a run that several processes train: they agree after each step, then act alike."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from typing import Any

import pytorch_lightning as pl

from fmscale.training import sharded_checkpoint
from fmscale.training.callbacks import CheckpointWriter, StepCallback
from fmscale.training.interruption import InterruptionGuard
from fmscale.training.module import TrainingModule
from fmscale.training.ranks import Ranks


class Agreement(StepCallback):
    """The first callback of every rank: the mean loss, and what rank 0 wants done, for all.

    One small reduction a step carries it all.
    """

    def __init__(self, ranks: Ranks) -> None:
        self.ranks = ranks
        self.wants_save: Callable[[], bool] = lambda: False  # asked on rank 0
        self.wants_stop: Callable[[], bool] = lambda: False
        self.save = self.stop = False

    def on_train_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Count who is here: a process group left over from elsewhere would train on, wrongly."""
        wanted = self.ranks.world.size
        (counted,) = self.ranks.total([1.0])
        if counted != wanted or trainer.world_size != wanted:
            raise RuntimeError(
                f"{wanted} processes were started, {counted:.0f} are connected and Lightning "
                f"counts {trainer.world_size}"
            )

    def on_step_end(self, module: TrainingModule) -> None:
        share = module.step_loss / self.ranks.world.size
        wishes = [float(self.wants_save()), float(self.wants_stop())]
        module.step_loss, save, stop = self.ranks.total([share, *wishes])
        self.save, self.stop = save > 0, stop > 0


class AgreedWriter(CheckpointWriter):
    """Saves when all have agreed to.

    Whole models are saved by rank 0, like those of a single process. Divided ones are saved by
    all, each its part.
    """

    def __init__(self, agreement: Agreement, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.agreement = agreement
        self.saved_step: int | None = None

    def is_due(self) -> bool:
        return time.monotonic() - self.saved_at > self.every_seconds

    def on_step_end(self, module: TrainingModule) -> None:
        if module.step in self.keep_at:
            self.save(module)
            self.on_saved(module.step)
        elif self.agreement.save or self.agreement.stop:
            self.save(module)

    def save(self, module: TrainingModule) -> None:
        if module.step == self.saved_step:  # before a stop it is asked twice
            return
        self.saved_step = module.step
        if not module.sharded:
            super().save(module)
            return
        began = time.monotonic()
        self.folder.verify()
        sharded_checkpoint.save(
            self.folder.checkpoints, self.state(module),
            keep=self.keep_at, newest=self.keep_newest, group=self.agreement.ranks.orders,
        )  # fmt: skip
        self.saved_at = time.monotonic()
        self.paused += self.saved_at - began


class AgreedGuard(InterruptionGuard):
    """Acts on a signal once all know of it."""

    def __init__(self, agreement: Agreement, writer: CheckpointWriter) -> None:
        super().__init__(writer)
        self.agreement = agreement

    def on_step_end(self, module: TrainingModule) -> None:
        if self.agreement.stop:
            super().on_step_end(module)


class Follower(StepCallback):
    """The last callback of all ranks but the first: save along, and leave along."""

    def __init__(self, agreement: Agreement, writer: AgreedWriter) -> None:
        self.agreement = agreement
        self.writer = writer

    def on_train_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        # After Lightning, whose own handler would talk to the other ranks in the middle of a step.
        signal.signal(signal.SIGTERM, signal.SIG_IGN)

    def on_step_end(self, module: TrainingModule) -> None:
        if module.sharded:  # else rank 0 saves alone
            self.writer.on_step_end(module)
        if self.agreement.stop:
            raise SystemExit(0)
