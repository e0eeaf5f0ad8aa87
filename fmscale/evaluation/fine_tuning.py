"""Fine-tuning on labelled texts while the language model's own loss is retained.

L3 = L2 + lambda L1 (Radford et al. 2018, Eq. 5), with the constants of the authors' code as
defaults. Two baselines stand beside it: the same training from fresh weights, and a linear
classifier on the frozen model.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fmscale.data.labelled_texts import (
    FIELDS,
    N_SPECIAL,
    Form,
    Labelled,
    class_names,
    read_labelled,
    transform,
)
from fmscale.data.toy_labelled import toy_examples
from fmscale.evaluation.in_context import text_tokenizer
from fmscale.evaluation.language import HeldOutText, check_language
from fmscale.evaluation.metric import Metric, Objective, measuring
from fmscale.models.gpt import GPT

BASELINES = ("scratch", "frozen")
TOY = "toy"  # instead of a file: examples made of templates
FROZEN_L2 = 1e-3  # of the linear classifier on frozen features
INIT_STD = 0.02  # of new embeddings and of the classifier, as in GPT-1


@dataclass(frozen=True)
class Recipe:
    """How to fine-tune; defaults of Radford et al. 2018, Sec. 4.1, and of their code."""

    lr: float = 6.25e-5  # for 117M parameters; models of 1e5 want some 1e-3
    batch_size: int = 32
    n_epochs: int = 3
    warmup: float = 0.002  # share of all steps; linear decay to 0 after it
    dropout: float = 0.1  # on the features that the classifier reads
    weight_decay: float = 0.01
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


class Classifier(nn.Module):
    """A GPT with three more tokens and a linear layer on the feature at the extract token."""

    def __init__(self, body: GPT, form: Form, n_outputs: int, dropout: float) -> None:
        super().__init__()
        self.body = body
        self.form = form
        self.dropout = nn.Dropout(dropout)
        self.linear = nn.Linear(body.shape.d_model, n_outputs)
        nn.init.normal_(self.linear.weight, std=INIT_STD)
        nn.init.zeros_(self.linear.bias)

    def features(self, tokens: Tensor, ends: Tensor) -> tuple[Tensor, Tensor]:
        """Feature of each sequence (rows, d_model) and the hidden states it was taken from."""
        hidden = self.body.hidden(tokens)  # (rows, T, d_model)
        return hidden[torch.arange(len(tokens), device=tokens.device), ends], hidden

    def scores(self, features: Tensor, n_sequences: int) -> Tensor:
        """(B, n_classes) from the features of B examples of `n_sequences` sequences each."""
        if self.form == "multiple_choice":
            return self.linear(self.dropout(features)).view(-1, n_sequences)  # a score a choice
        together = features.view(-1, n_sequences, features.shape[1]).sum(dim=1)
        scores: Tensor = self.linear(self.dropout(together))
        return scores


class FineTuning:
    """Accuracy on the test file after fine-tuning on the training file, and of the baselines.

    Args:
        form: classification, entailment, similarity or multiple_choice.
        train: JSONL file with the fields of the form and a label, or "toy".
        test: the same, for the accuracy.
        name: of the task, in the metrics; None: the form.
        lm_coef: lambda; 0 gives up the language model's loss.
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
        self.test = toy_examples(form, 200, 1) if test == TOY else read_labelled(test, form)
        self.classes = [] if form == "multiple_choice" else class_names(self.train)
        unseen = [c for c in class_names(self.test) if self.classes and c not in self.classes]
        if unseen:
            raise ValueError(f"test = {test}: label(s) {unseen} do not occur in {train}.")

    def check(self, data: Any) -> None:
        """Refuse data that is no text."""
        check_language(data)
        text_tokenizer(data)

    def __call__(self, model: GPT, data: Any, objective: Objective) -> Iterator[Metric]:
        device = next(model.parameters()).device
        train, test = self._read(self.train, data), self._read(self.test, data)
        prefix = f"finetune_{self.name}"
        before = _held_out_loss(model, data, objective)
        tuned = self._fit(model, train, device)
        yield Metric(f"{prefix}_accuracy", self._accuracy(tuned, test, device), "fraction")
        forgot = _held_out_loss(tuned.body, data, objective) - before
        yield Metric(f"{prefix}_forgotten", forgot, "nats/token")
        if "scratch" in self.baselines:
            fresh = copy.deepcopy(model)
            with _seeded(self.seed):
                fresh.init_weights()
            scratch = self._fit(fresh, train, device)
            value = self._accuracy(scratch, test, device)
            yield Metric(f"{prefix}_scratch_accuracy", value, "fraction")
        if "frozen" in self.baselines:
            frozen = self._fit_frozen(model, train, device)
            value = self._accuracy(frozen, test, device)
            yield Metric(f"{prefix}_frozen_accuracy", value, "fraction")
        yield Metric(f"{prefix}_chance", _chance(train, test), "fraction")
        cut = sum(example.truncated for example in (*train, *test)) / (len(train) + len(test))
        yield Metric(f"{prefix}_truncated", cut, "fraction")

    def _read(self, rows: Sequence[dict[str, Any]], data: Any) -> list[Labelled]:
        encode = text_tokenizer(data).encode
        return [
            transform(row, self.form, encode, data.vocab_size, data.seq_len, self.classes)
            for row in rows
        ]

    def _classifier(self, model: GPT) -> Classifier:
        n_outputs = len(self.classes) or 1
        with _seeded(self.seed):
            body = with_special_tokens(model)
            return Classifier(body, self.form, n_outputs, self.recipe.dropout)

    def _fit(self, model: GPT, train: Sequence[Labelled], device: torch.device) -> Classifier:
        classifier, recipe = self._classifier(model).to(device), self.recipe
        matrices = [p for p in classifier.parameters() if p.ndim > 1]
        others = [p for p in classifier.parameters() if p.ndim <= 1]
        optimizer = torch.optim.AdamW(
            [{"params": matrices, "weight_decay": recipe.weight_decay},
             {"params": others, "weight_decay": 0.0}], lr=recipe.lr,
        )  # fmt: skip
        order = np.random.default_rng(self.seed)
        n_steps = recipe.n_epochs * math.ceil(len(train) / recipe.batch_size)
        step = 0
        classifier.train()
        with _seeded(self.seed), torch.enable_grad():
            for _ in range(recipe.n_epochs):
                for chosen in _chunks(order.permutation(len(train)), recipe.batch_size):
                    for group in optimizer.param_groups:
                        group["lr"] = recipe.lr * recipe.rate(step, n_steps)
                    loss = self._loss(classifier, [train[i] for i in chosen], device)
                    optimizer.zero_grad()
                    loss.backward()
                    nn.utils.clip_grad_norm_(classifier.parameters(), recipe.clip)
                    optimizer.step()
                    step += 1
        return classifier.eval()

    def _loss(
        self, classifier: Classifier, batch: Sequence[Labelled], device: torch.device
    ) -> Tensor:
        """L2 + lambda L1 of one batch, each a mean in nats."""
        tokens, ends, labels, n_sequences = collate(batch, device)
        features, hidden = classifier.features(tokens, ends)
        loss = F.cross_entropy(classifier.scores(features, n_sequences), labels)
        if self.lm_coef:
            logits = classifier.body.read_out(hidden[:, :-1])
            nats = F.cross_entropy(logits.transpose(1, 2), tokens[:, 1:], reduction="none")
            real = torch.arange(1, tokens.shape[1], device=device) <= ends[:, None]
            loss = loss + self.lm_coef * (nats * real).sum() / real.sum()
        return loss

    def _fit_frozen(
        self, model: GPT, train: Sequence[Labelled], device: torch.device
    ) -> Classifier:
        """The best linear layer on features of the model as it is, by L-BFGS."""
        classifier = self._classifier(model).to(device).eval()
        parts, labels, n_sequences = [], [], 1
        with torch.no_grad():
            for chosen in _chunks(np.arange(len(train)), self.recipe.batch_size):
                tokens, ends, own, n_sequences = collate([train[i] for i in chosen], device)
                parts.append(classifier.features(tokens, ends)[0])
                labels.append(own)
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
        self, classifier: Classifier, test: Sequence[Labelled], device: torch.device
    ) -> float:
        hits = 0
        with measuring(classifier):
            for chosen in _chunks(np.arange(len(test)), self.recipe.batch_size):
                for same in _same_width([test[i] for i in chosen]):
                    tokens, ends, labels, n_sequences = collate(same, device)
                    scores = classifier.scores(classifier.features(tokens, ends)[0], n_sequences)
                    hits += int((scores.argmax(dim=1) == labels).sum())
        return hits / len(test)


