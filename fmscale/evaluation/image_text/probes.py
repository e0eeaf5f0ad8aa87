"""What frozen features are worth on a task: linear probe, nearest neighbours, few examples.

Classifiers are fitted on a task's own fitting images and scored on those that zero-shot is scored
on; a task without fitting images is cut in two halves, interleaved so that classes stay balanced.
Features are those before the projection into the joint space, standardised on the fitting part
(Radford et al. 2021, Sec. 3.2 and App. A).
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fmscale.data.counter_random import random_order
from fmscale.data.protocol import PairData
from fmscale.data.zero_shot_task import ZeroShotTask, halves
from fmscale.evaluation.image_text.features import check_tasks, image_features
from fmscale.evaluation.metric import Metric, Objective

COARSE = np.logspace(-6, 6, 7)  # 1 / L2 strength; the paper sweeps 96 steps over the same range
FINE = np.logspace(-0.75, 0.75, 4)  # around the best of these
NEIGHBORS = (1, 3, 5, 10, 20)
VALIDATION_SHARE = 4  # every fourth fitting image chooses strength and neighbours
FEW_SHOT_STRENGTH = 0.316  # C of the example in the released code of Radford et al. 2021
MAX_ITERATIONS = 1000
SEARCH_ITERATIONS = 100  # choosing a strength needs no better
_FEW = 0xF3  # stream of the choice of examples


@dataclass(frozen=True)
class Features:
    """A task in feature space: what is fitted on and what is scored."""

    name: str
    fit_x: np.ndarray  # (n, d_model), standardised
    fit_y: np.ndarray  # (n,)
    test_x: np.ndarray
    test_y: np.ndarray


class Adaptation:
    """Accuracy of a linear probe, of nearest neighbours, and of probes on K examples a class.

    Args:
        few_shot: numbers of examples K; an empty list skips them.
        seeds: choices of examples; the accuracy is their mean.
        batch_size: images encoded at once; it only changes speed and memory.

    Tasks that ask about candidates of their own for each image have no fixed classes and are
    left out, as are those with fewer than four images a class.
    """

    def __init__(
        self,
        few_shot: Sequence[int] = (1, 2, 4, 8, 16),
        seeds: Sequence[int] = (0, 1, 2),
        batch_size: int = 512,
    ) -> None:
        if any(k < 1 for k in few_shot) or not seeds:
            raise ValueError(
                f"few_shot = {list(few_shot)}, seeds = {list(seeds)}: give at least one example a "
                "class and one seed."
            )
        self.few_shot = tuple(few_shot)
        self.seeds = tuple(seeds)
        self.batch_size = batch_size

    def check(self, data: Any) -> None:
        """Refuse data without a task that can be probed."""
        if not any(suitable(task) for task in check_tasks(data)):
            raise ValueError("no task has fixed classes with at least 4 images each to probe.")

    def __call__(self, model: Any, data: PairData, objective: Objective) -> Iterator[Metric]:
        self.check(data)
        tasks = [task for task in data.zero_shot_tasks if suitable(task)]
        errors: dict[str, list[float]] = {}
        for task in tasks:
            found = self._accuracies(encode(model, task, self.batch_size))
            for kind, accuracy in found.items():
                errors.setdefault(kind, []).append(1 - accuracy)
                yield Metric(f"{kind}{task.name}_accuracy", accuracy, "fraction")
        for kind, values in errors.items():
            if len(values) == len(tasks):  # a mean over other tasks could not be compared
                yield Metric(f"{kind}error", float(np.mean(values)), "fraction")

    def _accuracies(self, features: Features) -> dict[str, float]:
        """By the front of the metrics' names."""
        from threadpoolctl import threadpool_limits

        # These matrices are small: threads would only wait for each other.
        with threadpool_limits(1):
            found = {"probe/": probe(features), "knn/": nearest(features)}
            room = int(np.unique(features.fit_y, return_counts=True)[1].min())
            for k in self.few_shot:
                if k <= room:
                    found[f"few_shot/{k}_"] = few_shot(features, k, self.seeds)
        return found


def suitable(task: ZeroShotTask) -> bool:
    """Fixed classes, most of which occur, and at least four images of each (two to fit on).

    A probe knows only the classes that occur; among a few of many it would have an easier task
    than zero-shot, and the two could not be compared.
    """
    labels, least = (task.labels, 4) if task.fit_labels is None else (task.fit_labels, 2)
    counts = np.bincount(labels)
    occurring = counts[counts > 0]
    return (
        task.candidates is None
        and 2 * len(occurring) >= len(task.class_names)
        and int(occurring.min()) >= least
    )


