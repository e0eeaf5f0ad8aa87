"""Schedules: the properties that trunk and branch rely on."""

import itertools
import math

import pytest
import torch
from torch.optim.lr_scheduler import LambdaLR

from fmscale.optim.schedules import constant, cosine, wsd

STEPS = {"warmup_steps": 10, "n_steps": 100}


def test_warmup_is_linear_and_its_first_update_is_not_wasted():
    for schedule in (constant, wsd, cosine):
        values = [schedule(step, **STEPS) for step in range(10)]
        assert values == pytest.approx([(step + 1) / 10 for step in range(10)])


def test_branch_continues_the_trunk_exactly():
    trunk = [wsd(step, warmup_steps=10) for step in range(100)]
    for n_steps in (40, 70, 100):
        cooldown = n_steps // 5
        branch = [
            wsd(step, warmup_steps=10, n_steps=n_steps, cooldown_steps=cooldown)
            for step in range(n_steps)
        ]
        start = n_steps - cooldown
        assert branch[: start + 1] == trunk[: start + 1]  # the first cooldown step is still 1
        assert branch[start] == 1.0


def test_cooldown_is_one_minus_square_root_and_never_reaches_zero():
    values = [wsd(step, **STEPS, cooldown_steps=20) for step in range(100)]
    assert values[80:] == pytest.approx([1 - math.sqrt(i / 20) for i in range(20)])
    assert all(a > b for a, b in itertools.pairwise(values[80:]))
    assert values[-1] > 0


def test_cosine_falls_from_one_to_the_floor():
    values = [cosine(step, **STEPS, floor=0.1) for step in range(101)]
    assert values[10] == 1.0
    assert values[55] == pytest.approx(0.55)  # half-way
    assert values[100] == pytest.approx(0.1)
    assert all(a > b for a, b in itertools.pairwise(values[10:]))


def test_one_step_past_the_end_the_last_value_holds():
    assert wsd(100, **STEPS, cooldown_steps=20) == wsd(99, **STEPS, cooldown_steps=20)
    assert cosine(150, **STEPS) == pytest.approx(0.1)
    assert constant(150, **STEPS) == 1.0


def test_no_warmup_starts_at_the_peak():
    assert wsd(0, warmup_steps=0) == cosine(0, warmup_steps=0, n_steps=5) == 1.0


def test_schedules_drive_a_torch_scheduler():
    parameter = torch.zeros(1, requires_grad=True)
    optimizer = torch.optim.SGD([parameter], lr=2.0)
    scheduler = LambdaLR(optimizer, lambda step: wsd(step, **STEPS, cooldown_steps=20))
    used = []
    for _ in range(100):
        used.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    assert used == [2.0 * wsd(step, **STEPS, cooldown_steps=20) for step in range(100)]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: wsd(0, warmup_steps=30, n_steps=40, cooldown_steps=20), "exceed n_steps=40"),
        (lambda: wsd(0, warmup_steps=5, cooldown_steps=2), "cooldown_steps needs n_steps"),
        (lambda: cosine(0, warmup_steps=-1, n_steps=4), "cannot be negative"),
        (lambda: cosine(0, warmup_steps=1, n_steps=4, floor=1.5), "floor"),
        (lambda: constant(0, warmup_steps=1, n_steps=0), "n_steps must be positive"),
    ],
)
def test_impossible_horizons_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
