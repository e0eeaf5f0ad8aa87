"""Last words and blanks: scores by hand, and passages that a known model must get right."""

from __future__ import annotations

import json
import math

import pytest
import torch

from fmscale.evaluation.language.cloze import FilledBlank, LastWord
from fmscale.models.gpt import GPT
from fmscale.sizing import GPTShape


@pytest.fixture
def write(tmp_path):
    def file(*rows: dict) -> str:
        path = tmp_path / "my-exam.v1.jsonl"
        path.write_text("\n".join(map(json.dumps, rows)))
        return str(path)

    return file


def nats_by_hand(model: GPT, context: bytes, answer: bytes) -> list[float]:
    """-log p of each byte of the answer, one at a time; the context begins with the separator."""
    read, found = [0, *context], []
    for byte in answer:
        with torch.no_grad():
            log_p = model(torch.tensor(read[-32:])[None])[0, -1].log_softmax(-1)
        found.append(-float(log_p[byte]))
        read.append(byte)
    return found


def test_the_last_word_is_scored_as_by_hand(model, data, write):
    rows = [{"text": "we went to the sea"}, {"text": "a\nb  cd "}]
    evaluator = LastWord(write(*rows))
    evaluator.check(data)
    found = {m.column: m.value for m in evaluator(model, data, None)}
    by_hand = [
        nats_by_hand(model, b"we went to the", b" sea"),
        nats_by_hand(model, b"a\nb", b"  cd"),
    ]
    nats = sum(map(sum, by_hand)) / 2
    assert found["cloze_my_exam_nats"] == pytest.approx(nats, rel=1e-5)
    assert found["cloze_my_exam_perplexity"] == pytest.approx(math.exp(nats), rel=1e-4)
    assert found["cloze_my_exam_truncated"] == 0.0


class Copies(torch.nn.Module):
    """Expects the byte it read `lag` places before, with near certainty."""

    def __init__(self, lag: int) -> None:
        super().__init__()
        self.anything = torch.nn.Parameter(torch.zeros(1))
        self.lag = lag
        self.shape = GPTShape(1, 1, 2, vocab_size=256, seq_len=32)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        seen = torch.nn.functional.pad(tokens, (self.lag - 1, 0))[:, : tokens.shape[1]]
        return 10.0 * torch.nn.functional.one_hot(seen, 256).float()


def test_a_model_that_copies_finds_the_words_that_were_copied(data, write):
    rows = [{"text": "sea sky sea sky"}, {"text": "sea sky sea sun"}]  # a period of eight bytes
    found = {m.column: m.value for m in LastWord(write(*rows), "sea")(Copies(8), data, None)}
    assert found["cloze_sea_accuracy"] == 0.5
    assert found["cloze_sea_accuracy_standard_error"] == pytest.approx(math.sqrt(0.125))


def test_a_passage_that_is_too_long_loses_its_beginning(model, data, write):
    text = "x" * 40 + " end"
    (metric,) = [m for m in LastWord(write({"text": text}))(model, data, None) if "nats" in m.name]
    by_hand = 0.0
    read = list(b"x" * 28 + b" end")  # 28 + 4 = seq_len, without the separator
    with torch.no_grad():
        log_p = model(torch.tensor(read)[None])[0].log_softmax(-1)
    by_hand = -sum(float(log_p[28 + k - 1, byte]) for k, byte in enumerate(b" end"))
    assert metric.value == pytest.approx(by_hand, rel=1e-5)


def test_choices_are_scored_with_the_text_after_the_blank(model, data, write):
    row = {"text": "the XXXXX ran", "choices": ["dog", "cats", "q"], "label": 1}
    evaluator = FilledBlank(write(row), "cbt")
    evaluator.check(data)
    found = {m.column: m.value for m in evaluator(model, data, None)}
    endings = [f"{c} ran".encode() for c in row["choices"]]
    nats = [sum(nats_by_hand(model, b"the ", e)) for e in endings]
    per_byte = [n / len(e) for n, e in zip(nats, endings, strict=True)]
    assert found["choice_cbt_accuracy"] == float(min(nats) == nats[1])
    assert found["choice_cbt_accuracy_per_byte"] == float(min(per_byte) == per_byte[1])
    assert found["choice_cbt_chance"] == pytest.approx(1 / 3)


def test_a_model_that_copies_fills_the_blank_and_a_wrong_label_counts_against_it(data, write):
    row = {"text": "sea sky sea XXXXX sea", "choices": ["sun", "sky", "low"]}
    for label, accuracy in ((1, 1.0), (0, 0.0)):
        evaluator = FilledBlank(write({**row, "label": label}), "x")
        found = {m.column: m.value for m in evaluator(Copies(8), data, None)}
        assert found["choice_x_accuracy"] == accuracy


@pytest.mark.parametrize(
    ("kind", "row", "message"),
    [
        (LastWord, {"txt": "a b"}, "line 1 lacks 'text'"),
        (LastWord, {"text": "alone"}, "line 1: 'text' has fewer than two words"),
        (FilledBlank, {"text": "a XXXXX", "choices": ["b", "c"]}, r"line 1 lacks 'label'"),
        (FilledBlank, {"text": "a", "choices": ["b", "c"], "label": 0}, "has 0 blanks XXXXX"),
        (FilledBlank, {"text": "XXXXX", "choices": ["b", 1], "label": 0}, "lacks 'choices'"),
        (FilledBlank, {"text": "XXXXX", "choices": ["b", "c"], "label": 2}, "place of one of 2"),
    ],
)
def test_missing_fields_are_named(write, kind, row, message):
    with pytest.raises(ValueError, match=message):
        kind(write(row))


def test_a_missing_file_and_an_ending_that_does_not_fit_are_named(write, data):
    with pytest.raises(ValueError, match="file = null: name a JSONL file with 'text'"):
        LastWord()
    with pytest.raises(ValueError, match=r"nowhere.jsonl: no such file"):
        LastWord("nowhere.jsonl")
    with pytest.raises(ValueError, match=r"line 1: .* data.seq_len = 32"):
        LastWord(write({"text": "a " + "b" * 40})).check(data)
