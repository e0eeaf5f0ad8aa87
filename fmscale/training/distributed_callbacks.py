"""Callbacks of a run that several processes train: they agree after each step, then act alike."""

from __future__ import annotations

import signal
from collections.abc import Callable
from typing import Any

import pytorch_lightning as pl

from fmscale.training.callbacks import StepCallback, Training
from fmscale.training.distributed.ranks import Ranks
from fmscale.training.saving import CheckpointCallback, SavePolicy
from fmscale.training.stop_signals import InterruptionGuard


class SharedDecision(StepCallback):
    """The first callback of every rank: the mean loss, and what rank 0 wants done, for all.

    One small reduction a step carries it all.

    Args:
        policy: rank 0's, whose clock says for all when to save; None on the others.
    """

    def __init__(self, ranks: Ranks, policy: SavePolicy | None = None) -> None:
        self.ranks = ranks
        self.policy = policy
        self.wants_stop: Callable[[], bool] = lambda: False  # asked on rank 0
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

    def on_step_end(self, module: Training) -> None:
        share = module.step_loss / self.ranks.world.size
        wants_save = self.policy is not None and self.policy.due(module.step)
        wishes = [float(wants_save), float(self.wants_stop())]
        module.step_loss, save, stop = self.ranks.total([share, *wishes])
        self.save, self.stop = save > 0, stop > 0

    def due(self, step: int) -> bool:
        """Whether all save after this step."""
        return self.save or self.stop


class RanksGuard(InterruptionGuard):
    """Acts on a signal once all know of it."""

    def __init__(self, decision: SharedDecision, saving: CheckpointCallback) -> None:
        super().__init__(saving)
        self.decision = decision
        decision.wants_stop = lambda: self.requested is not None

    def on_step_end(self, module: Training) -> None:
        if self.decision.stop:
            super().on_step_end(module)


class Follower(StepCallback):
    """The last callback of all ranks but the first: save along, and leave along.

    Args:
        saving: this rank's part of a divided model; None where rank 0 saves alone.
    """

    def __init__(self, decision: SharedDecision, saving: CheckpointCallback | None) -> None:
        self.decision = decision
        self.saving = saving

    def on_train_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        # After Lightning, whose own handler would talk to the other ranks in the middle of a step.
        signal.signal(signal.SIGTERM, signal.SIG_IGN)

    def on_step_end(self, module: Training) -> None:
        if self.saving is not None:
            self.saving.on_step_end(module)
        if self.decision.stop:
            raise SystemExit(0)
