"""When a run is saved, and how long it has trained."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from typing import Any

import pytorch_lightning as pl

from fmscale.runs.store import RunFolder
from fmscale.training import checkpoint, sharded_checkpoint
from fmscale.training.callbacks import StepCallback, Training
from fmscale.training.checkpoint import Checkpoint

SAVING_SHARE = 0.02  # of the time, at most, goes into checkpoints that only a kill would need


class SavePolicy:
    """Says when to save, and measures the time that goes into saving and into training.

    Args:
        keep_at: optimizer steps whose checkpoints are kept, e.g. where branches leave a trunk.
        every_seconds: pause between those in between, so that little is lost to a kill; longer
            where saving takes long. 0: after every step, whatever it costs.
        n_runs: trained as one; each has its share of the time.
        now: the clock, in seconds.
    """

    def __init__(
        self,
        keep_at: Collection[int],
        every_seconds: float,
        n_runs: int = 1,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self.keep_at = frozenset(keep_at)
        self.every_seconds = every_seconds
        self.n_runs = n_runs
        self.now = now
        self.paused = self.took = 0.0
        self.start()

    def start(self) -> None:
        """Training begins now."""
        self.began = self.saved_at = self.now()

    def due(self, step: int) -> bool:
        """Whether to save after `step` optimizer steps."""
        return step in self.keep_at or self.now() - self.saved_at > self.pause

    @property
    def pause(self) -> float:
        """Seconds from the last checkpoint to the next, going by what the last one took."""
        return max(self.every_seconds, self.took / SAVING_SHARE) if self.every_seconds else 0.0

    @contextlib.contextmanager
    def saving(self) -> Iterator[None]:
        """Everything that a checkpoint costs happens inside."""
        began = self.now()
        yield
        self.saved_at = self.now()
        self.took = self.saved_at - began
        self.paused += self.took

    @property
    def seconds(self) -> float:
        """Training time of each run since the start, without what was spent on anything else."""
        return (self.now() - self.began - self.paused) / self.n_runs


@dataclass(frozen=True)
class CheckpointWriter:
    """Writes a run's checkpoints, and drops those that are no longer kept."""

    folder: RunFolder
    policy: SavePolicy
    newest: int  # how many checkpoints are kept besides those that `policy` keeps
    start: Checkpoint | None  # where this fit began; None: fresh weights
    precision: str
    group: Any = None  # of all processes, where each writes its part of a divided model

    @property
    def seconds(self) -> float:
        """Training time along the path so far, without the time spent saving."""
        return (self.start.seconds if self.start is not None else 0.0) + self.policy.seconds

    def state(self, step: int, model: dict[str, Any], optimizer: dict[str, Any]) -> Checkpoint:
        """What has been trained after `step` steps, with the given state dicts."""
        seconds_trunk = self.start.seconds_trunk if self.start is not None else 0.0
        return Checkpoint(step, model, optimizer, self.seconds, self.precision, seconds_trunk)

    def write(self, module: Training) -> None:
        self.folder.verify()
        state = self.state(module.step, *module.states())
        folder, keep = self.folder.checkpoints, self.policy.keep_at
        if self.group is not None:
            sharded_checkpoint.save(folder, state, keep=keep, newest=self.newest, group=self.group)
        else:
            checkpoint.save(folder, state)
            checkpoint.prune(folder, keep=keep, newest=self.newest)


class CheckpointCallback(StepCallback):
    """Saves whenever that is due.

    Args:
        write: puts what is trained on disk.
        on_saved: called with each step of `policy.keep_at` once it is there.
        due: step -> whether to save; None: as `policy` says.
    """

    def __init__(
        self,
        policy: SavePolicy,
        write: Callable[[Training], None],
        *,
        on_saved: Callable[[int], None] = lambda step: None,
        due: Callable[[int], bool] | None = None,
    ) -> None:
        self.policy, self.write, self.on_saved = policy, write, on_saved
        self.due = due or policy.due
        self.saved_step: int | None = None

    def on_train_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        self.policy.start()

    def on_step_end(self, module: Training) -> None:
        if self.due(module.step):
            self.save(module)

    def save(self, module: Training) -> None:
        """Save now, unless this step is saved."""
        if module.step == self.saved_step:
            return
        with self.policy.saving():
            self.write(module)
        self.saved_step = module.step
        if module.step in self.policy.keep_at:
            self.on_saved(module.step)
