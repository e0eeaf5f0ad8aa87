"""Next-token loss: shift, unit, precision."""

import itertools
import math

import pytest
import torch
from torch import nn

from fmscale.objectives.next_token import NextToken


class Bigram(nn.Module):
    """Logits from a table: row of the current token."""

    def __init__(self, table: torch.Tensor) -> None:
        super().__init__()
        self.table = nn.Parameter(table)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        return self.table[tokens]


def test_loss_equals_a_loop_over_positions():
    torch.manual_seed(0)
    model = Bigram(torch.randn(5, 5))
    tokens = torch.randint(5, (3, 7))
    total = 0.0
    for row in tokens.tolist():
        for now, following in itertools.pairwise(row):
            total -= model.table[now].log_softmax(0)[following].item()
    assert NextToken()(model, {"tokens": tokens})["loss"].item() == pytest.approx(total / 18)


def test_even_guessing_costs_log_vocab_nats():
    loss = NextToken()(Bigram(torch.zeros(11, 11)), {"tokens": torch.randint(11, (2, 9))})["loss"]
    assert loss.item() == pytest.approx(math.log(11))


def test_loss_is_float32_for_bfloat16_logits():
    model = Bigram(torch.randn(5, 5).bfloat16())
    assert NextToken()(model, {"tokens": torch.randint(5, (2, 4))})["loss"].dtype == torch.float32
