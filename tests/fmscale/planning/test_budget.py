"""A budget becomes whole steps, or an error that says what to change."""

import pytest

from fmscale.optim.batch_schedule import BatchSchedule
from fmscale.planning.budget import Budget, Horizon
from fmscale.sizing import CLIPShape, GPTShape, TextShape, VisionShape

GPT = GPTShape(n_layer=2, n_head=2, d_model=16, vocab_size=32, seq_len=8)
CLIP = CLIPShape(
    d_embed=16,
    image=VisionShape(image_size=8, patch_size=4, n_layer=1, n_head=1, d_model=16),
    text=TextShape(vocab_size=32, seq_len=8, n_layer=1, n_head=1, d_model=16),
)


def test_tokens_become_whole_batches():
    assert Budget(tokens=1000).horizons(GPT, BatchSchedule(4, 8)) == [
        Horizon(n_units=992, n_steps=31)
    ]


def test_budgets_come_out_ascending():
    steps = [h.n_steps for h in Budget(tokens=[640, 320, 1280]).horizons(GPT, BatchSchedule(4, 8))]
    assert steps == [10, 20, 40]


def test_tokens_per_param_counts_all_parameters():
    (horizon,) = Budget(tokens_per_param=2).horizons(GPT, BatchSchedule(4, 8))
    assert horizon.n_steps == round(2 * GPT.n_params_total / 32)


def test_flops_are_exact_to_half_a_batch():
    target = 1e9
    (horizon,) = Budget(flops=target).horizons(GPT, BatchSchedule(4, 8))
    per_token = GPT.train_flops_per_unit(4)["flops"]
    assert abs(horizon.n_units * per_token - target) <= per_token * 32 / 2


def test_flops_give_samples_for_clip():
    (horizon,) = Budget(flops=1e9).horizons(CLIP, BatchSchedule(4, 1))
    assert horizon.n_steps == round(1e9 / CLIP.train_flops_per_unit(4)["flops"] / 4)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "exactly one horizon, got none"),
        ({"tokens": 1e6, "flops": 1e9}, r"budget.tokens=1000000.0, budget.flops=1000000000.0"),
        ({"tokens": []}, "empty list"),
        ({"tokens": -1}, "budget.tokens=-1 must be a positive number"),
        ({"tokens": "many"}, "must be a positive number"),
        ({"tokens": 1e6, "max_epochs": 0}, "budget.max_epochs=0"),
    ],
)
def test_bad_budgets_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        Budget(**arguments)


@pytest.mark.parametrize(
    ("budget", "shape", "per_item", "message"),
    [
        (Budget(tokens=10), GPT, 8, "less than one batch of 32 tokens"),
        (Budget(samples=100), GPT, 8, "counts tokens; use budget.tokens"),
        (Budget(tokens=100), CLIP, 1, "counts samples; use budget.samples"),
        (Budget(tokens_per_param=20), CLIP, 1, "use budget.samples or budget.flops"),
        (Budget(tokens=[320, 322]), GPT, 8, "both round to 10 steps"),
    ],
)
def test_budgets_that_do_not_fit_the_model_are_refused(budget, shape, per_item, message):
    with pytest.raises(ValueError, match=message):
        budget.horizons(shape, BatchSchedule(4, per_item))


def test_repeating_the_data_needs_permission():
    with pytest.raises(ValueError, match=r"2\.00 passes over the 500 unique tokens.*max_epochs"):
        Budget(tokens=1000).check_unique(1000, 500, "tokens")
    Budget(tokens=1000, max_epochs=2).check_unique(1000, 500, "tokens")
