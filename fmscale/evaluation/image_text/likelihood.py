"""Measuring models that predict captions: held-out loss, and zero-shot by likelihood.

Such a model has no vector for a text. An image goes to the class whose prompts it finds likeliest:
log p(prompt | image), averaged over templates (Radford et al. 2021, Sec. 2.3).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fmscale.data.zero_shot_task import ZeroShotTask
from fmscale.evaluation.metric import Metric, mean_metrics, measuring

PROMPTS_AT_ONCE = 8192


def predicts_captions(model: Any) -> bool:
    """Whether a model gives captions a likelihood instead of a place in a joint space."""
    return hasattr(model, "log_likelihood")


def held_out_likelihood(model: Any, data: Any) -> Iterator[Metric]:
    """-log p(caption | image) of the fixed validation pairs, in nats per pair."""
    losses = []
    with measuring(model) as device:
        for batch in data.validation_batches(data.val_batch_size):
            losses.append(-model(batch["image"].to(device), batch["text"].to(device)).cpu())
    yield from mean_metrics("val/loss", torch.cat(losses), "nats/pair")


def likeliest(model: Any, vectors: Tensor, prompts: np.ndarray, task: ZeroShotTask) -> np.ndarray:
    """The class whose prompts are likeliest for each image, (n,); among its candidates, if any.

    Args:
        model: a `CaptionModel`.
        vectors: of the task's images, (n, d_embed).
        prompts: token ids (n_class * n_template, T), class after class.
    """
    n_class, n_template = len(task.class_names), len(task.templates)
    text = torch.from_numpy(prompts).view(n_class, n_template, -1)
    everything = np.broadcast_to(np.arange(n_class), (len(vectors), n_class))
    candidates = torch.from_numpy(
        np.ascontiguousarray(everything if task.candidates is None else task.candidates)
    )  # (n, n_way)
    rows = max(1, PROMPTS_AT_ONCE // candidates.shape[1])
    answers = []
    with measuring(model) as device:
        for first in range(0, len(vectors), rows):
            some = candidates[first : first + rows]  # (B, n_way)
            vector = vectors[first : first + rows].to(device)[:, None]
            vector = vector.expand(*some.shape, -1).flatten(0, 1)
            total = torch.zeros(some.shape)
            for template in text.unbind(1):  # one by one: each has its own length
                used = int((template != 0).sum(dim=1).max())
                asked = template[some, :used].to(device)  # (B, n_way, T)
                total += model.log_likelihood(vector, asked.flatten(0, 1)).view(some.shape).cpu()
            answers.append(some.gather(1, total.argmax(dim=1, keepdim=True))[:, 0])
    return torch.cat(answers).numpy()
