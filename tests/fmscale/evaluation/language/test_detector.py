"""The detector on texts whose difference is known, and on models that are or are not the truth."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from fmscale.data.known_languages.markov import Markov
from fmscale.data.tasks.task_documents import TaskDocuments
from fmscale.evaluation.language.detector import MachineDetector, two_sample_test
from fmscale.evaluation.metric import Metric, Rows
from fmscale.models.gpt import GPT
from fmscale.sizing import GPTShape


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def test_two_samples_of_one_source_cannot_be_told_apart(rng):
    covered = 0
    for seed in range(5):
        human, machine = rng.integers(0, 10, (2, 100, 10))
        found = two_sample_test(human, machine, 3, seed)
        covered += found.low <= 0.5 <= found.high
        assert found.low < found.accuracy < found.high
    assert covered >= 4


def test_the_best_accuracy_is_reached_and_no_more(rng):
    """0 with probability 0.8 or 0.2, else 1: the best rule is right four times of five."""
    human = (rng.random((1500, 1)) < 0.8).astype(int)
    machine = (rng.random((1500, 1)) < 0.2).astype(int)
    found = two_sample_test(human, machine, 1, 0)
    assert found.accuracy == pytest.approx(0.8, abs=0.025)
    assert found.high - found.low == pytest.approx(2 * 1.96 * np.sqrt(0.16 / 1500), rel=0.05)


class Truth(torch.nn.Module):
    """The language itself as a model."""

    def __init__(self, data: Markov) -> None:
        super().__init__()
        self.anything = torch.nn.Parameter(torch.zeros(1))
        self.data = data
        self.shape = GPTShape(1, 1, 2, vocab_size=data.vocab_size, seq_len=data.seq_len)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Every symbol is tried as the next one."""
        (B, T), V = tokens.shape, self.data.n_symbols
        tried = np.repeat(tokens.numpy()[:, None, 1:], V, axis=1)
        tried = np.concatenate([tried, np.tile(np.arange(V)[None, :, None], (B, 1, 1))], axis=2)
        log_p = self.data.log_probabilities(tried.reshape(B * V, -1))[:, -1].reshape(B, V)
        logits = torch.full((B, T, V + 1), -torch.inf)
        logits[:, -1, :V] = torch.from_numpy(log_p).float()
        return logits


@pytest.fixture
def markov() -> Markov:
    return Markov(order=1, n_symbols=6, seq_len=23, vocab_size=7, n_val_tokens=23 * 500,
                  val_batch_size=100)  # fmt: skip


def accuracy_of(model: torch.nn.Module, data: Markov) -> dict[str, float]:
    found = MachineDetector(n_prompt=4, n_tokens=20, n_gram=3)(model, data, None)
    return {m.column: m.value for m in found if isinstance(m, Metric)}


def test_the_truth_itself_goes_undetected_and_a_fresh_model_does_not(markov, monkeypatch):
    truth = Truth(markov)
    fresh = GPT(GPTShape(1, 1, 8, vocab_size=7, seq_len=23))
    detected = accuracy_of(fresh, markov)
    assert detected["detector_n_test"] == 250 * 2 / 2
    assert detected["detector_accuracy_low"] > 0.7

    def whole(model, prompt, n_tokens, *, seed, **options):
        generator = torch.Generator().manual_seed(seed)
        tokens = prompt
        for _ in range(n_tokens):
            p = model(tokens)[:, -1].softmax(-1)
            tokens = torch.cat([tokens, torch.multinomial(p, 1, generator=generator)], dim=1)
        return tokens

    monkeypatch.setattr("fmscale.evaluation.language.detector.generate", whole)
    found = accuracy_of(truth, markov)
    assert found["detector_accuracy_low"] <= 0.5 <= found["detector_accuracy_high"]


def test_texts_are_cut_without_overlap_and_shown_as_text():
    data = TaskDocuments(seq_len=48, tasks=["reversed_words"], n_val_tokens=48 * 40)
    model = GPT(GPTShape(1, 1, 8, vocab_size=256, seq_len=48))
    detector = MachineDetector(n_prompt=4, n_tokens=12)
    texts = detector.texts(data)
    assert texts.shape == (2 * 60, 16)  # three windows of each of forty sequences
    stored = np.concatenate(
        [b["tokens"][:, :48].reshape(-1, 16) for b in data.validation_batches(8)]
    )
    assert sorted(map(bytes, texts.astype(np.uint8))) == sorted(map(bytes, stored.astype(np.uint8)))
    found = list(detector(model, data, None))
    (rows,) = [f.rows for f in found if isinstance(f, Rows)]
    assert len(rows) == 20
    assert {"text", "written_by_model", "p_model"} == set(rows[0])
    again = list(detector(model, data, None))
    assert found == again


def test_too_few_texts_are_named_with_the_remedy():
    data = TaskDocuments(seq_len=48, tasks=["reversed_words"], n_val_tokens=48 * 30)
    with pytest.raises(
        ValueError, match=r"holds 15 texts .* 40 are needed. Raise data.n_val_tokens"
    ):
        MachineDetector(n_prompt=8, n_tokens=40).check(data)
    with pytest.raises(ValueError, match="holds 0 texts"):
        MachineDetector(n_prompt=16, n_tokens=48).check(data)
    with pytest.raises(ValueError, match="n_texts = 3"):
        MachineDetector(n_texts=3)
