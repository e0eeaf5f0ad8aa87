"""Held-out contrastive loss against a double loop, chance and the floor."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from fmscale.data.scenes.dataset import Scenes
from fmscale.data.scenes.grammar import SceneGrammar
from fmscale.data.scenes.loss_floor import pair_information
from fmscale.evaluation.image_text.pairs import HeldOutPairs, pair_losses
from fmscale.evaluation.runner import evaluate
from fmscale.objectives.contrastive import Contrastive
from tests.helpers.small_clip import tiny_clip


def small_scenes() -> Scenes:
    return Scenes(n_val_samples=100, val_batch_size=32, n_task_images=16)


def test_pair_losses_equal_a_double_loop() -> None:
    torch.manual_seed(1)
    logits = 3 * torch.randn(5, 5)
    for i, loss in enumerate(pair_losses(logits)):
        row = sum(math.exp(logits[i, j]) for j in range(5))
        column = sum(math.exp(logits[j, i]) for j in range(5))
        expected = (math.log(row) + math.log(column)) / 2 - logits[i, i]
        assert loss == pytest.approx(float(expected), abs=1e-5)


def test_the_loss_is_the_objective_averaged_over_fixed_batches() -> None:
    data = small_scenes()
    model = tiny_clip(data).train()
    batches = list(data.validation_batches(32))
    assert [len(b["text"]) for b in batches] == [32, 32, 32]  # the short rest is dropped
    expected = np.mean([Contrastive()(model, batch)["loss"].item() for batch in batches])
    found = evaluate(model, data, Contrastive(), {"pairs": HeldOutPairs()})
    assert found.metrics["val_loss"] == pytest.approx(expected, abs=1e-5)
    assert found.units["val_loss"] == "nats/pair"
    assert model.training


class Blind(nn.Module):
    """Sees no difference between pairs."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))

    def forward(self, image: Tensor, text: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        z = self.weight.expand(len(image), 1)
        return z, z, torch.tensor(10.0)


def test_a_blind_model_is_at_log_batch() -> None:
    found = evaluate(Blind(), small_scenes(), Contrastive(), {"pairs": HeldOutPairs()}).metrics
    assert found["val_loss"] == pytest.approx(math.log(32), abs=1e-5)
    assert found["val_match_accuracy"] == pytest.approx(1 / 32)


class Oracle(nn.Module):
    """Scores pairs by their true pointwise mutual information: the best possible model."""

    def __init__(self, data: Scenes) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))
        self.data, self.first = data, 0

    def forward(self, image: Tensor, text: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        indices = self.data._validation_indices[self.first : self.first + len(image)]
        self.first += len(image)
        grammar, seed = self.data.grammar, self.data.seed
        scenes = grammar.sample_scenes(seed, indices)
        mentions = grammar.sample_mentions(seed, indices, scenes)
        information = pair_information(grammar, scenes, scenes, mentions)
        scores = torch.from_numpy(np.maximum(information, -100)).float()
        return scores, torch.eye(len(image)), torch.tensor(1.0)


def test_the_best_possible_model_is_at_the_floor() -> None:
    data = Scenes(n_val_samples=1024, val_batch_size=128)
    found = evaluate(Oracle(data), data, Contrastive(), {"pairs": HeldOutPairs()}).metrics
    assert found["val_loss"] == pytest.approx(found["val_loss_floor"], abs=1e-4)
    assert 0 < found["val_loss_floor"] < 1


def test_an_untrained_model_is_far_above_the_floor() -> None:
    data = small_scenes()
    found = evaluate(tiny_clip(data), data, Contrastive(), {"pairs": HeldOutPairs()}).metrics
    # Random cosines times the initial scale of 14 may even be worse than a blind guess.
    assert math.log(32) - 0.1 < found["val_loss"] < 14
    assert found["val_loss"] > found["val_loss_floor"] + 2


def test_a_trained_model_comes_near_the_floor_and_not_below_it() -> None:
    """Captions that say the background alone are learned in seconds, down to what can be known."""
    silent = ("shape", "color", "size", "position", "relation", "second")
    grammar = SceneGrammar(
        p_second_object=0.0,
        p_mention_background=1.0,
        **{f"p_mention_{attribute}": 0.0 for attribute in silent},
    )
    data = Scenes(n_val_samples=512, val_batch_size=32, grammar=grammar)
    model = tiny_clip(data)
    optimizer = torch.optim.AdamW(model.parameters(), lr=4e-3)
    for first in range(0, 400 * 32, 32):
        loss = Contrastive()(model, data.train_batch(np.arange(first, first + 32)))["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    found = evaluate(model, data, Contrastive(), {"pairs": HeldOutPairs()}).metrics
    above = found["val_loss"] - found["val_loss_floor"]
    assert -3 * found["val_loss_standard_error"] < above < 0.25


class Reader(nn.Module):
    """Tells every caption from every other, and equal ones not: vectors of one axis a caption."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))

    def forward(self, image: Tensor, text: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        z = torch.eye(8)[text[:, 0]]
        return z, z, torch.tensor(100.0)


def test_equal_captions_set_a_floor_where_the_data_know_none() -> None:
    captions = torch.tensor([[1, 1, 2, 3], [4, 4, 4, 4], [5, 6, 7, 1]])

    def batches(size: int) -> list[dict[str, Tensor]]:
        return [{"image": torch.zeros(4, 1), "text": row[:, None]} for row in captions]

    data = SimpleNamespace(unit="samples", name="repeats", val_batch_size=4,
                           validation_batches=batches)  # fmt: skip
    found = {m.column: m.value for m in HeldOutPairs()(Reader(), data, Contrastive())}
    floor = (2 * math.log(2) + 4 * math.log(4)) / 12
    assert found["val_loss_floor"] == pytest.approx(floor)
    assert found["val_loss"] == pytest.approx(floor, abs=1e-6)
