"""How far a model is from the truth of a language whose truth is known."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from fmscale.data.known_languages.known_language import KnownLanguage
from fmscale.evaluation.language.language import token_nats
from fmscale.evaluation.metric import Metric, Objective, mean_metrics, measuring


class Regret:
    """Loss, the oracle's loss on the same tokens, and their difference, E[log p - log q].

    The regret is the divergence of the model from the language: 0 at best. Its standard error is
    that of the paired difference, each sequence one observation.
    """

    def check(self, data: Any) -> None:
        """Refuse data without an oracle."""
        if not isinstance(data, KnownLanguage):
            raise ValueError(
                f"regret needs a language whose truth is known, not {type(data).__name__}. Choose "
                "data=markov, in_context_markov, zipf_facts or random_hierarchy, or "
                "evaluation=language."
            )

    def __call__(
        self, model: nn.Module, data: KnownLanguage, objective: Objective
    ) -> Iterator[Metric]:
        self.check(data)
        oracle, difference = [], []
        with measuring(model) as device:
            for batch in data.validation_batches(data.val_batch_size):
                nats = token_nats(model, batch["tokens"].to(device)).double().cpu()
                true = data.oracle_nats(batch["tokens"])
                oracle.append(true.mean(dim=1))
                difference.append((nats - true).mean(dim=1))
        yield Metric("val/oracle_loss", float(torch.cat(oracle).mean()), "nats/token")
        yield from mean_metrics("val/regret", torch.cat(difference), "nats/token")
