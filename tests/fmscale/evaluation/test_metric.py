"""What all evaluators share: evaluation mode and its end, mean and standard error."""

import math

import pytest
import torch
from torch import nn

from fmscale.evaluation.metric import Metric, mean_and_standard_error, mean_metrics, measuring


def network() -> nn.Module:
    return nn.Sequential(nn.Linear(4, 4), nn.Sequential(nn.Dropout(0.5), nn.Linear(4, 4)))


def test_everything_is_in_evaluation_mode_without_gradients_or_autocast() -> None:
    model = network().train()
    with torch.autocast("cpu", dtype=torch.bfloat16), measuring(model) as device:
        out = model(torch.ones(2, 4))
        assert device == torch.device("cpu")
        assert out.dtype == torch.float32
        assert not out.requires_grad
        assert not any(part.training for part in model.modules())
    assert model(torch.ones(2, 4)).requires_grad


def test_the_mode_of_each_part_is_restored_even_of_one_that_was_frozen() -> None:
    model = network().train()
    model[1].eval()
    before = [part.training for part in model.modules()]
    assert len(set(before)) == 2
    with measuring(model), measuring(model):
        pass
    assert [part.training for part in model.modules()] == before


def test_the_mode_is_restored_after_an_error() -> None:
    model = network().train()
    with pytest.raises(KeyError), measuring(model):
        raise KeyError
    assert all(part.training for part in model.modules())


def test_the_standard_error_covers_the_true_mean_as_often_as_it_should() -> None:
    generator = torch.Generator().manual_seed(0)
    hits = 0
    for _ in range(1000):
        mean, error = mean_and_standard_error(3 + 2 * torch.randn(50, generator=generator))
        hits += abs(mean - 3) < error
    # One standard error of a t distribution with 49 degrees of freedom: 67.8 %, give or take 1.5.
    assert hits == pytest.approx(678, abs=60)


def test_one_value_has_no_standard_error() -> None:
    mean, error = mean_and_standard_error(torch.tensor([2.0]))
    assert mean == 2
    assert math.isnan(error)


def test_the_mean_is_taken_in_double_precision() -> None:
    values = torch.full((100_000,), 0.1)
    assert mean_and_standard_error(values)[0] == pytest.approx(float(values[0]), abs=1e-13)


def test_a_standard_error_that_is_unknown_is_no_metric():
    assert mean_metrics("val/regret", torch.tensor([2.0]), "nats") == [
        Metric("val/regret", 2.0, "nats")
    ]
    mean, error = mean_metrics("val/regret", torch.tensor([1.0, 3.0]), "nats")
    assert (mean.value, error.column) == (2.0, "val_regret_standard_error")
    assert error.value == pytest.approx(1.0)
