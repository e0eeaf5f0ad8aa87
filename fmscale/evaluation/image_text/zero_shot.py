"""Zero-shot classification: texts become a classifier, with no training on the task."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from fmscale.data.protocol import PairData, PromptTokenizer
from fmscale.data.zero_shot_task import ZeroShotTask
from fmscale.evaluation.image_text.features import check_tasks, encoded, image_vectors
from fmscale.evaluation.image_text.likelihood import likeliest, predicts_captions
from fmscale.evaluation.metric import Metric, Objective, measuring


class ZeroShot:
    """Accuracy on every task of the data, and the mean error over tasks.

    Three steps (Radford et al. 2021, Sec. 3.1): class names are put into all templates and
    encoded; the unit vectors of a class are averaged and made unit again; an image goes to the
    class of the highest cosine. A model that predicts captions has no such vectors; it is asked
    for the likelihood of every prompt (`likelihood.py`).

    Args:
        batch_size: images or prompts encoded at once; it only changes speed and memory.
        tasks: names of the tasks to run; None runs all.
    """

    def __init__(self, batch_size: int = 512, tasks: Sequence[str] | None = None) -> None:
        if batch_size < 1:
            raise ValueError(f"batch_size = {batch_size}: give at least 1.")
        self.batch_size = batch_size
        self.tasks = None if tasks is None else tuple(tasks)

    def check(self, data: Any) -> None:
        """Refuse data without tasks, and prompts that the tokenizer cannot encode."""
        for task in self._select(check_tasks(data)):
            data.tokenizer.encode(task.prompts(), data.seq_len)

    def __call__(self, model: Any, data: PairData, objective: Objective) -> Iterator[Metric]:
        tasks = self._select(data.zero_shot_tasks)
        accuracies = []
        for task in tasks:
            hits = self.hits(model, data.tokenizer, data.seq_len, task)
            accuracies.append(float(hits.double().mean()))
            yield Metric(f"zero_shot/{task.name}_accuracy", accuracies[-1], "fraction")
            yield Metric(f"zero_shot/{task.name}_chance", task.chance, "fraction")
        variances = [
            a * (1 - a) / len(task.labels) for a, task in zip(accuracies, tasks, strict=True)
        ]
        n = len(tasks)
        yield Metric("zero_shot/error", 1 - sum(accuracies) / n, "fraction")
        yield Metric("zero_shot/error_standard_error", math.sqrt(sum(variances)) / n, "fraction")
        chance = sum(task.chance for task in tasks) / n
        yield Metric("zero_shot/chance_error", 1 - chance, "fraction")

    def hits(
        self, model: Any, tokenizer: PromptTokenizer, seq_len: int, task: ZeroShotTask
    ) -> Tensor:
        """Whether each image of a task is classified correctly, (n,) bool."""
        if predicts_captions(model):
            vectors = encoded(model, model.encode_image, task.images, self.batch_size)
            prompts = tokenizer.encode(task.prompts(), seq_len)
            return torch.from_numpy(likeliest(model, vectors, prompts, task) == task.labels)
        classifier = self.classifier(model, tokenizer, seq_len, task).cpu()  # (n_class, d_embed)
        vectors = image_vectors(model, task.images, self.batch_size)
        return torch.from_numpy(answers(vectors, classifier, task) == task.labels)

    def classifier(
        self, model: Any, tokenizer: PromptTokenizer, seq_len: int, task: ZeroShotTask
    ) -> Tensor:
        """One unit vector per class, (n_class, d_embed)."""
        with measuring(model) as device:
            text = torch.from_numpy(tokenizer.encode(task.prompts(), seq_len)).to(device)
            parts = torch.split(text, self.batch_size)
            features = torch.cat([model.encode_text(part) for part in parts])
            features = features.view(len(task.class_names), len(task.templates), -1)
            return F.normalize(F.normalize(features, dim=-1).mean(dim=1), dim=-1)

    def _select(self, tasks: Sequence[ZeroShotTask]) -> list[ZeroShotTask]:
        by_name = {task.name: task for task in tasks if task.named}
        if self.tasks is None and by_name:
            return list(by_name.values())
        unknown = [name for name in self.tasks or () if name not in by_name]
        if unknown or not self.tasks:
            raise ValueError(
                f"evaluation tasks = {self.tasks}: unknown or none. Choose from "
                f"{sorted(by_name)}, or null for all."
            )
        return [by_name[name] for name in self.tasks]


def answers(vectors: Tensor, classifier: Tensor, task: ZeroShotTask) -> np.ndarray:
    """The class of the highest cosine for each image, (n,); among its candidates, if it has any.

    Args:
        vectors: unit vectors of the task's images, (n, d_embed).
        classifier: one unit vector a class, (n_class, d_embed).
    """
    cosines = vectors @ classifier.T  # (n, n_class)
    if task.candidates is None:
        return cosines.argmax(dim=1).numpy()
    candidates = torch.from_numpy(task.candidates)  # (n, n_way)
    best = cosines.gather(1, candidates).argmax(dim=1, keepdim=True)
    return candidates.gather(1, best)[:, 0].numpy()
