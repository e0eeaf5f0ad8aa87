"""The shared block: attention against its definition, causality, roles."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from fmscale.models.layers import SHORT, Attention, Block, attend, block_roles, sizing_groups
from fmscale.sizing.architecture import GPT2, Recipe


def test_attention_equals_its_definition():
    torch.manual_seed(0)
    attention = Attention(n_head=2, d_model=8, causal=True)
    x = torch.randn(3, 5, 8)
    q, k, v = attention.qkv(x).split(8, dim=-1)
    heads = []
    for head in range(2):
        at = slice(4 * head, 4 * head + 4)
        scores = q[..., at] @ k[..., at].transpose(1, 2) / math.sqrt(4)
        scores = scores.masked_fill(torch.ones(5, 5).triu(1).bool(), -math.inf)
        heads.append(scores.softmax(-1) @ v[..., at])
    expected = attention.out(torch.cat(heads, dim=-1))
    torch.testing.assert_close(attention(x), expected)


def test_causal_block_does_not_see_the_future_and_the_other_does():
    torch.manual_seed(0)
    x = torch.randn(1, 6, 8)
    changed = x.clone()
    changed[:, 4:] += 1.0
    for causal in (True, False):
        block = Block(2, 8, 32, causal=causal)
        same = torch.equal(block(x)[:, :4], block(changed)[:, :4])
        assert same is causal


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize(
    "recipe", [GPT2, Recipe(residual="post"), Recipe(residual="parallel"), Recipe(qk_norm=True)]
)
def test_a_block_read_at_one_position_is_the_block_there_with_its_gradients(causal, recipe):
    torch.manual_seed(0)
    block = Block(4, 16, 64, causal, recipe=recipe).double()
    x, position = torch.randn(5, 7, 16).double(), torch.tensor([6, 0, 3, 3, 5])
    whole = block(x)
    for at, expected in ((None, whole[:, 0]), (position, whole[torch.arange(5), position])):
        found = block.at(x, at)
        torch.testing.assert_close(found, expected)
        weight = torch.randn_like(found)
        ours = torch.autograd.grad(found, list(block.parameters()), weight)
        theirs = torch.autograd.grad(expected, list(block.parameters()), weight, retain_graph=True)
        for a, b in zip(ours, theirs, strict=True):
            torch.testing.assert_close(a, b)


@pytest.mark.parametrize("T", [7, SHORT + 1])
def test_short_sequences_are_attended_in_float32_under_autocast_and_long_ones_are_not(T):
    torch.manual_seed(0)
    q, k, v = torch.randn(3, 2, 4, T, 8)
    exact = F.scaled_dot_product_attention(q, k, v, is_causal=True)
    with torch.autocast("cpu", torch.bfloat16):
        rounded = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        found = attend(q, k, v, is_causal=True)
    assert not torch.equal(rounded.float(), exact)
    assert torch.equal(found, exact if T <= SHORT else rounded)
    low = [x.bfloat16() for x in (q, k, v)]
    assert attend(*low).dtype == torch.bfloat16  # what goes in comes out


def test_dropout_acts_in_training_only():
    torch.manual_seed(0)
    block = Block(2, 8, 32, causal=True, dropout=0.5)
    x = torch.randn(2, 4, 8)
    assert not torch.equal(block(x), block(x))
    block.eval()
    assert torch.equal(block(x), block(x))


def test_roles_hold_each_parameter_once():
    blocks = nn.ModuleList(Block(2, 8, 32, causal=True) for _ in range(3))
    expected = sorted(id(p) for p in blocks.parameters())
    roles = block_roles(blocks)
    for grouping in (roles, sizing_groups(roles)):
        assert sorted(id(p) for ps in grouping.values() for p in ps) == expected
