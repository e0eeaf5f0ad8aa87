"""Which tensors decay, and that the optimizer sees each once."""

import pytest
import torch
from torch import nn

from fmscale.models.clip import CLIP
from fmscale.models.gpt import GPT
from fmscale.optim.param_groups import adamw, param_groups
from fmscale.sizing import CLIPShape, GPTShape, TextShape, VisionShape

GPT_SHAPE = GPTShape(n_layer=2, n_head=2, d_model=16, vocab_size=32, seq_len=8)
CLIP_SHAPE = CLIPShape(
    d_embed=8,
    image=VisionShape(image_size=12, patch_size=4, n_layer=2, n_head=2, d_model=16),
    text=TextShape(vocab_size=32, seq_len=6, n_layer=2, n_head=2, d_model=16),
)


@pytest.mark.parametrize("model", [GPT(GPT_SHAPE), CLIP(CLIP_SHAPE)], ids=["gpt", "clip"])
def test_groups_cover_each_parameter_once(model):
    grouped = [id(p) for group in param_groups(model, 0.1, 1e-3) for p in group["params"]]
    assert sorted(grouped) == sorted(id(p) for p in model.parameters())


@pytest.mark.parametrize("model", [GPT(GPT_SHAPE), CLIP(CLIP_SHAPE)], ids=["gpt", "clip"])
def test_matrices_decay_and_tables_gains_biases_and_temperature_do_not(model):
    decay, no_decay = param_groups(model, 0.1, 1e-3)
    assert (decay["weight_decay"], no_decay["weight_decay"]) == (0.1, 0.0)
    decayed = {id(p) for p in decay["params"]}
    for name, parameter in model.named_parameters():
        is_matrix = parameter.ndim == 2 and "embedding" not in name
        assert (id(parameter) in decayed) is is_matrix, name


def test_adamw_takes_the_betas_of_a_config_and_decays_by_lr_times_weight_decay():
    model = GPT(GPT_SHAPE)
    optimizer = adamw(model, lr=0.1, betas=[0.9, 0.99], eps=1e-8, weight_decay=0.5)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    after = dict(model.named_parameters())
    name = "blocks.0.mlp.expand.weight"
    torch.testing.assert_close(after[name], before[name] * (1 - 0.1 * 0.5))
    assert torch.equal(after["token_embedding.weight"], before["token_embedding.weight"])


def test_an_unknown_group_is_an_error():
    class Odd(nn.Module):
        def param_groups(self):
            return {"rotary": [nn.Parameter(torch.zeros(2, 2))]}

    with pytest.raises(ValueError, match="'rotary' is neither decayed nor spared"):
        param_groups(Odd(), 0.1, 1e-3)