def with_special_tokens(model: GPT) -> GPT:
    """A copy with three more tokens; the new rows are drawn, all else stays."""
    shape = replace(model.shape, vocab_size=model.shape.vocab_size + N_SPECIAL)
    wider = GPT(shape, model.dropout.p, model.parametrization)
    state = model.state_dict()
    for name, fresh in wider.state_dict().items():
        old = state[name]
        if fresh.shape == old.shape:
            state[name] = old
        else:
            new = INIT_STD * torch.randn(N_SPECIAL, old.shape[1], device=old.device)
            state[name] = torch.cat([old, new.to(old.dtype)])
    wider.load_state_dict(state)
    return wider


def collate(batch: Sequence[Labelled], device: torch.device) -> tuple[Tensor, Tensor, Tensor, int]:
    """Tokens (rows, T) padded on the right, place of each extract token (rows,), labels (B,).

    Raises:
        ValueError: if examples have different numbers of choices.
    """
    n_sequences = len(batch[0].sequences)
    if any(len(example.sequences) != n_sequences for example in batch):
        raise ValueError("examples of one file need the same number of choices for training")
    rows = [sequence for example in batch for sequence in example.sequences]
    padded = np.zeros((len(rows), max(map(len, rows))), dtype=np.int64)
    for k, row in enumerate(rows):
        padded[k, : len(row)] = row
    ends = torch.tensor([len(row) - 1 for row in rows], device=device)
    labels = torch.tensor([example.label for example in batch], device=device)
    return torch.from_numpy(padded).to(device), ends, labels, n_sequences


def _same_width(batch: Sequence[Labelled]) -> Iterator[list[Labelled]]:
    widths = sorted({len(example.sequences) for example in batch})
    for width in widths:
        yield [example for example in batch if len(example.sequences) == width]


def _chunks(order: np.ndarray, size: int) -> Iterator[list[int]]:
    for first in range(0, len(order), size):
        yield order[first : first + size].tolist()


def _chance(train: Sequence[Labelled], test: Sequence[Labelled]) -> float:
    """Accuracy of always giving the most frequent training label."""
    labels = [example.label for example in train]
    most = max(set(labels), key=labels.count)
    return sum(example.label == most for example in test) / len(test)


def _held_out_loss(model: Any, data: Any, objective: Objective) -> float:
    return next(m.value for m in HeldOutText()(model, data, objective) if m.name == "val_loss")


class _seeded:
    """Draws from torch's global generator as after a seed, and puts its state back."""

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def __enter__(self) -> None:
        self.state = torch.get_rng_state()
        torch.manual_seed(self.seed)

    def __exit__(self, *error: object) -> None:
        torch.set_rng_state(self.state)
