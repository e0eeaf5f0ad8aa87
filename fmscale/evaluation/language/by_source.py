"""What a model learned from each ingredient of a mixture."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from fmscale.data.known_languages.known_language import KnownLanguage
from fmscale.data.text.mixture import Mixture
from fmscale.evaluation.language.language import token_nats
from fmscale.evaluation.metric import Metric, Objective, mean_metrics, measuring


class LossBySource:
    """Held-out loss of each source of a mixture, with bits per byte or regret where they exist.

    `val_loss_of_text` is the loss on all validation sequences of the source `text`, whatever its
    weight; a model may also name tokens of other sources, which costs it a little.
    """

    def check(self, data: Any) -> None:
        """Only a mixture has sources."""
        if not isinstance(data, Mixture):
            raise ValueError(
                f"loss by source needs a mixture, not {type(data).__name__}. Choose data=mixture, "
                "or evaluation=language"
            )

    def __call__(self, model: nn.Module, data: Mixture, objective: Objective) -> Iterator[Metric]:
        for name, source in data.sources.items():
            known = source.data if isinstance(source.data, KnownLanguage) else None
            losses, regrets = [], []
            with measuring(model) as device:
                for batch in data.source_validation(name, data.val_batch_size):
                    nats = token_nats(model, batch["tokens"].to(device)).double().cpu()
                    losses.append(nats.mean(dim=1))
                    if known is not None:
                        true = known.oracle_nats(batch["tokens"] - source.offset)
                        regrets.append((nats - true).mean(dim=1))
            found = mean_metrics(f"val/loss_of_{name}", torch.cat(losses), "nats/token")
            yield from found
            if source.data.val_bytes_per_token is not None:
                bits_per_byte = found[0].value / math.log(2) / source.data.val_bytes_per_token
                yield Metric(f"val/bpb_of_{name}", bits_per_byte, "bits/byte")
            if regrets:
                yield from mean_metrics(f"val/regret_of_{name}", torch.cat(regrets), "nats/token")
