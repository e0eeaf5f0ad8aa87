"""muP equals the standard parametrization at its base, and follows the width beside it."""

import math

import pytest
import torch

from fmscale.models.gpt import GPT
from fmscale.models.parametrization import MuP
from fmscale.optim.param_groups import adamw
from fmscale.sizing import GPTShape

BASE = MuP(base_width=32, base_d_head=16)


def built(width: int, mup: MuP | None) -> GPT:
    torch.manual_seed(0)
    return GPT(GPTShape(2, width // 16, width, 64, 16), parametrization=mup)


def test_at_the_base_nothing_changes():
    plain, mup = built(32, None), built(32, BASE)
    tokens = torch.randint(64, (2, 16))
    assert all(torch.equal(a, b) for a, b in zip(plain.parameters(), mup.parameters(), strict=True))
    torch.testing.assert_close(plain(tokens), mup(tokens))
    groups = [adamw(m, lr=1e-2).param_groups for m in (plain, mup)]
    for ours, theirs in zip(*groups, strict=True):
        assert (ours["lr"], ours["weight_decay"]) == (theirs["lr"], theirs["weight_decay"])


def test_hidden_matrices_start_and_learn_smaller_with_width_and_nothing_else_does():
    model = built(256, BASE)
    stds = {name: torch.cat([p.flatten() for p in ps]).std().item()
            for name, ps in model.roles().items()}  # fmt: skip
    assert stds["qkv"] == pytest.approx(0.02 / math.sqrt(8), rel=0.02)
    assert stds["mlp_out"] == pytest.approx(0.02 / math.sqrt(8) / 2, rel=0.02)
    assert stds["token_embedding"] == pytest.approx(0.02, rel=0.05)
    rates = {}
    for group in adamw(model, lr=8e-3, weight_decay=0.1).param_groups:
        rates |= {id(p): (group["lr"], group["lr"] * group["weight_decay"])
                  for p in group["params"]}  # fmt: skip
    for name, parameters in model.param_groups().items():
        for parameter in parameters:
            hidden = name in ("attention", "mlp")
            expected = (1e-3, 8e-4) if hidden else (8e-3, 0.0)  # the decay does not shrink
            assert rates[id(parameter)] == pytest.approx(expected)


def test_scores_and_read_out_are_divided_by_width():
    model = built(256, MuP(base_width=32, base_d_head=8))
    assert model.blocks[0].attention.scale == pytest.approx(math.sqrt(8) / 16)
    assert model.read_out_scale == 1 / 8  # tied to the token table, which is not scaled itself


def test_a_width_that_is_none_is_refused():
    with pytest.raises(ValueError, match="parametrization.base_width=0"):
        MuP(base_width=0, base_d_head=16)
