"""Fine-tuning learns its task, leaves the model alone, and interpolation meets both ends."""

import copy
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from fmscale.data.scenes.dataset import Scenes
from fmscale.data.zero_shot_task import halves
from fmscale.evaluation.image_text.fine_tuning import (
    ImageClassifier,
    ImageFineTuning,
    accuracy,
    interpolate,
    rate,
)
from fmscale.evaluation.image_text.zero_shot import ZeroShot
from fmscale.evaluation.runner import evaluate
from fmscale.objectives.contrastive import Contrastive
from tests.helpers.small_clip import tiny_clip

DATA = Scenes(n_val_samples=64, val_batch_size=32, n_task_images=120)


@pytest.fixture(scope="module")
def model():
    return tiny_clip(DATA)


def test_the_ends_of_the_curve_are_the_trained_and_the_fine_tuned_model(model):
    before = copy.deepcopy(model.state_dict())
    torch.manual_seed(3)
    state = torch.get_rng_state()
    evaluators = {"zero_shot": ZeroShot(),
                  "tuned": ImageFineTuning(tasks=["background"], alphas=[0.5], n_epochs=40,
                                           learning_rate=5e-3)}  # fmt: skip
    found = evaluate(model, DATA, Contrastive(), evaluators).metrics
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name]), name
    assert torch.equal(torch.get_rng_state(), state)  # later evaluators draw what they drew
    zero_shot = {k: v for k, v in found.items()
                 if k.startswith("zero_shot_") and k.endswith("_accuracy")}  # fmt: skip
    own = zero_shot.pop("zero_shot_background_accuracy")
    assert found["interpolated_background_000_accuracy"] == own
    others = float(np.mean(list(zero_shot.values())))
    assert found["interpolated_background_000_others_accuracy"] == pytest.approx(others)
    assert found["finetune_background_accuracy"] == found["interpolated_background_100_accuracy"]
    assert found["finetune_background_accuracy"] > own + 0.3  # an untrained one is near chance
    lost = others - found["interpolated_background_100_others_accuracy"]
    assert found["finetune_background_generality_lost"] == pytest.approx(lost)


def test_interpolation_is_linear_in_the_weights(model):
    start = ImageClassifier(model, torch.eye(4, 16), 10.0)
    tuned = copy.deepcopy(start)
    with torch.no_grad():
        for parameter in tuned.parameters():
            parameter += 2.0
    half = interpolate(start, tuned, 0.5)
    for a, b in zip(start.parameters(), half.parameters(), strict=True):
        torch.testing.assert_close(b, a + 1.0)
    for alpha, end in ((0.0, start), (1.0, tuned)):
        for a, b in zip(end.parameters(), interpolate(start, tuned, alpha).parameters(),
                        strict=True):  # fmt: skip
            torch.testing.assert_close(a, b)


def test_the_start_is_the_zero_shot_classifier(model):
    task = next(task for task in DATA.zero_shot_tasks if task.name == "color")
    texts = ZeroShot().classifier(model, DATA.tokenizer, DATA.seq_len, task)
    hits = ZeroShot().hits(model, DATA.tokenizer, DATA.seq_len, task)
    found = accuracy(ImageClassifier(model, texts, 14.0), texts, task)
    assert found == pytest.approx(float(hits.double().mean()))


def test_the_rate_warms_up_peaks_and_ends_at_zero():
    rates = [rate(step, 100) for step in range(101)]
    assert rates[9] == rates[10] == max(rates) == 1.0
    assert rates[0] == 0.1
    assert rates[100] == pytest.approx(0)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"alphas": [1.5]}, "alphas"),
        ({"n_epochs": 0}, "n_epochs = 0"),
        ({"learning_rate": 0.0}, "positive rate"),
    ],
)
def test_impossible_settings_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        ImageFineTuning(**settings)


@pytest.mark.parametrize("name", ["relation", "digit", "smell"])
def test_tasks_without_names_or_fixed_classes_cannot_be_fine_tuned_on(name, model):
    with pytest.raises(ValueError, match="cannot be fine-tuned on. Choose from"):
        list(ImageFineTuning(tasks=[name])(model, DATA, Contrastive()))


def test_a_task_without_fitting_images_is_learned_on_one_half_and_scored_on_the_other(model):
    (task,) = (task for task in DATA.zero_shot_tasks if task.name == "background")
    bare = replace(task, fit_images=None, fit_labels=None)
    data = SimpleNamespace(name="bare", unit="samples", zero_shot_tasks=(bare,),
                           tokenizer=DATA.tokenizer, seq_len=DATA.seq_len)  # fmt: skip
    tuning = ImageFineTuning(alphas=[], n_epochs=60, learning_rate=5e-3)
    found = {metric.column: metric.value for metric in tuning(model, data, Contrastive())}
    fit, scored = halves(bare.labels)
    assert found["finetune_background_accuracy"] > 0.6  # of six classes
    assert round(found["finetune_background_accuracy"] * len(scored), 9).is_integer()
    assert sorted([*fit, *scored]) == list(range(len(bare.labels)))
    counts = [np.bincount(bare.labels[part], minlength=len(bare.class_names))
              for part in (fit, scored)]  # fmt: skip
    assert np.abs(counts[0] - counts[1]).max() <= 1
