"""Few-shot tasks: examples in the prompt and no gradient (Brown et al. 2020, Sec. 2.4).

Each problem is shown after K examples drawn anew for it. Accuracy counts greedy answers that are
right to the letter; the probability of the right answer stands beside it, because exact match can
hide smooth progress (Schaeffer et al. 2023).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from fmscale.data.counter_random import random_bits
from fmscale.data.protocol import TextData
from fmscale.data.tasks.arithmetic_tasks import Rendering
from fmscale.data.tasks.prompt_task import PromptTask
from fmscale.data.tasks.prompt_tasks import build_tasks
from fmscale.data.text.tokenizer import TextTokenizer, tokenizer_of
from fmscale.evaluation.language.language import check_language
from fmscale.evaluation.language.scoring import (
    Prompt,
    Scored,
    check_fits,
    exact_matches,
    line_ends,
    score,
    split_prompt,
)
from fmscale.evaluation.metric import Metric, Objective, Rows

_PROBLEMS = 13  # stream of the random numbers


class Condition(NamedTuple):
    """One point of a few-shot curve."""

    task: PromptTask
    shots: int  # K
    described: bool

    def metric(self, quantity: str) -> str:
        """E.g. `task/two_digit_addition_described_accuracy_at_4`."""
        return metric_name(self.task.name, quantity, self.shots, self.described)


def metric_name(task: str, quantity: str, shots: int, described: bool) -> str:
    """Name of a metric of `InContext`; the task "mean" is the mean over tasks."""
    return f"task/{task}{'_described' if described else ''}_{quantity}_at_{shots}"


class InContext:
    """Accuracy and nats per answer of each task after K examples.

    Args:
        tasks: names; None: the fifteen of GPT-3.
        shots: numbers of examples K.
        descriptions: whether the task is described in words first; both are measured by default.
        n_problems: held-out problems of each task, for each seed.
        seeds: choices of problems and examples; more of them narrow the standard error.
        rendering, words_file: as in training; see `build_tasks`.
    """

    def __init__(
        self,
        tasks: Sequence[str] | None = None,
        shots: Sequence[int] = (0, 1, 2, 4, 8),
        descriptions: Sequence[bool] = (False, True),
        n_problems: int = 100,
        seeds: Sequence[int] = (0,),
        rendering: Rendering = "as_published",
        words_file: str | None = None,
    ) -> None:
        self.tasks = build_tasks(tasks, rendering, words_file)
        if not shots or min(shots) < 0 or len(set(shots)) < len(shots):
            raise ValueError(f"shots = {list(shots)}: give different whole numbers from 0 on.")
        if n_problems < 1:
            raise ValueError(f"n_problems = {n_problems}: give at least 1.")
        if not descriptions or not seeds:
            raise ValueError("descriptions and seeds: give at least one of each.")
        self.shots = tuple(shots)
        self.descriptions = tuple(descriptions)
        self.n_problems = n_problems
        self.seeds = tuple(seeds)

    def check(self, data: Any) -> None:
        """Refuse data that is no text, and prompts longer than the context."""
        check_language(data)
        tokenizer = text_tokenizer(data)
        for condition in self.conditions():
            longest = max(len(c) + len(a) for c, a in self.prompts(condition, tokenizer))
            try:
                check_fits(longest, data.seq_len)
            except ValueError as error:
                raise ValueError(
                    f"shots = {condition.shots} of {condition.task.name}: {error}"
                ) from error

    def conditions(self) -> list[Condition]:
        """Every point that is measured."""
        return [
            Condition(task, shots, described)
            for described in self.descriptions
            for task in self.tasks
            for shots in self.shots
        ]

    def prompts(self, condition: Condition, tokenizer: TextTokenizer) -> list[Prompt]:
        """The prompts of a condition; the same problems for every K, description and model."""
        found = []
        n_fields = 2 * (1 + max(self.shots))
        for seed in self.seeds:
            bits = random_bits(seed, _PROBLEMS, np.arange(self.n_problems), n_fields)
            for row in bits.tolist():
                found.append(self._prompt(condition, row, tokenizer))
        return found

    def _prompt(self, condition: Condition, bits: list[int], tokenizer: TextTokenizer) -> Prompt:
        task = condition.task
        prompt, answer = task.draw(bits[0], bits[1], held_out=True)
        # Fewer examples are the last ones of more: what is nearest to the question stays.
        shown = [
            task.draw(bits[2 * k], bits[2 * k + 1], held_out=False)
            for k in range(condition.shots, 0, -1)
        ]
        before = "".join(part for example in shown for part in example)
        context = (task.description if condition.described else "") + before + prompt
        head, (tail,) = split_prompt(tokenizer, context, [answer], [tokenizer.separator])
        return Prompt(head, tail)

    def __call__(self, model: Any, data: TextData, objective: Objective) -> Iterator[Metric | Rows]:
        tokenizer = text_tokenizer(data)
        ends = line_ends(tokenizer)
        rows = []
        for condition in self.conditions():
            prompts = self.prompts(condition, tokenizer)
            scored = score(model, prompts)
            hits = exact_matches(model, tokenizer, prompts, scored, ends)
            row = _row(condition, hits, scored)
            rows.append(row)
            yield Metric(condition.metric("accuracy"), row["accuracy"], "fraction")
            yield Metric(condition.metric("nats"), row["nats"], "nats/answer")
        for described in self.descriptions:
            for shots in self.shots:
                same = [r for r in rows if (r["described"], r["shots"]) == (described, shots)]
                yield from _means(same, shots, described)
        yield Rows("in_context", rows)


def _row(condition: Condition, hits: np.ndarray, scored: Sequence[Scored]) -> dict[str, Any]:
    nats = np.array([s.nats for s in scored])
    n = len(hits)
    accuracy = float(hits.mean())
    return {
        "task": condition.task.name,
        "shots": condition.shots,
        "described": condition.described,
        "n": n,
        "accuracy": accuracy,
        "accuracy_standard_error": math.sqrt(accuracy * (1 - accuracy) / n),
        "nats": float(nats.mean()),
        "nats_standard_error": float(nats.std(ddof=1)) / math.sqrt(n) if n > 1 else None,
    }


def _means(rows: Sequence[dict[str, Any]], shots: int, described: bool) -> Iterator[Metric]:
    """Mean over tasks, each of the same weight."""
    n = len(rows)
    accuracy = sum(row["accuracy"] for row in rows) / n
    error = math.sqrt(sum(row["accuracy_standard_error"] ** 2 for row in rows)) / n
    yield Metric(metric_name("mean", "accuracy", shots, described), accuracy, "fraction")
    name = metric_name("mean", "accuracy_standard_error", shots, described)
    yield Metric(name, error, "fraction")
    nats = sum(row["nats"] for row in rows) / n
    yield Metric(metric_name("mean", "nats", shots, described), nats, "nats/answer")


def text_tokenizer(data: Any) -> TextTokenizer:
    """The tokenizer of some data, whose tokens must stand for text."""
    tokenizer = tokenizer_of(data)
    if tokenizer is None:
        raise ValueError(
            f"the tokens of {type(data).__name__} stand for no text; choose a run that was trained "
            "on text (data=stdlib_text, data=task_documents) or another evaluation"
        )
    return tokenizer
