"""Batches by step number: any start gives the rest of the unbroken stream."""

import numpy as np
import torch

from fmscale.data.module import StepBatches, StepDataModule
from fmscale.optim.batch_schedule import BatchRamp, BatchSchedule


class Numbers:
    """Training data whose items are their own numbers."""

    n_items = 23

    def train_batch(self, indices: np.ndarray) -> dict[str, torch.Tensor]:
        return {"item": torch.from_numpy(indices)}


def items(start: int, stop: int, accumulate: int = 1, seed: int = 0, **ranks: int) -> torch.Tensor:
    batches = StepBatches(
        Numbers(),  # type: ignore[arg-type]
        seed=seed,
        batches=BatchSchedule(6),
        accumulate=accumulate,
        start_step=start,
        stop_step=stop,
        **ranks,
    )
    return torch.stack([batch["item"] for batch in batches])


def test_a_resumed_stream_is_the_rest_of_the_unbroken_one():
    torch.testing.assert_close(items(7, 12), items(0, 12)[7:])


def test_the_micro_batches_of_a_step_make_up_its_batch():
    whole, parts = items(0, 4), items(0, 4, accumulate=3)
    assert parts.shape == (12, 2)
    torch.testing.assert_close(parts.reshape(4, 6), whole)


def test_the_loader_hands_batches_through_unchanged():
    batches = StepBatches(
        Numbers(),  # type: ignore[arg-type]
        seed=1,
        batches=BatchSchedule(6),
        accumulate=1,
        start_step=2,
        stop_step=5,
    )
    loaded = [batch["item"] for batch in StepDataModule(batches).train_dataloader()]
    torch.testing.assert_close(torch.stack(loaded), items(2, 5, seed=1))


def test_batches_of_a_ramp_read_every_item_once_an_epoch_from_any_start():
    batches = BatchSchedule(6, 1, BatchRamp(start=2, units=20))

    def read(start: int) -> torch.Tensor:
        taken = StepBatches(
            Numbers(),  # type: ignore[arg-type]
            seed=0, batches=batches, accumulate=1, start_step=start, stop_step=12,
        )  # fmt: skip
        return torch.cat([batch["item"] for batch in taken])

    assert sorted(read(0)[: Numbers.n_items].tolist()) == list(range(Numbers.n_items))
    torch.testing.assert_close(read(3), read(0)[batches.items(3) :])


def test_the_ranks_divide_what_one_process_reads_and_keep_its_order():
    for accumulate in (1, 3):
        whole = items(0, 8, accumulate=accumulate)
        parts = [items(0, 8, accumulate=accumulate, rank=r, n_ranks=2) for r in (0, 1)]
        torch.testing.assert_close(torch.cat(parts, dim=1), whole)


class Cropped(Numbers):
    """Items with an augmentation of their own."""

    def augmented_batch(self, indices: np.ndarray, seed: int, step: int) -> dict[str, torch.Tensor]:
        return {"item": torch.from_numpy(indices * 1000 + seed * 100 + step)}


def test_an_item_is_augmented_alike_whichever_rank_reads_it():
    def read(rank: int, n_ranks: int) -> torch.Tensor:
        taken = StepBatches(
            Cropped(),  # type: ignore[arg-type]
            seed=1, batches=BatchSchedule(6), accumulate=1, start_step=2, stop_step=5,
            rank=rank, n_ranks=n_ranks,
        )  # fmt: skip
        return torch.stack([batch["item"] for batch in taken])

    torch.testing.assert_close(torch.cat([read(0, 2), read(1, 2)], dim=1), read(0, 1))
