"""Few-shot prompts in the exact format, and a model that solves a task known to be perfect."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch

from fmscale.data.tasks.task_documents import TaskDocuments
from fmscale.data.text.tokenizer import ByteTokenizer
from fmscale.evaluation.language.in_context import InContext
from fmscale.evaluation.metric import Rows
from fmscale.sizing import GPTShape


def text(prompt) -> str:
    return bytes(np.concatenate(prompt).tolist()).decode()


def prompts(evaluator: InContext, shots: int, described: bool) -> list[str]:
    (condition,) = (
        c for c in evaluator.conditions() if (c.shots, c.described) == (shots, described)
    )
    return [text(p) for p in evaluator.prompts(condition, ByteTokenizer())]


def test_prompts_are_written_as_published():
    evaluator = InContext(["two_digit_addition"], shots=[0, 2], n_problems=5)
    for line in prompts(evaluator, 0, False):
        assert re.fullmatch(r"\0\n\nQ: What is \d+ plus \d+\?\n\nA: \d+", line)
    for line in prompts(evaluator, 2, True):
        one = r"\n\nQ: What is \d+ plus \d+\?\n\nA: \d+"
        assert re.fullmatch(rf"\0Add the two numbers\.({one}){{3}}", line)


def test_the_question_is_the_same_for_every_k_and_fewer_examples_are_the_nearest():
    evaluator = InContext(["reversed_words"], shots=[0, 1, 4], n_problems=6)
    for none, one, four in zip(*(prompts(evaluator, k, False) for k in (0, 1, 4)), strict=True):
        assert four.endswith(one[1:])
        assert one.endswith(none[1:])
        assert four.count("\n") == 5


def test_examples_are_from_training_and_questions_are_not():
    evaluator = InContext(["single_digit_three_ops"], shots=[3], n_problems=30)
    (task,) = evaluator.tasks
    held_out = {task.example(k, 0).prompt for k in range(task.n_problems) if task.is_held_out(k)}
    for line in prompts(evaluator, 3, False):
        *shown, asked = ("\n\nQ:" + q.split("A:")[0] + "A:" for q in line.split("\n\nQ:")[1:])
        assert asked in held_out
        assert not set(shown) & held_out


class Solver(torch.nn.Module):
    """Knows how to reverse a word once it has seen an example; writes "x" without one."""

    def __init__(self) -> None:
        super().__init__()
        self.anything = torch.nn.Parameter(torch.zeros(1))
        self.shape = GPTShape(1, 1, 2, vocab_size=256, seq_len=256)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        logits = torch.zeros(*tokens.shape, 256)
        for b, row in enumerate(tokens.tolist()):
            read = bytes(row).decode()
            for t in range(len(read)):
                logits[b, t, ord(self.next(read[: t + 1]))] = 9.0
        return logits

    @staticmethod
    def next(read: str) -> str:
        line = read.split("\n")[-1]
        if " =" not in line:
            return "x"
        scrambled, _, written = line.partition(" =")
        wanted = f" {scrambled[::-1]}\n" if read.count(" = ") >= 1 + (" = " in line) else " x\n"
        return wanted[min(len(written), len(wanted) - 1)]


def test_a_learner_from_examples_is_measured_as_one():
    evaluator = InContext(["reversed_words"], shots=[0, 1, 2], descriptions=[False], n_problems=8)
    data = TaskDocuments(seq_len=256, tasks=["reversed_words"])
    evaluator.check(data)
    found = list(evaluator(Solver(), data, None))
    metrics = {m.column: m for m in found if not isinstance(m, Rows)}
    assert metrics["task_reversed_words_accuracy_at_0"].value == 0
    assert metrics["task_reversed_words_accuracy_at_1"].value == 1
    assert metrics["task_mean_accuracy_at_2"].value == 1
    assert metrics["task_mean_accuracy_at_2"].unit == "fraction"
    few, none = (metrics[f"task_reversed_words_nats_at_{k}"] for k in (2, 0))
    assert few.value < 1 < none.value
    assert none.unit == "nats/answer"
    (table,) = (m for m in found if isinstance(m, Rows))
    assert [(r["shots"], r["accuracy"]) for r in table.rows] == [(0, 0.0), (1, 1.0), (2, 1.0)]


def test_examples_that_do_not_fit_are_named_before_anything_is_computed():
    evaluator = InContext(["five_digit_addition"], shots=[0, 8])
    with pytest.raises(ValueError, match=r"shots = 8 of five_digit_addition: .*data.seq_len = 128"):
        evaluator.check(TaskDocuments(seq_len=128))


def test_data_without_text_is_refused():
    from fmscale.data.known_languages.markov import Markov

    with pytest.raises(ValueError, match="tokens of Markov stand for no text"):
        InContext(["reversed_words"]).check(Markov(n_symbols=4, seq_len=8, vocab_size=5))


@pytest.mark.parametrize(
    ("change", "message"),
    [({"shots": [0, 0]}, "shots"), ({"n_problems": 0}, "n_problems"), ({"seeds": []}, "seeds")],
)
def test_mistakes_are_named(change, message):
    with pytest.raises(ValueError, match=message):
        InContext(["reversed_words"], **change)
