"""Vectors of a batch of pairs, whole or in parts that are computed twice (gradient caching).

A contrastive loss needs the vectors of all pairs at once, but not the activations behind them.
In parts, each part's activations are dropped after its vectors are known and recomputed in the
backward pass (Gao et al. 2021, "Scaling deep contrastive learning batch size under memory limited
setup"; Chen et al. 2016 for the recomputation). The loss still sees the full similarity matrix:
the gradient is that of the whole batch, memory that of one part, time a third more.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


def check_chunk_size(chunk_size: int | None) -> int | None:
    """The chunk size of a contrastive objective: null, or at least 1."""
    if chunk_size is not None and (type(chunk_size) is not int or chunk_size < 1):
        raise ValueError(
            f"objective.chunk_size={chunk_size!r}: give the pairs to encode at once, or null for "
            "the whole batch"
        )
    return chunk_size


def encode_pairs(
    model: nn.Module, batch: dict[str, Tensor], chunk_size: int | None
) -> tuple[Tensor, Tensor, Tensor]:
    """What `model` gives for the whole batch: (z_image (B, d_embed), z_text (B, d_embed), scale).

    Raises:
        ValueError: for a chunk of a batch through batch norms, whose statistics would change.
    """
    image, text = batch["image"], batch["text"]
    if chunk_size is not None and any(isinstance(part, BATCH_NORMS) for part in model.modules()):
        raise ValueError(
            f"objective.chunk_size={chunk_size}: batch norms would normalise each chunk by itself "
            "and so change the numbers; use a model without them, such as model=clip/2x32, or "
            "objective.chunk_size=null"
        )
    if chunk_size is None or chunk_size >= len(image) or not torch.is_grad_enabled():
        return model(image, text)
    images, texts, scales = [], [], []
    for part in zip(image.split(chunk_size), text.split(chunk_size), strict=True):
        # Non-reentrant: random numbers and autocast of the first pass are those of the second.
        z_image, z_text, scale = checkpoint(model, *part, use_reentrant=False)
        images.append(z_image)
        texts.append(z_text)
        scales.append(scale)
    return torch.cat(images), torch.cat(texts), scales[0]


_together = False


@contextmanager
def all_ranks_together() -> Iterator[None]:
    """Inside, every rank of torch.distributed takes the loss of its part of one large batch."""
    global _together
    _together = True
    try:
        yield
    finally:
        _together = False


def of_all_ranks(z: Tensor) -> Tensor:
    """Rows of every rank, with gradients to each rank's own; outside of training, `z` alone.

    Every rank then computes the same full loss. The gather's backward sums over the ranks and data
    parallelism averages over them, so the gradient is that of one large batch.
    """
    if not _together or dist.get_world_size() == 1:
        return z
    return _Gathered.apply(z)


class _Gathered(torch.autograd.Function):
    """All ranks' rows, in the order of ranks."""

    @staticmethod
    def forward(ctx: Any, z: Tensor) -> Tensor:
        z = z.contiguous()
        parts = [torch.empty_like(z) for _ in range(dist.get_world_size())]
        dist.all_gather(parts, z)
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        total = gradient.contiguous().clone()
        dist.all_reduce(total)
        return total.chunk(dist.get_world_size())[dist.get_rank()]
