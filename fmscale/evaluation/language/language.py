"""Held-out loss of a language model, in the units that papers use."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fmscale.data.protocol import TextData
from fmscale.evaluation.metric import Metric, Objective, mean_metrics, measuring


def token_nats(model: nn.Module, tokens: Tensor) -> Tensor:
    """Cross-entropy of each next token in float32, (B, T) from (B, T + 1)."""
    logits = model(tokens[:, :-1]).float()  # (B, T, vocab_size)
    return F.cross_entropy(logits.transpose(1, 2), tokens[:, 1:], reduction="none")


def check_language(data: Any) -> None:
    """Refuse image-text pairs."""
    if data.unit != "tokens":
        raise ValueError(
            f"{type(data).__name__} holds no language; for CLIP choose evaluation=zero_shot or "
            "evaluation=adaptation"
        )


class HeldOutText:
    """Next-token loss on the fixed validation sequences of a text.

    The loss is plain cross-entropy, whatever the training objective adds to it. Its standard
    error takes each sequence as one observation; comparing two models on the same sequences
    cancels most of it.

    Args:
        batch_size: sequences at once, for speed and memory; None: the data's `val_batch_size`.
    """

    def __init__(self, batch_size: int | None = None) -> None:
        if batch_size is not None and batch_size < 1:
            raise ValueError(f"batch_size = {batch_size}: give at least 1, or null.")
        self.batch_size = batch_size

    def check(self, data: Any) -> None:
        """Only a language has a next token."""
        check_language(data)

    def __call__(self, model: nn.Module, data: TextData, objective: Objective) -> Iterator[Metric]:
        losses = []
        with measuring(model) as device:
            for batch in data.validation_batches(self.batch_size or data.val_batch_size):
                nats = token_nats(model, batch["tokens"].to(device))
                losses.append(nats.double().mean(dim=1).cpu())
        found = mean_metrics("val/loss", torch.cat(losses), "nats/token")
        yield from found
        loss = found[0].value
        if data.val_bytes_per_token is not None:  # the symbols of a made-up language are no bytes
            bits_per_byte = loss / math.log(2) / data.val_bytes_per_token
            yield Metric("val/bpb", bits_per_byte, "bits/byte")
        if loss < 700:  # e**710 overflows; a missing value is better than an infinite one
            yield Metric("val/perplexity", math.exp(loss), "1")
