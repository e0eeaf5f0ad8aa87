"""Fine-tuning of a CLIP's image tower on one task, what it forgets, and what interpolation saves.

The classifier starts from the class texts, so that before the first step it is the zero-shot
classifier. Generality lost is the mean zero-shot accuracy on all other tasks, before minus after.
Weights between the two models (WiSE-FT, Wortsman et al. 2022, Eq. 2) keep part of both.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fmscale.data.counter_random import random_order
from fmscale.data.protocol import PairData
from fmscale.data.zero_shot_task import ZeroShotTask
from fmscale.evaluation.image_text.features import check_tasks, encoded
from fmscale.evaluation.image_text.likelihood import predicts_captions
from fmscale.evaluation.image_text.probes import suitable
from fmscale.evaluation.image_text.zero_shot import ZeroShot, answers
from fmscale.evaluation.metric import Metric, Objective

_ORDER_STREAM = 0xF17E
WARMUP_SHARE = 0.1
ENCODE_BATCH = 512  # it only changes speed and memory


class ImageClassifier(nn.Module):
    """Image tower, its map into the joint space, and one vector a class.

    Args:
        model: a CLIP; its parts are copied.
        classifier: unit vectors of the class texts, (n_class, d_embed).
        scale: factor on the cosines; it is not trained.
    """

    def __init__(self, model: Any, classifier: Tensor, scale: float) -> None:
        super().__init__()
        self.image = copy.deepcopy(model.image)
        self.image_projection = copy.deepcopy(model.image_projection)
        self.classes = nn.Parameter(classifier.detach().clone())
        self.scale = scale

    def encode_image(self, image: Tensor) -> Tensor:
        return F.normalize(self.image_projection(self.image(image)).float(), dim=-1)

    def forward(self, image: Tensor) -> Tensor:
        """Logits (B, n_class)."""
        return self.scale * self.encode_image(image) @ self.classes.T


class ImageFineTuning:
    """Accuracy on a task and on all others after fine-tuning, and along the way back.

    Args:
        tasks: names of the tasks to fine-tune on, each from the trained model; null takes the
            first that has fitting images of its own, or else the first. One that has none is
            cut in two halves, as for probes, and scored on the second alone.
        alphas: weights of the fine-tuned model in the interpolation, between 0 and 1; both ends
            are always measured.
        n_epochs: passes over the task's fitting images.
        learning_rate: peak of AdamW's, after a linear warm-up and before a cosine to 0.
        batch_size: images of one step.
    """

    def __init__(
        self,
        tasks: Sequence[str] | None = None,
        alphas: Sequence[float] = (0.25, 0.5, 0.75),
        n_epochs: int = 10,
        learning_rate: float = 1e-3,
        batch_size: int = 64,
        seed: int = 0,
    ) -> None:
        if any(not 0 <= alpha <= 1 for alpha in alphas):
            raise ValueError(f"alphas = {list(alphas)}: give weights between 0 and 1.")
        if n_epochs < 1 or batch_size < 1 or not learning_rate > 0:
            raise ValueError(
                f"n_epochs = {n_epochs}, batch_size = {batch_size}, learning_rate = "
                f"{learning_rate}: give at least 1 epoch and 1 image, and a positive rate."
            )
        self.tasks = None if tasks is None else tuple(tasks)
        self.alphas = sorted({0.0, *map(float, alphas), 1.0})
        self.n_epochs = n_epochs
        self.learning_rate = learning_rate
        self.batch_size = batch_size
        self.seed = seed

    def check(self, data: Any) -> None:
        """Refuse tasks that cannot be fine-tuned on."""
        self._select([task for task in check_tasks(data) if task.named])

    def __call__(self, model: Any, data: PairData, objective: Objective) -> Iterator[Metric]:
        if predicts_captions(model):  # no class vectors to start from
            return
        named = [task for task in data.zero_shot_tasks if task.named]
        texts = {
            task.name: ZeroShot(ENCODE_BATCH)
            .classifier(model, data.tokenizer, data.seq_len, task).cpu()
            for task in named
        }  # fmt: skip
        for chosen in self._select(named):
            others = [other for other in named if other is not chosen]
            task = chosen.with_fitting_images()
            start = ImageClassifier(model, texts[task.name], model.scale().item())
            tuned = self.finetune(start, task)
            on_task, on_others = {}, {}
            for alpha in self.alphas:
                mixed = interpolate(start, tuned, alpha)
                name = f"interpolated/{task.name}_{round(100 * alpha):03d}"
                on_task[alpha] = accuracy(mixed, mixed.classes.detach().cpu(), task)
                yield Metric(f"{name}_accuracy", on_task[alpha], "fraction")
                if others:
                    each = [accuracy(mixed, texts[other.name], other) for other in others]
                    on_others[alpha] = float(np.mean(each))
                    yield Metric(f"{name}_others_accuracy", on_others[alpha], "fraction")
            yield Metric(f"finetune/{task.name}_accuracy", on_task[1.0], "fraction")
            if others:
                lost = on_others[0.0] - on_others[1.0]
                yield Metric(f"finetune/{task.name}_generality_lost", lost, "fraction")

    def finetune(self, start: ImageClassifier, task: ZeroShotTask) -> ImageClassifier:
        """A copy of `start`, all of it trained on the task's fitting images."""
        assert task.fit_images is not None
        assert task.fit_labels is not None
        tuned = copy.deepcopy(start).train()
        device = tuned.classes.device
        optimizer = torch.optim.AdamW(tuned.parameters(), lr=self.learning_rate, weight_decay=0.1)
        labels = torch.from_numpy(task.fit_labels).to(device)
        # A single image at the end would break the batch statistics of a residual network.
        n_batches = max(len(labels) // self.batch_size, 1)
        n_steps = self.n_epochs * n_batches
        with torch.enable_grad():
            for step in range(n_steps):
                epoch, batch = divmod(step, n_batches)
                if batch == 0:
                    order = random_order(self.seed, _ORDER_STREAM + epoch, len(labels))
                rows = order[batch * self.batch_size : (batch + 1) * self.batch_size]
                for group in optimizer.param_groups:
                    group["lr"] = self.learning_rate * rate(step, n_steps)
                image = torch.from_numpy(task.fit_images[rows]).to(device)
                loss = F.cross_entropy(tuned(image), labels[torch.from_numpy(rows).to(device)])
                optimizer.zero_grad(set_to_none=True)
                loss.backward()
                nn.utils.clip_grad_norm_(tuned.parameters(), 1.0)
                optimizer.step()
        return tuned

    def _select(self, named: list[ZeroShotTask]) -> list[ZeroShotTask]:
        usable = {t.name: t for t in named if suitable(t)}
        own = [name for name, task in usable.items() if task.fit_images is not None]
        wanted = self.tasks or (own or list(usable))[:1]
        unknown = [name for name in wanted if name not in usable]
        if unknown or not usable:
            raise ValueError(
                f"tasks = {unknown or 'null'}: cannot be fine-tuned on. Choose from "
                f"{sorted(usable)} (named, fixed classes with at least 4 images each), or leave "
                "fine-tuning out: ~evaluation.evaluators.finetuning"
            )
        return [usable[name] for name in wanted]


def accuracy(model: ImageClassifier, classifier: Tensor, task: ZeroShotTask) -> float:
    """Share of the task's scored images that `classifier` (n_class, d_embed) gets right."""
    # Past the shared features: this model is gone in a moment.
    vectors = encoded(model, model.encode_image, task.images, ENCODE_BATCH)
    return float(np.mean(answers(vectors, classifier, task) == task.labels))


def interpolate(start: ImageClassifier, tuned: ImageClassifier, alpha: float) -> ImageClassifier:
    """The model with weights (1 - alpha) * start + alpha * tuned, statistics of norms included."""
    mixed = copy.deepcopy(start)
    state = tuned.state_dict()
    mixed.load_state_dict(
        {
            name: torch.lerp(value, state[name], alpha) if value.is_floating_point() else value
            for name, value in start.state_dict().items()
        }
    )
    return mixed


def rate(step: int, n_steps: int) -> float:
    """Linear warm-up over `WARMUP_SHARE` of the steps, then a cosine to 0."""
    warmup = max(round(WARMUP_SHARE * n_steps), 1)
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(n_steps - warmup, 1)))
