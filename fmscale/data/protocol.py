"""What every training set offers to the rest of the library.

Batches are pure functions of item indices, so a run that was killed and resumed sees exactly the
batches of an unbroken one, whatever the number of workers.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor

    from fmscale.data.zero_shot_task import ZeroShotTask


@runtime_checkable
class TrainingData(Protocol):
    """A training set with a fixed validation set; see `token_dataset` and `scenes`."""

    unit: str  # what D counts: tokens, samples, or a word of your own family
    val_batch_size: int  # items per validation batch; only a contrastive loss depends on it

    @property
    def units_per_item(self) -> int:
        """Tokens of one sequence, or 1 for an image-caption pair."""

    @property
    def n_items(self) -> int:
        """Distinct training items; the data budget U is n_items * units_per_item."""

    def prepare(self) -> None:
        """Build caches once; idempotent, atomic, safe for several processes at the same time."""

    def train_batch(self, indices: np.ndarray) -> dict[str, Tensor]:
        """Items of the given indices (B,), each in 0..n_items-1; depends on nothing else."""

    def validation_batches(self, batch_size: int) -> Iterator[dict[str, Tensor]]:
        """The fixed validation set, always in the same order."""

    def describe(self) -> dict[str, object]:
        """Name, content hash, counts and settings, as stored in every run record."""


class TextData(TrainingData, Protocol):
    """Sequences of tokens; batches are {"tokens": (B, seq_len + 1)}."""

    unit: str = "tokens"
    seq_len: int  # tokens that one sequence predicts
    vocab_size: int  # must be what the tokenizer has; stated so that the model can read it
    n_val_tokens: int | None  # size of the fixed validation set

    @property
    def units_per_item(self) -> int:
        return self.seq_len

    @property
    def val_bytes_per_token(self) -> float | None:
        """Of the validation text; None where tokens are no bytes of a text."""


class PairData(TrainingData, Protocol):
    """Image-caption pairs; batches are {"image", "text"}. Tasks may be none."""

    tokenizer: PromptTokenizer
    seq_len: int

    @property
    def zero_shot_tasks(self) -> Sequence[ZeroShotTask]: ...


class PromptTokenizer(Protocol):
    """Turns prompts into rows of token ids."""

    def encode(self, texts: Sequence[str], seq_len: int) -> np.ndarray: ...


@runtime_checkable
class KnowsFloor(Protocol):
    """Pairs whose making says how low a contrastive loss can be expected to fall."""

    @property
    def loss_floor(self) -> tuple[float, float]:
        """Nats per pair, and the standard error of it."""


@runtime_checkable
class AugmentedData(Protocol):
    """A training set whose items are altered at random at each step."""

    def augmented_batch(self, indices: np.ndarray, seed: int, step: int) -> dict[str, Tensor]:
        """As `train_batch`; what is altered depends on (seed, item, step) alone."""


def check_val_batch_size(batch_size: int, val_batch_size: int) -> None:
    """Refuse to validate pairs in batches of another size than the data state."""
    if batch_size != val_batch_size:
        raise ValueError(
            f"batch_size = {batch_size}, but this data set is validated in batches of "
            f"data.val_batch_size = {val_batch_size}: the contrastive loss depends on it. Change "
            "data.val_batch_size for all runs that are to be compared."
        )
