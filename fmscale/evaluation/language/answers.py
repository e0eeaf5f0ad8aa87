"""The answers a model writes itself, with their probability (Radford et al. 2019, Table 5).

Greedy answers to questions, after a few examples that show what an answer looks like; the most
confident ones become a table, all of them a calibration curve.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from fmscale.data.jsonl_rows import read_rows
from fmscale.data.protocol import TextData
from fmscale.data.text.tokenizer import TextTokenizer
from fmscale.evaluation.language.confidence import (
    accuracy_of_most_confident,
    calibration,
    calibration_error,
)
from fmscale.evaluation.language.in_context import InContext, text_tokenizer
from fmscale.evaluation.language.language import check_language
from fmscale.evaluation.language.scoring import check_fits, complete, line_ends
from fmscale.evaluation.metric import Metric, Objective, Rows, accuracy_metrics

MOST_CONFIDENT = 0.01  # share of answers, as in Radford et al. 2019


class Asked(NamedTuple):
    """A question as the model reads it, and what is right."""

    context: np.ndarray  # token ids, examples included
    question: str
    answers: tuple[str, ...]


class Answers:
    """Accuracy, calibration and most confident of a model's own answers.

    Args:
        file: JSONL with "question" and "answers" (a list of texts that are right); None: the
            prompt tasks of GPT-3.
        tasks: names of prompt tasks, where `file` is None; None: all fifteen.
        name: of the questions, in the metrics.
        shots: examples before each question; of a file, its first rows, which are not asked.
        n_problems: of each prompt task.
        n_shown: rows of the table of most confident answers.
        n_tokens: longest answer; what is cut there counts as wrong.
    """

    def __init__(
        self,
        file: str | None = None,
        tasks: Sequence[str] | None = None,
        name: str = "tasks",
        shots: int = 2,
        n_problems: int = 100,
        n_shown: int = 30,
        n_tokens: int = 24,
    ) -> None:
        for field, value in (("n_shown", n_shown), ("n_tokens", n_tokens)):
            if value < 1:
                raise ValueError(f"{field} = {value}: give at least 1.")
        self.rows = None
        if file is not None:
            found = read_rows(file, {"question": str, "answers": list})
            self.rows = [(row["question"], tuple(row["answers"])) for _, row in found]
            empty = [where for where, row in found if not row["answers"]]
            if empty:
                raise ValueError(f"{empty[0]}: 'answers' is empty; give at least one text.")
            if len(self.rows) <= shots:
                raise ValueError(
                    f"{file} has {len(self.rows)} questions, and shots = {shots} of them are "
                    "examples; give more questions or fewer shots."
                )
        self.in_context = InContext(tasks, [shots], [False], n_problems)
        self.name = name
        self.shots = shots
        self.n_shown = n_shown
        self.n_tokens = n_tokens

    def check(self, data: Any) -> None:
        """Refuse data that is no text, and questions longer than the context."""
        check_language(data)
        longest = max(len(q.context) for q in self.asked(text_tokenizer(data)))
        try:
            check_fits(longest + self.n_tokens, data.seq_len)
        except ValueError as error:
            where = f"shots = {self.shots}, n_tokens = {self.n_tokens}"
            raise ValueError(f"{where}: {error}") from error

    def asked(self, tokenizer: TextTokenizer) -> list[Asked]:
        """Every question with its examples."""
        if self.rows is None:
            return [
                Asked(prompt.context, f"{condition.task.name}: {_last(tokenizer, prompt.context)}",
                      (tokenizer.decode(prompt.answer).decode(),))
                for condition in self.in_context.conditions()
                for prompt in self.in_context.prompts(condition, tokenizer)
            ]  # fmt: skip
        examples = "".join(f"{_ask(q)} {right[0]}" for q, right in self.rows[: self.shots])
        start = np.array([tokenizer.separator], dtype=np.int64)
        return [
            Asked(np.append(start, tokenizer.encode((examples + _ask(q)).encode())), q, right)
            for q, right in self.rows[self.shots :]
        ]

    def __call__(self, model: Any, data: TextData, objective: Objective) -> Iterator[Metric | Rows]:
        tokenizer = text_tokenizer(data)
        asked = self.asked(tokenizer)
        written = complete(model, [q.context for q in asked], self.n_tokens, line_ends(tokenizer))
        texts = [tokenizer.decode(c.tokens).decode(errors="replace") for c in written]
        probability = np.exp([-c.nats for c in written])
        correct = np.array([
            c.ended and _plain(text) in map(_plain, q.answers)
            for q, c, text in zip(asked, written, texts, strict=True)
        ])  # fmt: skip
        prefix = f"answers/{self.name}"
        yield from accuracy_metrics(prefix, correct)
        yield Metric(f"{prefix}_mean_probability", float(probability.mean()), "fraction")
        top, n_top = accuracy_of_most_confident(probability, correct, MOST_CONFIDENT)
        yield Metric(f"{prefix}_most_confident_accuracy", top, "fraction")
        yield Metric(f"{prefix}_most_confident_n", n_top, "answers")
        bins = calibration(probability, correct)
        yield Metric(f"{prefix}_calibration_error", calibration_error(bins), "fraction")
        yield Rows(f"answers_{self.name}_calibration", [own._asdict() for own in bins])
        order = np.argsort(-probability, kind="stable")[: self.n_shown]
        yield Rows(
            f"answers_{self.name}",
            [
                {"question": asked[i].question, "answer": texts[i].strip(),
                 "correct": bool(correct[i]), "probability": float(probability[i]),
                 "expected": asked[i].answers[0].strip()}
                for i in order
            ],
        )  # fmt: skip


def _ask(question: str) -> str:
    return f"\n\nQ: {question}\n\nA:"


def _last(tokenizer: TextTokenizer, context: np.ndarray) -> str:
    """The question at the end of a prompt, on one line."""
    text = tokenizer.decode(context).decode(errors="replace")
    return text.rsplit("Q: ")[-1].split("\n")[0] if "Q: " in text else text.rsplit("\n")[-1]


def _plain(text: str) -> str:
    """Case, spaces at the ends and a final full stop do not make an answer wrong."""
    return " ".join(text.split()).rstrip(".").casefold()
