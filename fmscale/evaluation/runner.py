"""Runs a named set of evaluators on one model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from fmscale.evaluation.metric import Evaluator, Objective


class Measured(NamedTuple):
    """Metrics of one model as the run record stores them; a number that is missing is absent."""

    metrics: dict[str, float]
    units: dict[str, str]  # the same keys


def evaluate(
    model: Any, data: Any, objective: Objective, evaluators: Mapping[str, Evaluator]
) -> Measured:
    """All metrics of all evaluators; two evaluators must not measure the same name.

    Args:
        model: the network; its training mode is left as it was.
        data: the training data, with its validation set.
        objective: what the model was trained on.
        evaluators: evaluators by name, run in the given order.
    """
    measured = Measured({}, {})
    for evaluator_name, evaluator in evaluators.items():
        for metric in evaluator(model, data, objective):
            if metric.name in measured.metrics:
                raise ValueError(
                    f"evaluator {evaluator_name!r} measures {metric.name!r}, which another one "
                    "measured already. Remove one of them from evaluation.evaluators."
                )
            measured.metrics[metric.name] = metric.value
            measured.units[metric.name] = metric.unit
    return measured
