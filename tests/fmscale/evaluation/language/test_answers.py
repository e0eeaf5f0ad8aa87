"""Answers that a model writes itself: the table, and questions that a known model answers."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch

from fmscale.data.tasks.task_documents import TaskDocuments
from fmscale.data.text.tokenizer import ByteTokenizer
from fmscale.evaluation.language.answers import Answers
from fmscale.evaluation.metric import Metric, Rows
from fmscale.sizing import GPTShape

ANSWERS = {"one": "1", "two": "2", "three": "3!"}
SURE = {"one": 0.9, "two": 0.6, "three": 0.8}


class Knows(torch.nn.Module):
    """Answers each question with a given text and probability; a new line ends it."""

    def __init__(self) -> None:
        super().__init__()
        self.anything = torch.nn.Parameter(torch.zeros(1))
        self.shape = GPTShape(1, 1, 2, vocab_size=256, seq_len=96)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        B, T = tokens.shape
        logits = torch.full((B, T, 256), -30.0)
        for row in range(B):
            for t in range(T):
                text = bytes(tokens[row, : t + 1].tolist()).rstrip(b"\0").decode()
                question, _, written = text.rpartition("Q: ")[2].partition("\n\nA:")
                if question not in ANSWERS:
                    continue
                wanted = f" {ANSWERS[question]}\n"
                following = wanted[len(written) : len(written) + 1].encode()
                if following:
                    p = SURE[question] if written == " " else 1.0
                    logits[row, t] = math.log((1 - p) / 255 + 1e-12)
                    logits[row, t, following[0]] = math.log(p)
        return logits


@pytest.fixture
def data() -> TaskDocuments:
    return TaskDocuments(seq_len=96, tasks=["reversed_words"], n_val_tokens=128)


@pytest.fixture
def questions(tmp_path):
    rows = [
        {"question": "zero", "answers": ["0"]},
        {"question": "one", "answers": ["I", "1"]},
        {"question": "two", "answers": ["II"]},
        {"question": "three", "answers": ["3!."]},
    ]
    path = tmp_path / "exam.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    return str(path)


def test_the_most_confident_come_first_with_their_probability(data, questions):
    answers = Answers(questions, name="exam", shots=1)
    answers.check(data)
    found = list(answers(Knows(), data, None))
    metrics = {m.column: m.value for m in found if isinstance(m, Metric)}
    tables = {t.name: t.rows for t in found if isinstance(t, Rows)}
    shown = [(r["question"], r["answer"], r["correct"]) for r in tables["answers_exam"]]
    assert shown == [("one", "1", True), ("three", "3!", True), ("two", "2", False)]
    assert [r["probability"] for r in tables["answers_exam"]] == pytest.approx([0.9, 0.8, 0.6])
    assert metrics["answers_exam_accuracy"] == pytest.approx(2 / 3)
    assert metrics["answers_exam_mean_probability"] == pytest.approx(2.3 / 3)
    assert metrics["answers_exam_most_confident_accuracy"] == 1.0
    assert metrics["answers_exam_most_confident_n"] == 1
    assert metrics["answers_exam_calibration_error"] == pytest.approx((0.1 + 0.2 + 0.6) / 3)
    bins = [(r["n"], r["accuracy"]) for r in tables["answers_exam_calibration"]]
    assert bins == [(1, 0.0), (1, 1.0), (1, 1.0)]


def test_examples_come_before_the_question_and_are_not_asked(questions):
    asked = Answers(questions, shots=2).asked(ByteTokenizer())
    assert [q.question for q in asked] == ["two", "three"]
    text = ByteTokenizer().decode(asked[0].context).decode()
    assert text == "\0\n\nQ: zero\n\nA: 0\n\nQ: one\n\nA: I\n\nQ: two\n\nA:"


def test_prompt_tasks_are_asked_where_no_file_is_given():
    tasks = ["two_digit_addition", "reversed_words"]
    asked = Answers(tasks=tasks, shots=1, n_problems=3).asked(ByteTokenizer())
    assert len(asked) == 6
    assert asked[0].question.startswith("two_digit_addition: What is ")
    assert asked[-1].question.startswith("reversed_words: ")
    assert asked[-1].question.endswith(" =")
    a, b = (int(w) for w in asked[0].question.replace("?", "").split() if w.isdigit())
    assert asked[0].answers == (f" {a + b}",)


def test_bad_files_and_prompts_that_do_not_fit_are_named(tmp_path, data, questions):
    with pytest.raises(ValueError, match="has 4 questions, and shots = 4"):
        Answers(questions, shots=4)
    path = tmp_path / "bad.jsonl"
    path.write_text(json.dumps({"question": "a", "answers": []}))
    with pytest.raises(ValueError, match="line 1: 'answers' is empty"):
        Answers(str(path), shots=0)
    path.write_text(json.dumps({"question": "a", "answer": "b"}))
    with pytest.raises(ValueError, match=r"line 1 lacks 'answers' \(a list of texts\)"):
        Answers(str(path), shots=0)
    with pytest.raises(ValueError, match=r"shots = 3, n_tokens = 60: .* data.seq_len = 96"):
        Answers(questions, shots=3, n_tokens=60).check(data)
    with pytest.raises(ValueError, match="n_shown = 0"):
        Answers(questions, n_shown=0)


def test_an_answer_that_never_ends_is_wrong(data, questions):
    found = list(Answers(questions, name="x", shots=3, n_tokens=3)(Knows(), data, None))
    (row,) = next(t.rows for t in found if isinstance(t, Rows) and t.name == "answers_x")
    assert (row["answer"], row["correct"]) == ("3!", False)  # cut before its end
    assert np.isclose(row["probability"], 0.8)
