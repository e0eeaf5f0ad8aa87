"""Several evaluators on one model."""

from collections.abc import Iterator
from typing import Any

import pytest

from fmscale.evaluation.metric import Metric
from fmscale.evaluation.runner import evaluate


def gives(*metrics: Metric) -> Any:
    def evaluator(model: Any, data: Any, objective: Any) -> Iterator[Metric]:
        assert (model, data, objective) == ("model", "data", "objective")
        yield from metrics

    return evaluator


def run(**evaluators: Any) -> Any:
    return evaluate("model", "data", "objective", evaluators)  # type: ignore[arg-type]


def test_metrics_come_in_order_with_their_units() -> None:
    found = run(
        b=gives(Metric("val_loss", 1.5, "nats/token"), Metric("val_bpb", 2.0, "bits/byte")),
        a=gives(Metric("accuracy", 0.5, "fraction")),
    )
    assert list(found.metrics.items()) == [("val_loss", 1.5), ("val_bpb", 2.0), ("accuracy", 0.5)]
    assert list(found.units.items()) == [
        ("val_loss", "nats/token"),
        ("val_bpb", "bits/byte"),
        ("accuracy", "fraction"),
    ]


def test_what_an_evaluator_leaves_out_is_absent() -> None:
    assert run(a=gives(), b=gives()) == ({}, {})


def test_two_evaluators_that_measure_one_name_are_an_error() -> None:
    one = gives(Metric("val_loss", 1.5, "nats/token"))
    with pytest.raises(ValueError, match="evaluator 'b' measures 'val_loss'.*Remove one"):
        run(a=one, b=one)
