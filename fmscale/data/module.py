"""Batches by step number, for Lightning (the only Lightning file in this folder)."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytorch_lightning as pl
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset

from fmscale.data.order import item_order
from fmscale.data.protocol import AugmentedData, TrainingData
from fmscale.pace import Pace


class StepBatches(IterableDataset[dict[str, Tensor]]):
    """Micro-batches of optimizer steps `start_step` up to `stop_step`.

    The batch of a step depends on (seed, step) alone, so a run that starts at step s, whether
    resumed or branched, sees what an unbroken run sees from step s on.
    """

    def __init__(
        self,
        data: TrainingData,
        *,
        seed: int,
        pace: Pace,
        accumulate: int,
        start_step: int,
        stop_step: int,
    ) -> None:
        self.data = data
        self.seed = seed
        self.order = item_order(data, seed)
        self.pace = pace
        self.accumulate = accumulate
        self.steps = range(start_step, stop_step)

    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        for step in self.steps:
            indices = self.order.indices(self.pace.items(step), self.pace.batch(step))
            for part in np.split(indices, self.accumulate):
                if isinstance(self.data, AugmentedData):
                    yield self.data.augmented_batch(part, self.seed, step)
                else:
                    yield self.data.train_batch(part)


class StepDataModule(pl.LightningDataModule):
    """Hands `StepBatches` to a Trainer."""

    def __init__(self, batches: StepBatches) -> None:
        super().__init__()
        self.batches = batches

    def train_dataloader(self) -> DataLoader[dict[str, Tensor]]:
        return DataLoader(self.batches, batch_size=None)
