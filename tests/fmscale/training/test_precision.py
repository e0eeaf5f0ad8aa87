"""Choice of precision: the threshold, the cache, and that measuring leaves no trace."""

from types import SimpleNamespace

import pytest
import torch

from fmscale.models.gpt import GPT
from fmscale.objectives.next_token import NextToken
from fmscale.sizing import GPTShape
from fmscale.training import precision
from fmscale.training.precision import FULL, MIXED, choose_precision

SHAPE = GPTShape(n_layer=1, n_head=2, d_model=16, vocab_size=32, seq_len=8)


def batch(n: int = 2) -> dict[str, torch.Tensor]:
    return {"tokens": torch.randint(32, (n, 9))}


class Slowed(NextToken):
    """An objective that takes longer at one precision, by a clock of its own."""

    def __init__(self, full: float, mixed: float) -> None:
        self.seconds = {False: full, True: mixed}
        self.now = 0.0
        self.calls = 0

    def __call__(self, model, batch):
        self.calls += 1
        self.now += self.seconds[torch.is_autocast_enabled("cpu")]
        return super().__call__(model, batch)


@pytest.mark.parametrize(
    ("full", "mixed", "expected"), [(0.06, 0.02, MIXED), (0.02, 0.06, FULL), (0.03, 0.03, FULL)]
)
def test_bfloat16_is_chosen_only_where_it_is_clearly_faster(monkeypatch, full, mixed, expected):
    objective = Slowed(full, mixed)
    monkeypatch.setattr(precision, "time", SimpleNamespace(perf_counter=lambda: objective.now))
    choice = choose_precision(GPT(SHAPE), objective, batch(), max_pairs=3)
    assert choice.precision == expected
    assert choice.ratio == pytest.approx(full / mixed)


def test_measuring_changes_neither_weights_nor_random_numbers():
    torch.manual_seed(0)
    model = GPT(SHAPE, dropout=0.1)
    before = [p.detach().clone() for p in model.parameters()]
    one = batch()
    state = torch.get_rng_state()
    choose_precision(model, NextToken(), one, max_pairs=1)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))
    assert all(p.grad is None for p in model.parameters())


def test_a_cached_choice_is_not_measured_again_and_other_sizes_are(tmp_path):
    cache = tmp_path / "new" / "precision.json"
    objective = Slowed(0.0, 0.0)
    first = choose_precision(GPT(SHAPE), objective, batch(), cache_path=cache, max_pairs=1)
    measured = objective.calls
    assert choose_precision(GPT(SHAPE), objective, batch(), cache_path=cache) == first
    assert objective.calls == measured
    choose_precision(GPT(SHAPE), objective, batch(3), cache_path=cache, max_pairs=1)
    assert objective.calls > measured
    assert [path.name for path in cache.parent.iterdir()] == ["precision.json"]


def test_a_damaged_cache_is_measured_anew(tmp_path, caplog):
    cache = tmp_path / "precision.json"
    cache.write_text('{"half')
    choice = choose_precision(GPT(SHAPE), NextToken(), batch(), cache_path=cache, max_pairs=1)
    assert "is unreadable" in caplog.text
    assert choose_precision(GPT(SHAPE), NextToken(), batch(), cache_path=cache) == choice
