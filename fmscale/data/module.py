"""Batches by step number, for Lightning (the only Lightning file in this folder)."""

from __future__ import annotations

import numpy as np
import pytorch_lightning as pl
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from fmscale.data.item_order import item_order
from fmscale.data.protocol import AugmentedData, TrainingData
from fmscale.optim.batch_schedule import BatchSchedule


class StepBatches(Dataset[dict[str, Tensor]]):
    """Micro-batches of optimizer steps `start_step` up to `stop_step`, by number.

    The batch of a step depends on (seed, step) alone, so a run that starts at step s, whether
    resumed or branched, sees what an unbroken run sees from step s on, whichever process makes it.

    Args:
        accumulate: micro-batches in a step.
        rank, n_ranks: which part of each micro-batch this process trains on; all parts together,
            in the order of ranks, are what a single process sees.
    """

    def __init__(
        self,
        data: TrainingData,
        *,
        seed: int,
        batches: BatchSchedule,
        accumulate: int,
        start_step: int,
        stop_step: int,
        rank: int = 0,
        n_ranks: int = 1,
    ) -> None:
        self.data = data
        self.seed = seed
        self.order = item_order(data, seed)
        self.batches = batches
        self.accumulate = accumulate
        self.steps = range(start_step, stop_step)
        self.rank = rank
        self.n_ranks = n_ranks

    def __len__(self) -> int:
        return len(self.steps) * self.accumulate

    def __getitem__(self, number: int) -> dict[str, Tensor]:
        """Micro-batch `number` counted from the start; IndexError beyond the last."""
        position, part = divmod(number, self.accumulate)
        step = self.steps[position]
        indices = self.order.indices(self.batches.items(step), self.batches.batch(step))
        micro = np.split(indices, self.accumulate)[part]
        mine = np.split(micro, self.n_ranks)[self.rank]
        if isinstance(self.data, AugmentedData):
            return self.data.augmented_batch(mine, self.seed, step)
        return self.data.train_batch(mine)


class StepDataModule(pl.LightningDataModule):
    """Hands `StepBatches` to a Trainer.

    Args:
        n_workers: processes that make batches ahead; 0: none. The batches stay the same.
    """

    def __init__(self, batches: StepBatches, n_workers: int = 0) -> None:
        super().__init__()
        self.batches = batches
        self.n_workers = n_workers

    def train_dataloader(self) -> DataLoader[dict[str, Tensor]]:
        return DataLoader(self.batches, batch_size=None, num_workers=self.n_workers)
