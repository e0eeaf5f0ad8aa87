"""A vmapped group's members end where their lone runs end."""

from __future__ import annotations

import pytest
import torch

from fmscale.models.clip import CLIP
from fmscale.models.gpt import GPT
from fmscale.objectives.contrastive import Contrastive
from fmscale.objectives.next_token import NextToken
from fmscale.optim.param_groups import adamw
from fmscale.sizing import CLIPShape, GPTShape, TextShape, VisionShape
from fmscale.sizing.architecture import Recipe
from fmscale.training.vmapped.step import VmapError, VmappedGroup

RATES = [1e-3, 3e-3, 1e-2]


def gpt(seed: int) -> GPT:
    torch.manual_seed(seed)
    return GPT(GPTShape(n_layer=2, n_head=2, d_model=16, vocab_size=32, seq_len=8))


def banded(seed: int) -> GPT:
    torch.manual_seed(seed)
    recipe = Recipe(window=4)
    return GPT(GPTShape(n_layer=2, n_head=2, d_model=16, vocab_size=32, seq_len=8, recipe=recipe))


def clip(seed: int) -> CLIP:
    torch.manual_seed(seed)
    vision = VisionShape(n_layer=1, n_head=2, d_model=16, image_size=8, patch_size=4)
    text = TextShape(n_layer=1, n_head=2, d_model=16, vocab_size=32, seq_len=6)
    return CLIP(CLIPShape(d_embed=8, image=vision, text=text))


def tokens(seed: int, step: int) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(1000 * seed + step)
    return {"tokens": torch.randint(0, 32, (4, 9), generator=generator)}


def pairs(seed: int, step: int) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(1000 * seed + step)
    image = torch.randint(0, 256, (4, 3, 8, 8), generator=generator, dtype=torch.uint8)
    text = torch.randint(1, 32, (4, 6), generator=generator)
    return {"image": image, "text": text}


def lone(make, objective, batches, rate, seed, n_steps, accumulate=1, start=None):
    model = make(seed)
    optimizer = adamw(model, rate)
    losses = []
    for step in range(n_steps):
        loss = 0.0
        optimizer.zero_grad()
        for micro in range(accumulate):
            part = objective(model, batches(seed, step * accumulate + micro))["loss"] / accumulate
            part.backward()
            loss += part.item()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for group in optimizer.param_groups:
            group["lr"] = rate * factor(step)
        optimizer.step()
        losses.append(loss)
    return model, optimizer, losses


def factor(step: int) -> float:
    return min(1.0, (step + 1) / 3)


def same_weights(ours: torch.nn.Module, theirs: torch.nn.Module) -> None:
    """Equal to 1e-5, but for the bias of attention keys, which no output depends on."""
    expected = dict(theirs.named_parameters())
    for name, parameter in ours.named_parameters():
        rows = torch.ones_like(parameter, dtype=torch.bool)
        if name.endswith("qkv.bias"):
            rows.view(3, -1)[1] = False
        torch.testing.assert_close(
            parameter[rows], expected[name][rows], rtol=1e-5, atol=1e-5, msg=name
        )


@pytest.mark.parametrize(
    ("make", "objective", "batches", "accumulate"),
    [
        (gpt, NextToken(), tokens, 1),
        (gpt, NextToken(), tokens, 2),
        (banded, NextToken(), tokens, 1),
        (clip, Contrastive(), pairs, 1),
    ],
)
def test_every_member_equals_its_lone_run(make, objective, batches, accumulate):
    members_equal_lone_runs(make, objective, batches, accumulate)


@pytest.mark.slow  # compiling takes half a minute, and needs a C++ compiler
def test_every_member_of_a_compiled_group_equals_its_lone_run():
    members_equal_lone_runs(gpt, NextToken(), tokens, 1, compile=True)


def members_equal_lone_runs(make, objective, batches, accumulate, *, compile=False):
    n_steps, seeds = 12, [1, 2, 3]
    models = [make(seed) for seed in seeds]
    optimizers = [adamw(m, rate) for m, rate in zip(models, RATES, strict=True)]
    group = VmappedGroup(models, optimizers, objective, clip=1.0, compile=compile)
    history = []
    for step in range(n_steps):
        micro = [
            [batches(seed, step * accumulate + k) for seed in seeds] for k in range(accumulate)
        ]
        history.append(group.step(micro, factor(step)))
    group.unstack()
    for row, (seed, rate) in enumerate(zip(seeds, RATES, strict=True)):
        model, optimizer, losses = lone(make, objective, batches, rate, seed, n_steps, accumulate)
        assert [h[row] for h in history] == pytest.approx(losses, rel=1e-5)
        same_weights(models[row], model)
        state = optimizers[row].state_dict()["state"]
        for i, expected in optimizer.state_dict()["state"].items():
            torch.testing.assert_close(
                state[i]["exp_avg"], expected["exp_avg"], rtol=1e-4, atol=1e-6
            )
            assert float(state[i]["step"]) == n_steps


def test_a_group_resumes_from_lone_checkpoints():
    models = [lone(gpt, NextToken(), tokens, rate, 1, 3)[:2] for rate in RATES[:2]]
    group = VmappedGroup([m for m, _ in models], [o for _, o in models], NextToken(), clip=1.0)
    for group_rate, (_, optimizer) in zip(RATES, models, strict=False):
        for group in optimizer.param_groups:
            group["lr"] = group_rate
    group = VmappedGroup([m for m, _ in models], [o for _, o in models], NextToken(), clip=1.0)
    for step in range(3, 6):
        group.step([[tokens(1, step), tokens(1, step)]], factor(step))
    group.unstack()
    for (model, _), rate in zip(models, RATES, strict=False):
        expected, _, _ = lone(gpt, NextToken(), tokens, rate, 1, 6)
        same_weights(model, expected)


def test_a_member_that_diverges_leaves_the_others_alone():
    def run(rates):
        models = [gpt(1), gpt(2)]
        group = VmappedGroup(
            models, [adamw(m, r) for m, r in zip(models, rates, strict=True)], NextToken()
        )
        for step in range(6):
            losses = group.step([[tokens(1, step), tokens(2, step)]], 1.0)
        return losses

    calm, wild = run([1e-3, 1e-3]), run([1e-3, 1e30])
    assert wild[0] == calm[0]
    assert not wild[1] < 100


def test_what_cannot_be_vmapped_is_refused():
    model = gpt(1)
    with pytest.raises(VmapError, match="SGD"):
        VmappedGroup([model], [torch.optim.SGD(model.parameters(), lr=0.1)], NextToken())
    dropping = GPT(model.shape, dropout=0.1)
    with pytest.raises(VmapError, match="dropout"):
        VmappedGroup([dropping], [adamw(dropping, 0.1)], NextToken())
    stepped, optimizer, _ = lone(gpt, NextToken(), tokens, 1e-3, 1, 2)
    with pytest.raises(VmapError, match="different numbers"):
        VmappedGroup([model, stepped], [adamw(model, 1e-3), optimizer], NextToken())
