"""GPT against transformers' GPT-2, causality, loss at the start."""

import math

import pytest
import torch
from torch import nn

from fmscale.models.gpt import GPT
from fmscale.objectives.next_token import NextToken
from fmscale.sizing import GPTShape

SHAPE = GPTShape(n_layer=2, n_head=2, d_model=16, vocab_size=32, seq_len=12)


def copied_gpt2(model: GPT) -> nn.Module:
    """transformers' GPT-2 holding the weights of `model`; its linear layers store transposes."""
    transformers = pytest.importorskip("transformers")
    shape = model.shape
    config = transformers.GPT2Config(
        vocab_size=shape.vocab_size, n_positions=shape.seq_len, n_embd=shape.d_model,
        n_layer=shape.n_layer, n_head=shape.n_head, activation_function="gelu_new",
        resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0, bos_token_id=0, eos_token_id=0,
    )  # fmt: skip
    other = transformers.GPT2LMHeadModel(config)
    ours = dict(model.named_parameters())
    names = {
        "wte": "token_embedding", "wpe": "position_embedding", "ln_f": "norm", "h": "blocks",
        "ln_1": "norm_attention", "ln_2": "norm_mlp", "attn": "attention", "c_attn": "qkv",
        "c_fc": "expand", "c_proj": "out",
    }  # fmt: skip
    with torch.no_grad():
        for name, parameter in other.transformer.named_parameters():
            source = ours.pop(".".join(names.get(part, part) for part in name.split(".")))
            transposed = ".c_" in name and name.endswith("weight")
            parameter.copy_(source.T if transposed else source)
    assert not ours  # every weight of ours has gone somewhere
    return other.eval()


@pytest.mark.parametrize("shape", [SHAPE, GPTShape(3, 4, 32, 64, 24, d_ff=128)])
def test_logits_and_loss_agree_with_gpt2_of_transformers(shape):
    torch.manual_seed(0)
    model = GPT(shape)
    with torch.no_grad():  # away from the start, where gains are 1 and biases 0
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    other = copied_gpt2(model)
    tokens = torch.randint(shape.vocab_size, (3, shape.seq_len + 1))
    with torch.no_grad():
        torch.testing.assert_close(
            model(tokens[:, :-1]), other(tokens[:, :-1]).logits, atol=1e-5, rtol=1e-5
        )
        ours = NextToken()(model, {"tokens": tokens[:, :-1]})["loss"]
        theirs = other(tokens[:, :-1], labels=tokens[:, :-1]).loss
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)


def test_logits_depend_on_the_past_only():
    torch.manual_seed(0)
    model = GPT(SHAPE)
    tokens = torch.randint(32, (2, 12))
    changed = tokens.clone()
    changed[:, 7] = (changed[:, 7] + 1) % 32
    before, after = model(tokens), model(changed)
    assert torch.equal(before[:, :7], after[:, :7])
    assert not torch.equal(before[:, 7:], after[:, 7:])


def test_head_is_the_token_embedding():
    model = GPT(SHAPE)
    assert sum(p.numel() for p in model.parameters()) == SHAPE.n_params_total
    tokens = torch.randint(32, (1, 12))
    model(tokens).sum().backward()
    unused = [t for t in range(32) if t not in tokens]
    assert model.token_embedding.weight.grad[unused].abs().sum() > 0  # reached through the head


@pytest.mark.parametrize("d_model", [16, 64, 256])
def test_untrained_loss_is_that_of_guessing_at_every_width(d_model):
    torch.manual_seed(0)
    model = GPT(GPTShape(n_layer=2, n_head=2, d_model=d_model, vocab_size=64, seq_len=16))
    tokens = torch.randint(64, (16, 17))
    loss = NextToken()(model, {"tokens": tokens})["loss"].item()
    # Logits of variance 0.02^2 d_model raise the loss by half of that: 0.05 at width 256.
    assert loss == pytest.approx(math.log(64), abs=0.08)


def test_too_many_tokens_are_refused():
    with pytest.raises(ValueError, match="13 tokens exceed seq_len=12"):
        GPT(SHAPE)(torch.zeros(1, 13, dtype=torch.int64))


def test_weights_come_from_the_global_seed_alone():
    models = []
    for _ in range(2):
        torch.manual_seed(7)
        models.append(GPT(SHAPE))
    for one, other in zip(models[0].parameters(), models[1].parameters(), strict=True):
        assert torch.equal(one, other)
