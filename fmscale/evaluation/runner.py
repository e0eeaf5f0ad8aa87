"""Runs a named set of evaluators on one model."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from fmscale.evaluation.image_text.features import shared_features
from fmscale.evaluation.metric import Checked, Evaluator, Metric, Objective


@dataclass(frozen=True)
class Measured:
    """What was measured on one model; a number that is missing is absent."""

    logged: dict[str, float] = field(default_factory=dict)  # by name, `split/what`
    metrics: dict[str, float] = field(default_factory=dict)  # by column, `split_what`
    units: dict[str, str] = field(default_factory=dict)  # the same keys
    evaluators: dict[str, list[str]] = field(default_factory=dict)  # evaluator -> its metrics
    tables: dict[str, list[dict[str, Any]]] = field(default_factory=dict)


@shared_features()
def evaluate(
    model: Any,
    data: Any,
    objective: Objective,
    evaluators: Mapping[str, Evaluator],
    begin: Callable[[str], None] = lambda name: None,
) -> Measured:
    """All metrics of all evaluators; two evaluators must not measure the same name.

    Args:
        evaluators: by name, run in the given order.
        begin: called with the name of each evaluator before it runs.
    """
    measured = Measured()
    for evaluator_name, evaluator in evaluators.items():
        begin(evaluator_name)
        names = measured.evaluators[evaluator_name] = []
        for found in evaluator(model, data, objective):
            is_metric = isinstance(found, Metric)
            name = found.column if isinstance(found, Metric) else found.name
            if name in (measured.metrics if is_metric else measured.tables):
                kind = "metric" if is_metric else "table"
                raise ValueError(
                    f"evaluator {evaluator_name!r} gives the {kind} {name!r}, which another "
                    "one gave already. Remove one of them from evaluation.evaluators."
                )
            if isinstance(found, Metric):
                measured.logged[found.name] = measured.metrics[name] = found.value
                measured.units[name] = found.unit
                names.append(name)
            else:
                measured.tables[found.name] = found.rows
    return measured


def check_evaluators(evaluators: Mapping[str, Evaluator], data: Any) -> None:
    """Ask each evaluator whether it fits the data; a ValueError names the one that does not."""
    for name, evaluator in evaluators.items():
        if isinstance(evaluator, Checked):
            try:
                evaluator.check(data)
            except ValueError as error:
                raise ValueError(f"evaluation.evaluators.{name}: {error}") from error
