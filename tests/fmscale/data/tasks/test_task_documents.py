"""Packed documents of examples: a pure function of the index, true, and never held-out problems."""

from __future__ import annotations

import numpy as np
import pytest

from fmscale.data.protocol import TrainingData
from fmscale.data.tasks.task_documents import TaskDocuments

INDICES = np.arange(40)


def texts(data: TaskDocuments, indices: np.ndarray = INDICES) -> list[bytes]:
    return [bytes(row) for row in data.train_batch(indices)["tokens"].tolist()]


def test_it_is_training_data():
    assert isinstance(TaskDocuments(seq_len=64), TrainingData)


def test_a_sequence_depends_on_its_index_alone():
    data = TaskDocuments(seq_len=128)
    together = texts(data)
    assert [texts(TaskDocuments(seq_len=128), np.array([k]))[0] for k in INDICES] == together
    assert len(set(together)) == len(together)
    assert texts(TaskDocuments(seq_len=128, seed=1)) != together


def test_documents_show_one_task_each_with_right_answers():
    data = TaskDocuments(seq_len=256, tasks=["two_digit_addition", "reversed_words"])
    n_checked, n_described, n_documents = 0, 0, 0
    for text in texts(data):
        assert text[0] == 0
        for document in text.decode().split("\0")[1:-1]:  # the last one is cut
            n_documents += 1
            n_described += document.startswith(("Add", "Please"))
            assert ("Q:" in document) != (" = " in document)
            for line in document.split("\n"):
                if " = " in line:
                    scrambled, word = line.split(" = ")
                    assert scrambled == word[::-1]
                    n_checked += 1
    assert n_checked > 50
    assert 0.3 < n_described / n_documents < 0.7


def test_training_reads_no_held_out_problem_and_validation_nothing_else():
    data = TaskDocuments(seq_len=128, tasks=["single_digit_three_ops"], n_val_tokens=4096)
    (task,) = data.tasks
    held_out = {task.example(k, 0).prompt for k in range(task.n_problems) if task.is_held_out(k)}
    questions = {task.example(k, 0).prompt for k in range(task.n_problems)}

    def asked(rows: list[bytes]) -> list[str]:
        parts = [p for row in rows for p in row.decode().replace("\0", "").split("\n\nQ:")[1:]]
        prompts = ["\n\nQ:" + part.split("A:")[0] + "A:" for part in parts if "A:" in part]
        return [p for p in prompts if p in questions]

    trained = asked(texts(data, np.arange(200)))
    validated = asked(
        [bytes(row) for batch in data.validation_batches(8) for row in batch["tokens"].tolist()]
    )
    assert len(trained) > 300
    assert len(validated) > 50
    assert not held_out & set(trained)
    assert set(validated) <= held_out


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"vocab_size": 300}, "data.vocab_size = 300"),
        ({"p_description": 2.0}, "data.p_description = 2.0"),
        ({"max_examples": 0}, "data.max_examples = 0"),
        ({"n_val_tokens": 3}, "data.n_val_tokens = 3"),
    ],
)
def test_mistakes_are_named(change, message):
    with pytest.raises(ValueError, match=message):
        TaskDocuments(**{"seq_len": 64, **change})