def encode(model: Any, task: ZeroShotTask, batch_size: int) -> Features:
    """Features of one task, standardised on the fitting part."""
    x = image_features(model, task.images, batch_size).double().numpy()
    if task.fit_images is None or task.fit_labels is None:
        fit, test = halves(task.labels)
        fit_x, fit_y, test_x, test_y = x[fit], task.labels[fit], x[test], task.labels[test]
    else:
        fit_x = image_features(model, task.fit_images, batch_size).double().numpy()
        fit_y, test_x, test_y = task.fit_labels, x, task.labels
    mean, spread = fit_x.mean(axis=0), fit_x.std(axis=0)
    spread = np.where(spread > 0, spread, 1.0)
    return Features(task.name, (fit_x - mean) / spread, fit_y, (test_x - mean) / spread, test_y)


def probe(features: Features) -> float:
    """Logistic regression by L-BFGS; its L2 strength is chosen on a quarter of the fitting part.

    As in the paper's search, the score is taken to have one peak: weaker and weaker penalties are
    tried until two in a row are worse than the best, and then finer steps around that. Each fit of
    the search, in float32, starts where the last one ended.
    """
    held = _validation(features.fit_y)
    x, y = features.fit_x.astype(np.float32), features.fit_y
    search = _logistic(max_iterations=SEARCH_ITERATIONS, warm_start=True)

    def score(strength: float) -> float:
        search.set_params(C=strength)
        return float(_fit(search, x[~held], y[~held]).score(x[held], y[held]))

    scores: dict[float, float] = {}
    for strength in COARSE:
        scores[strength] = score(strength)
        if max(list(scores.values())[-2:]) < max(scores.values()):
            break
    best = max(scores, key=lambda strength: scores[strength])
    best = max((best, *(best * FINE)), key=score)
    model = _fit(_logistic(best), features.fit_x, features.fit_y)
    return float(model.score(features.test_x, features.test_y))


def nearest(features: Features) -> float:
    """Majority of the nearest neighbours by cosine; their number is chosen as for the probe.

    Neighbours are looked up once for all numbers; a tied vote goes to the first class.
    """
    held = _validation(features.fit_y)
    x, y = _unit(features.fit_x), features.fit_y
    labels = _neighbor_labels(x[~held], y[~held], x[held])
    best = max(NEIGHBORS, key=lambda k: float((_majority(labels[:, :k]) == y[held]).mean()))
    labels = _neighbor_labels(x, y, _unit(features.test_x))
    return float((_majority(labels[:, :best]) == features.test_y).mean())


def _unit(x: np.ndarray) -> np.ndarray:
    """Rows of length one, float32; between them, nearer by distance is nearer by cosine."""
    length = np.linalg.norm(x, axis=1, keepdims=True)
    return (x / np.where(length > 0, length, 1.0)).astype(np.float32)


def _neighbor_labels(x: np.ndarray, y: np.ndarray, asked: np.ndarray) -> np.ndarray:
    """Labels of the nearest of x for each row asked for, nearest first, (n, most neighbours)."""
    from sklearn.neighbors import NearestNeighbors

    index = NearestNeighbors(n_neighbors=min(max(NEIGHBORS), len(y)), algorithm="brute").fit(x)
    return y[index.kneighbors(asked, return_distance=False)]


def _majority(labels: np.ndarray) -> np.ndarray:
    """The most frequent label of each row, (n,)."""
    votes = np.zeros((len(labels), int(labels.max()) + 1), dtype=np.int64)
    np.add.at(votes, (np.arange(len(labels))[:, None], labels), 1)
    return votes.argmax(axis=1)


def few_shot(features: Features, k: int, seeds: Sequence[int]) -> float:
    """Mean accuracy of probes on K examples of each class, one choice of examples a seed."""
    accuracies = []
    for seed in seeds:
        order = random_order(seed, _FEW, len(features.fit_y))
        chosen = np.concatenate(
            [order[features.fit_y[order] == label][:k] for label in np.unique(features.fit_y)]
        )
        model = _fit(_logistic(FEW_SHOT_STRENGTH), features.fit_x[chosen], features.fit_y[chosen])
        accuracies.append(model.score(features.test_x, features.test_y))
    return float(np.mean(accuracies))


def _validation(labels: np.ndarray) -> np.ndarray:
    """Every fourth image of each class, (n,) bool."""
    held = np.zeros(len(labels), dtype=bool)
    for label in np.unique(labels):
        held[np.flatnonzero(labels == label)[VALIDATION_SHARE - 1 :: VALIDATION_SHARE]] = True
    if not held.any():  # fewer than four of every class
        held[-1] = True
    return held


def _logistic(
    strength: float = 1.0, max_iterations: int = MAX_ITERATIONS, warm_start: bool = False
) -> Any:
    from sklearn.linear_model import LogisticRegression

    return LogisticRegression(C=strength, max_iter=max_iterations, warm_start=warm_start)


def _fit(model: Any, x: np.ndarray, y: np.ndarray) -> Any:
    with warnings.catch_warnings():
        # One example a class is meant: scikit-learn takes it for a regression problem.
        warnings.filterwarnings("ignore", message="The number of unique classes")
        # The weakest penalties may need more iterations than they are allowed.
        warnings.filterwarnings("ignore", message="lbfgs failed to converge")
        return model.fit(x, y)
