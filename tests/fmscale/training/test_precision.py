"""What bfloat16 gains: the ratio of two kinds of steps, and that measuring leaves no trace."""

from types import SimpleNamespace

import pytest
import torch

from fmscale.commands.plan_tables import Speed, advice
from fmscale.models.gpt import GPT
from fmscale.objectives.next_token import NextToken
from fmscale.sizing import GPTShape
from fmscale.training import precision
from fmscale.training.precision import bf16_speedup

SHAPE = GPTShape(n_layer=1, n_head=2, d_model=16, vocab_size=32, seq_len=8)


def batch(n: int = 2) -> dict[str, torch.Tensor]:
    return {"tokens": torch.randint(32, (n, 9))}


class Slowed(NextToken):
    """An objective that takes longer at one precision, by a clock of its own."""

    def __init__(self, full: float, mixed: float) -> None:
        self.seconds = {False: full, True: mixed}
        self.now = 0.0

    def __call__(self, model, batch):
        self.now += self.seconds[torch.is_autocast_enabled("cpu")]
        return super().__call__(model, batch)


@pytest.mark.parametrize(("full", "mixed"), [(0.06, 0.02), (0.02, 0.06), (0.03, 0.03)])
def test_the_gain_is_the_ratio_of_seconds(monkeypatch, full, mixed):
    objective = Slowed(full, mixed)
    monkeypatch.setattr(precision, "time", SimpleNamespace(perf_counter=lambda: objective.now))
    gain = bf16_speedup(GPT(SHAPE), objective, batch(), max_pairs=3)
    assert gain == pytest.approx(full / mixed)


def test_measuring_changes_neither_weights_nor_random_numbers():
    torch.manual_seed(0)
    model = GPT(SHAPE, dropout=0.1)
    before = [p.detach().clone() for p in model.parameters()]
    one = batch()
    state = torch.get_rng_state()
    bf16_speedup(model, NextToken(), one, max_pairs=1)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))
    assert all(p.grad is None for p in model.parameters())


@pytest.mark.parametrize(("gain", "said"), [(2.34, True), (1.1, False), (None, False)])
def test_a_plan_says_where_bf16_would_be_clearly_faster(tiny, plan_one, gain, said):
    job = plan_one([*tiny, "budget.tokens=2560"])
    lines = advice([job], {job.trunk_id: Speed(0.1, 0.1, gain)})
    assert bool(lines) == said
    assert not said or "2.3 times (gpt_1x16): trainer.precision=bf16-mixed" in lines[0]
    assert advice([job], {}) == []


def test_precision_is_never_left_to_the_load_of_a_machine(tiny, plan_one):
    from fmscale.config.jobs import expand
    from fmscale.errors import ConfigError

    assert plan_one([*tiny, "trainer=default", "budget.tokens=2560"]).trainer.precision == "32-true"
    with pytest.raises(ConfigError, match="precision='auto'; use 32-true, or bf16-mixed where"):
        expand([*tiny, "budget.tokens=2560", "trainer.precision=auto"])
