"""Fine-tuning on labelled texts while the language model's own loss is retained.

After Radford et al. 2018 (GPT-1), with the constants of the authors' code as defaults. Baselines
stand beside it: the same training from fresh weights, without the language model's loss, and a
linear classifier on the frozen model.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fmscale.data.protocol import TextData
from fmscale.data.tasks.labelled_texts import (
    FIELDS,
    Form,
    Labelled,
    class_names,
    read_labelled,
    shortest_context,
    transform,
)
from fmscale.data.tasks.toy_labelled import toy_examples
from fmscale.evaluation.language.in_context import text_tokenizer
from fmscale.evaluation.language.labelled_classifier import Batch, LabelledClassifier
from fmscale.evaluation.language.language import HeldOutText, check_language
from fmscale.evaluation.metric import Metric, Objective, Rows, measuring
from fmscale.models.gpt import GPT

BASELINES = ("scratch", "frozen", "without_lm")
TOY = "toy"  # instead of a file: examples made of templates
N_TOY_TEST = 200
FROZEN_L2 = 1e-3  # of the linear classifier on frozen features


@dataclass(frozen=True)
class Recipe:
    """How to fine-tune; defaults of Radford et al. 2018, Sec. 4.1, and of their code."""

    lr: float = 6.25e-5  # for 117M parameters; models of 1e5 want some 1e-3
    batch_size: int = 32
    n_epochs: int = 3
    warmup: float = 0.002  # share of all steps; linear decay to 0 after it
    dropout: float = 0.1  # on the features that the classifier reads
    weight_decay: float = 0.01  # of matrices, embeddings included
    clip: float = 1.0

    def __post_init__(self) -> None:
        for name in ("lr", "batch_size", "n_epochs", "clip"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} = {getattr(self, name)}: must be above 0.")

    def rate(self, step: int, n_steps: int) -> float:
        """Factor on the learning rate at a step counted from 0."""
        n_warm = math.ceil(self.warmup * n_steps)
        if step < n_warm:
            return (step + 1) / n_warm
        return (n_steps - step) / max(1, n_steps - n_warm)


class FineTuning:
    """Accuracy on the test file after fine-tuning on the training file, and of the baselines.

    Args:
        form: classification, entailment, similarity or multiple_choice.
        train: JSONL file with the fields of the form and a label, or "toy".
        test: the same, for the accuracy.
        name: of the task, in the metrics; None: the form.
        lm_coef: lambda; 0 drops the language model's loss.
        baselines: of `BASELINES`, to be measured as well.
        n_toy: training examples made of templates where `train` is "toy".
        seed: of the order, of dropout and of new weights.
        recipe: fields of `Recipe` that differ from GPT-1's.
    """

    def __init__(
        self,
        form: Form = "classification",
        train: str = TOY,
        test: str = TOY,
        name: str | None = None,
        lm_coef: float = 0.5,
        baselines: Sequence[str] = BASELINES,
        n_toy: int = 256,
        seed: int = 0,
        **recipe: Any,
    ) -> None:
        if form not in FIELDS:
            raise ValueError(f"form = {form!r}: choose one of {', '.join(FIELDS)}.")
        if lm_coef < 0:
            raise ValueError(f"lm_coef = {lm_coef}: give 0 or more.")
        unknown = set(baselines) - set(BASELINES)
        if unknown:
            raise ValueError(f"baselines = {list(baselines)}: choose from {', '.join(BASELINES)}.")
        self.form = form
        self.name = name or form
        self.lm_coef = lm_coef
        self.baselines = tuple(baselines)
        self.seed = seed
        self.recipe = Recipe(**recipe)
        # Read now, so that a missing file or field is an error before anything is computed.
        self.train = toy_examples(form, n_toy, 0) if train == TOY else read_labelled(train, form)
        self.test = toy_examples(form, N_TOY_TEST, 1) if test == TOY else read_labelled(test, form)
        self.classes = [] if form == "multiple_choice" else class_names(self.train)
        unseen = [c for c in class_names(self.test) if self.classes and c not in self.classes]
        if unseen:
            raise ValueError(f"test = {test}: label(s) {unseen} do not occur in {train}.")
        if len(self.classes) == 1:
            raise ValueError(f"train = {train}: every label is {self.classes[0]!r}; give two.")
        if len({len(row.get("choices", "")) for row in self.train}) > 1:
            raise ValueError(f"train = {train}: give all examples the same number of 'choices'.")

    def check(self, data: Any) -> None:
        """Refuse data that is no text, and a context that holds no example."""
        check_language(data)
        text_tokenizer(data)
        least = shortest_context(self.form)
        if data.seq_len < least:
            raise ValueError(
                f"data.seq_len = {data.seq_len}: {self.form} needs a context of at least {least} "
                "tokens. Choose a run with a longer context."
            )

    def __call__(self, model: GPT, data: TextData, objective: Objective) -> Iterator[Metric | Rows]:
        device = next(model.parameters()).device
        train, test = self._read(self.train, data), self._read(self.test, data)
        prefix = f"finetune/{self.name}"
        rows: list[dict[str, Any]] = []

        def accuracy(way: str, classifier: LabelledClassifier, back: int = 0) -> Metric:
            value = self._accuracy(classifier, test, device, back)
            error = math.sqrt(value * (1 - value) / len(test))
            rows.append({"way": way or "fine-tuned", "accuracy": value,
                         "accuracy_standard_error": error, "n": len(test)})  # fmt: skip
            return Metric(f"{prefix}{way and '_' + way}_accuracy", value, "fraction")

        before = _held_out_loss(model, data, objective)
        tuned = self._fit(model, train, device, self.lm_coef)
        yield accuracy("", tuned)
        yield Metric(
            f"{prefix}_accuracy_standard_error", rows[0]["accuracy_standard_error"], "fraction"
        )
        forgotten = _held_out_loss(tuned.body, data, objective) - before
        yield Metric(f"{prefix}_forgotten", forgotten, "nats/token")
        if "without_lm" in self.baselines and self.lm_coef:
            without = self._fit(model, train, device, 0.0)
            yield accuracy("without_lm", without)
            forgotten = _held_out_loss(without.body, data, objective) - before
            yield Metric(f"{prefix}_without_lm_forgotten", forgotten, "nats/token")
        if "scratch" in self.baselines:
            fresh = copy.deepcopy(model)
            with _seeded(self.seed, device):
                fresh.init_weights()
            yield accuracy("scratch", self._fit(fresh, train, device, self.lm_coef))
        if "frozen" in self.baselines:
            yield accuracy("frozen", self._fit_frozen(model, train, device), back=1)
        yield Metric(f"{prefix}_chance", _chance(train, test), "fraction")
        cut = sum(example.truncated for example in (*train, *test)) / (len(train) + len(test))
        yield Metric(f"{prefix}_truncated", cut, "fraction")
        yield Rows(f"finetune_{self.name}", rows)

    def _read(self, rows: Sequence[dict[str, Any]], data: Any) -> list[Labelled]:
        encode = text_tokenizer(data).encode
        return [
            transform(row, self.form, encode, data.vocab_size, data.seq_len, self.classes)
            for row in rows
        ]

    def _classifier(self, model: GPT, device: torch.device) -> LabelledClassifier:
        n_outputs = len(self.classes) or 1
        with _seeded(self.seed, device):
            classifier = LabelledClassifier(model, self.form, n_outputs, self.recipe.dropout)
        return classifier.to(device)

    def _fit(
        self, model: GPT, train: Sequence[Labelled], device: torch.device, lm_coef: float
    ) -> LabelledClassifier:
        classifier, recipe = self._classifier(model, device), self.recipe
        optimizer = torch.optim.AdamW(_optimizer_groups(classifier, recipe), lr=recipe.lr)
        peaks = [group["lr"] for group in optimizer.param_groups]
        order = np.random.default_rng(self.seed)
        n_steps = recipe.n_epochs * math.ceil(len(train) / recipe.batch_size)
        step = 0
        classifier.train()
        with _seeded(self.seed, device), torch.enable_grad():
            for _ in range(recipe.n_epochs):
                for chosen in _chunks(order.permutation(len(train)), recipe.batch_size):
                    for group, peak in zip(optimizer.param_groups, peaks, strict=True):
                        group["lr"] = peak * recipe.rate(step, n_steps)
                    loss = classifier.loss(Batch([train[i] for i in chosen], device), lm_coef)
                    optimizer.zero_grad()
                    loss.backward()
                    nn.utils.clip_grad_norm_(classifier.parameters(), recipe.clip)
                    optimizer.step()
                    step += 1
        return classifier.eval()

    def _fit_frozen(
        self, model: GPT, train: Sequence[Labelled], device: torch.device
    ) -> LabelledClassifier:
        """The best linear layer on features of the model as it is, by L-BFGS.

        The feature is that of the last token of the text: what the model would make of an extract
        token that it never saw is noise.
        """
        classifier = self._classifier(model, device).eval()
        parts, labels, n_sequences = [], [], 1
        with torch.no_grad():
            for chosen in _chunks(np.arange(len(train)), self.recipe.batch_size):
                batch = Batch([train[i] for i in chosen], device)
                n_sequences = batch.n_sequences
                parts.append(classifier.features(batch, back=1)[0])
                labels.append(batch.labels)
        features, wanted = torch.cat(parts), torch.cat(labels)
        parameters = list(classifier.linear.parameters())
        optimizer = torch.optim.LBFGS(parameters, max_iter=300, line_search_fn="strong_wolfe")

        def closure() -> Tensor:
            optimizer.zero_grad()
            loss = F.cross_entropy(classifier.scores(features, n_sequences), wanted)
            loss = loss + FROZEN_L2 * classifier.linear.weight.square().sum()
            loss.backward()
            return loss

        with torch.enable_grad():
            optimizer.step(closure)
        return classifier

    def _accuracy(
        self,
        classifier: LabelledClassifier,
        test: Sequence[Labelled],
        device: torch.device,
        back: int,
    ) -> float:
        hits = 0
        with measuring(classifier):
            for same in _same_width(test):
                for chosen in _chunks(np.arange(len(same)), self.recipe.batch_size):
                    batch = Batch([same[i] for i in chosen], device)
                    features, _ = classifier.features(batch, back)
                    scores = classifier.scores(features, batch.n_sequences)
                    hits += int((scores.argmax(dim=1) == batch.labels).sum())
        return hits / len(test)


def _optimizer_groups(classifier: LabelledClassifier, recipe: Recipe) -> list[dict[str, Any]]:
    """Matrices decay, vectors do not; rates follow the width where the parametrization says so."""
    factors = classifier.body.lr_factors()
    groups: list[dict[str, Any]] = []
    named: dict[str, list[Tensor]] = dict(classifier.body.param_groups())
    named["classifier"] = list(classifier.linear.parameters())
    for name, parameters in named.items():
        for decays in (True, False):
            same = [p for p in parameters if (p.ndim > 1) == decays]
            decay = recipe.weight_decay if decays else 0.0
            rate = recipe.lr * factors.get(name, 1.0)
            groups.append({"params": same, "lr": rate, "weight_decay": decay})
    return [group for group in groups if group["params"]]


def _same_width(test: Sequence[Labelled]) -> Iterator[list[Labelled]]:
    """Examples with the same number of sequences."""
    for width in sorted({len(example.sequences) for example in test}):
        yield [example for example in test if len(example.sequences) == width]


def _chunks(order: np.ndarray, size: int) -> Iterator[list[int]]:
    for first in range(0, len(order), size):
        yield order[first : first + size].tolist()


def _chance(train: Sequence[Labelled], test: Sequence[Labelled]) -> float:
    """Accuracy of always giving the most frequent training label."""
    labels = [example.label for example in train]
    most = max(set(labels), key=labels.count)
    return sum(example.label == most for example in test) / len(test)


def _held_out_loss(model: Any, data: Any, objective: Objective) -> float:
    return next(m.value for m in HeldOutText()(model, data, objective) if m.name == "val/loss")


@contextmanager
def _seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Draws from torch's generators as after a seed; their states are put back."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield
