"""Regret is a divergence: zero for the truth, never negative beyond sampling error."""

import json

import numpy as np
import pytest
import torch
from torch import nn

from fmscale.data.known_languages.in_context_markov import InContextMarkov
from fmscale.data.known_languages.markov import Markov
from fmscale.evaluation.language.position import LossByPosition
from fmscale.evaluation.language.regret import Regret

LANGUAGE = Markov(n_symbols=4, vocab_size=5, seq_len=16, order=1, n_unique_tokens=1600,
                  n_val_tokens=8000)  # fmt: skip


class Table(nn.Module):
    """A model that knows a table of order one, and nothing else."""

    def __init__(self, rows):
        super().__init__()
        self.log_rows = nn.Parameter(torch.log(torch.as_tensor(rows, dtype=torch.float32)))

    def forward(self, tokens):
        return self.log_rows[tokens]


def with_start(rows):
    """Rows for symbols and start token, over symbols and start token (never predicted)."""
    rows = np.vstack([rows, LANGUAGE.stationary])
    return np.hstack([rows, np.full((5, 1), 1e-12)])


def measured(model, data=LANGUAGE):
    return {m.column: m.value for m in Regret()(model, data, None)}


def test_the_truth_has_no_regret():
    found = measured(Table(with_start(LANGUAGE.table)))
    assert found["val_regret"] == pytest.approx(0, abs=1e-6)
    assert found["val_oracle_loss"] == pytest.approx(LANGUAGE.entropy, abs=0.03)


@pytest.mark.parametrize("seed", range(8))
def test_no_other_model_has_less_regret_than_the_truth(seed):
    rng = np.random.default_rng(seed)
    rows = LANGUAGE.table * np.exp(0.1 * 2 ** (seed / 2) * rng.standard_normal((4, 4)))
    rows /= rows.sum(axis=1, keepdims=True)
    found = measured(Table(with_start(rows)))
    assert found["val_regret"] > -4 * found["val_regret_standard_error"]
    divergence = np.sum(LANGUAGE.table * np.log(LANGUAGE.table / rows), axis=1)
    expected = LANGUAGE.stationary @ divergence * 15 / 16  # the first symbol is known exactly
    assert found["val_regret"] == pytest.approx(
        expected, abs=4 * found["val_regret_standard_error"] + 1e-6
    )


def test_text_without_an_oracle_is_refused():
    with pytest.raises(ValueError, match="truth is known"):
        measured(Table(with_start(LANGUAGE.table)), data=object())


def test_loss_by_position_stands_beside_the_oracle():
    data = InContextMarkov(n_symbols=4, vocab_size=5, seq_len=16, n_unique_tokens=1600,
                           n_val_tokens=1600)  # fmt: skip
    uniform = Table(np.full((5, 5), 0.2))
    found = {m.column: m.value for m in LossByPosition()(uniform, data, None)}
    assert [n for n in found if "loss" in n] == [f"val_loss_at_{t}" for t in (1, 2, 4, 8)]
    assert found["val_loss_at_4"] == pytest.approx(np.log(5), abs=1e-6)
    assert found["val_oracle_at_1"] == pytest.approx(np.log(4), abs=1e-9)
    assert found["val_oracle_at_8"] < found["val_oracle_at_1"]


@pytest.mark.parametrize("name", ["markov", "zipf_facts", "in_context_markov", "random_hierarchy"])
def test_no_trained_model_beats_the_language_it_learned(name, tmp_path, plan_one):
    from fmscale.training.run import check, train_branch

    job = plan_one([f"data={name}", "evaluation=known_language", "model=gpt/1x16", "trainer=cpu",
                    "data.n_val_tokens=16384", "budget.tokens=[65536]", "schedule=cosine",
                    "logger=none", f"paths.runs_dir={tmp_path}"])  # fmt: skip
    check(job)
    train_branch(job, job.branches[0])
    (path,) = (tmp_path / "default").glob("*/record.json")
    metrics = json.loads(path.read_text())["metrics"]
    error = metrics["val_regret_standard_error"]
    assert 0 < error < 0.05
    assert metrics["val_regret"] > -4 * error
    assert metrics["val_loss"] - metrics["val_oracle_loss"] == pytest.approx(
        metrics["val_regret"], abs=1e-6
    )
    # Something was learned: below what knowing nothing but the alphabet costs.
    assert metrics["val_loss"] < np.log(job.shape.vocab_size)
