"""Held-out contrastive loss, always at the same batch size."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fmscale.data.protocol import KnowsFloor, PairData
from fmscale.evaluation.image_text.features import check_pairs, pair_vectors
from fmscale.evaluation.image_text.likelihood import held_out_likelihood, predicts_captions
from fmscale.evaluation.metric import Metric, Objective, mean_metrics


class HeldOutPairs:
    """Symmetric contrastive loss on the fixed validation pairs; for a model that predicts
    captions, their negative log-likelihood.

    Pairs are contrasted within the data's own fixed batches, since the loss grows with the batch
    (log B for an untrained model). With the loss comes the floor that no model can be expected to
    pass: the data's own where they know it, as rendered scenes do, or that of equal captions.
    """

    def check(self, data: Any) -> None:
        """Refuse data that are not pairs."""
        check_pairs(data)

    def __call__(self, model: nn.Module, data: PairData, objective: Objective) -> Iterator[Metric]:
        if predicts_captions(model):
            yield from held_out_likelihood(model, data)
            return
        vectors, losses, hits = pair_vectors(model, data), [], []
        batches = zip(
            vectors.image.split(data.val_batch_size),
            vectors.text.split(data.val_batch_size),
            vectors.scale,
            strict=True,
        )
        for z_image, z_text, scale in batches:
            logits = scale * z_image @ z_text.T  # (B, B)
            losses.append(pair_losses(logits))
            hits.append((logits.argmax(dim=1) == _own(logits)).double())
        # The pairs of a batch compete with each other, but a loss per pair still varies mostly
        # with the pair itself: the standard error over pairs is near that over batches.
        yield from mean_metrics("val/loss", torch.cat(losses), "nats/pair")
        # Rendered scenes know more than which captions are the same.
        if isinstance(data, KnowsFloor):
            floor = data.loss_floor[0]
        else:
            floor = collision_floor(vectors.captions, data.val_batch_size)
        yield Metric("val/loss_floor", floor, "nats/pair")
        yield Metric("val/match_accuracy", float(torch.cat(hits).mean()), "fraction")


def collision_floor(captions: Tensor, batch_size: int) -> float:
    """Loss in nats per pair that no model can pass, as some captions of a batch are the same.

    Equal captions score alike: a caption that comes m times in its batch costs ln m at least, in
    either direction.

    Args:
        captions: token ids (n, T), n a multiple of the batch size.
    """
    counts = [batch.unique(dim=0, return_counts=True)[1] for batch in captions.split(batch_size)]
    return float(torch.cat([n * n.double().log() for n in counts]).sum()) / len(captions)


def pair_losses(logits: Tensor) -> Tensor:
    """Loss of each pair (B,) in nats: the mean of both directions of the cross-entropy."""
    own = _own(logits)
    caption_of_image = F.cross_entropy(logits, own, reduction="none")
    image_of_caption = F.cross_entropy(logits.T, own, reduction="none")
    return (caption_of_image + image_of_caption) / 2


def _own(logits: Tensor) -> Tensor:
    return torch.arange(len(logits), device=logits.device)
