"""Loss along the context: what is gained by having read more (Kaplan et al. 2020, Fig. 20)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from fmscale.data.known_languages.known_language import KnownLanguage
from fmscale.data.protocol import TextData
from fmscale.evaluation.language.language import check_language, token_nats
from fmscale.evaluation.metric import Metric, Objective, measuring


class LossByPosition:
    """Mean loss of the tokens at positions 1, 2, 4, ... (from 1), averaged over each octave.

    `val_loss_at_8` is the mean over positions 8 to 15: single positions are too noisy at the size
    of a validation set, and an octave that is cut short is left out. Where the truth is known,
    `val_oracle_at_8` stands beside it.
    """

    def check(self, data: Any) -> None:
        """Only a language has positions."""
        check_language(data)

    def __call__(self, model: nn.Module, data: TextData, objective: Objective) -> Iterator[Metric]:
        losses: list[Tensor] = []
        oracle: list[Tensor] = []
        with measuring(model) as device:
            for batch in data.validation_batches(data.val_batch_size):
                nats = token_nats(model, batch["tokens"].to(device)).double().cpu()
                losses.append(nats)
                if isinstance(data, KnownLanguage):
                    oracle.append(data.oracle_nats(batch["tokens"]))
        for kind, values in (("loss", losses), ("oracle", oracle)):
            if not values:
                continue
            mean = torch.cat(values).mean(dim=0)  # (T,)
            first = 1
            while 2 * first - 1 <= len(mean):  # whole octaves
                octave = mean[first - 1 : 2 * first - 1]
                yield Metric(f"val/{kind}_at_{first}", float(octave.mean()), "nats/token")
                first *= 2
