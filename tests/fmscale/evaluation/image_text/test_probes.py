"""Probe, neighbours and few examples on features with a planted answer; retrieval by hand."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from fmscale.data.zero_shot_task import ZeroShotTask
from fmscale.evaluation.image_text.probes import (
    NEIGHBORS,
    Adaptation,
    encode,
    few_shot,
    nearest,
    probe,
    suitable,
)
from fmscale.evaluation.image_text.retrieval import recall


class Flat(nn.Module):
    """Its features are the pixels."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(()))

    def image(self, image):
        return self.weight * image.flatten(1).float()


def task(noise, n=240, n_class=4, seed=0, **more):
    """Each class is bright in its own corner, under noise."""
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % n_class
    images = np.full((n, 3, 4, 4), 100.0) + noise * rng.standard_normal((n, 3, 4, 4))
    for i, label in enumerate(labels):
        images[i, :, (label // 2) * 2 :, (label % 2) * 2 :][:, :2, :2] += 40
    return ZeroShotTask("corner", tuple("abcd")[:n_class], ("{}",),
                        images.clip(0, 255).astype(np.uint8), labels, **more)  # fmt: skip


class Data:
    unit = "samples"

    def __init__(self, *tasks):
        self.zero_shot_tasks = tasks


def test_a_clear_task_is_solved_and_pure_noise_is_not():
    easy, hard = encode(Flat(), task(5.0), 64), encode(Flat(), task(5.0), 64)
    assert probe(easy) == nearest(easy) == few_shot(easy, 4, (0, 1)) == 1.0
    rng = np.random.default_rng(1)
    shuffled = type(hard)(hard.name, hard.fit_x, rng.permutation(hard.fit_y), hard.test_x,
                          rng.permutation(hard.test_y))  # fmt: skip
    for score in (probe(shuffled), nearest(shuffled), few_shot(shuffled, 8, (0, 1, 2))):
        assert abs(score - 0.25) < 4 * np.sqrt(0.25 * 0.75 / 120)


def test_halves_share_no_image_and_keep_the_balance():
    features = encode(Flat(), task(30.0), 7)
    assert len(features.fit_y) == len(features.test_y) == 120
    assert (np.bincount(features.fit_y) == 30).all()
    assert np.abs(features.fit_x.mean(axis=0)).max() < 1e-9
    whole = np.concatenate([features.fit_x, features.test_x])
    assert len(np.unique(whole, axis=0)) == 240


def test_more_examples_help():
    features = encode(Flat(), task(60.0, n=800), 64)
    curve = [few_shot(features, k, range(8)) for k in (1, 4, 16)]
    assert curve[0] < curve[1] < curve[2] <= probe(features) + 0.05


def test_the_probe_is_scikit_learns_at_the_best_of_its_strengths():
    from sklearn.linear_model import LogisticRegression

    features = encode(Flat(), task(60.0, n=800), 64)
    scores = [
        LogisticRegression(C=c, max_iter=1000)
        .fit(features.fit_x, features.fit_y).score(features.test_x, features.test_y)
        for c in np.logspace(-6, 6, 25)
    ]  # fmt: skip
    assert max(scores) - 0.04 <= probe(features) <= max(scores)


def test_neighbours_are_scikit_learns_by_cosine():
    from sklearn.neighbors import KNeighborsClassifier

    features = encode(Flat(), task(60.0, n=800), 64)
    scores = [
        KNeighborsClassifier(k, metric="cosine")
        .fit(features.fit_x, features.fit_y).score(features.test_x, features.test_y)
        for k in NEIGHBORS
    ]  # fmt: skip
    assert nearest(features) in [pytest.approx(score, abs=0.003) for score in scores]  # but ties
    assert len({round(score, 2) for score in scores}) > 2


def test_tasks_without_fixed_classes_are_left_out_and_means_are_over_all_tasks():
    asked = task(5.0, candidates=np.tile(np.arange(4), (240, 1)))
    assert not suitable(asked)
    assert not suitable(replace(task(5.0), class_names=tuple("abcdefghi")))
    evaluator = Adaptation(few_shot=(1, 40), seeds=(0,))
    found = {m.column: m.value for m in evaluator(Flat(), Data(task(5.0), asked), None)}
    assert found["probe_error"] == found["knn_error"] == 0
    assert "few_shot_1_error" in found
    assert "few_shot_40_error" not in found  # 30 images a class
    with pytest.raises(ValueError, match="no task"):
        list(evaluator(Flat(), Data(asked), None))
    with pytest.raises(ValueError, match="few_shot"):
        Adaptation(few_shot=(0,))


def test_a_task_with_fitting_images_is_fitted_on_all_of_them_and_scored_on_the_others():
    fit = task(30.0, n=80, seed=1)
    whole = task(30.0, fit_images=fit.images, fit_labels=fit.labels)
    features = encode(Flat(), whole, 64)
    assert len(features.fit_y) == 80
    assert (features.test_y == whole.labels).all()
    assert np.abs(features.fit_x.mean(axis=0)).max() < 1e-9
    assert np.abs(features.fit_x.std(axis=0) - 1).max() < 1e-9
    assert np.abs(features.test_x.mean(axis=0)).max() > 1e-3  # by the fitting images' statistics
    assert probe(features) == 1.0


def test_recall_counts_any_right_answer():
    cosines = torch.tensor([[0.9, 0.1, 0.5], [0.2, 0.1, 0.8], [0.7, 0.6, 0.1]])
    right = torch.eye(3, dtype=torch.bool)
    assert recall(cosines, right, 1) == pytest.approx(1 / 3)
    assert recall(cosines, right, 2) == pytest.approx(1 / 3)
    assert recall(cosines, right, 3) == 1.0
    right[1, 2] = right[2, 1] = True  # captions 1 and 2 are the same text
    assert recall(cosines, right, 1) == pytest.approx(2 / 3)
