"""Several evaluators on one model."""

from collections.abc import Iterator
from typing import Any

import pytest

from fmscale.evaluation.metric import Metric, Rows
from fmscale.evaluation.runner import check_evaluators, evaluate


def gives(*metrics: Metric | Rows) -> Any:
    def evaluator(model: Any, data: Any, objective: Any) -> Iterator[Metric | Rows]:
        assert (model, data, objective) == ("model", "data", "objective")
        yield from metrics

    return evaluator


def run(**evaluators: Any) -> Any:
    return evaluate("model", "data", "objective", evaluators)  # type: ignore[arg-type]


def test_metrics_come_in_order_with_their_units_and_are_logged_by_split() -> None:
    found = run(
        b=gives(Metric("val/loss", 1.5, "nats/token"), Metric("val/bpb", 2.0, "bits/byte")),
        a=gives(Metric("my_exam/of_2_parts_accuracy", 0.5, "fraction")),
    )
    numbers = (1.5, 2.0, 0.5)
    columns = ("val_loss", "val_bpb", "my_exam_of_2_parts_accuracy")
    logged = ("val/loss", "val/bpb", "my_exam/of_2_parts_accuracy")
    assert list(found.metrics.items()) == list(zip(columns, numbers, strict=True))
    assert list(found.logged.items()) == list(zip(logged, numbers, strict=True))
    assert found.units == dict(zip(columns, ("nats/token", "bits/byte", "fraction"), strict=True))


def test_what_an_evaluator_leaves_out_is_absent() -> None:
    found = run(a=gives(), b=gives())
    assert (found.metrics, found.units) == ({}, {})
    assert found.evaluators == {"a": [], "b": []}


def test_each_metric_is_booked_to_its_evaluator_and_tables_are_kept_apart() -> None:
    begun: list[str] = []
    found = evaluate(
        "model", "data", "objective",  # type: ignore[arg-type]
        {
            "a": gives(Metric("x", 1.0, "1"), Rows("texts", [{"text": "hello"}])),
            "b": gives(Metric("y", 2.0, "1")),
        },
        begun.append,
    )  # fmt: skip
    assert found.evaluators == {"a": ["x"], "b": ["y"]}
    assert found.tables == {"texts": [{"text": "hello"}]}
    assert begun == ["a", "b"]


def test_an_evaluator_is_asked_before_anything_is_measured() -> None:
    class Picky:
        def check(self, data: Any) -> None:
            raise ValueError("data.seq_len = 4 is too short")

        def __call__(self, *_: Any) -> Iterator[Metric]:
            raise AssertionError("must not run")
            yield

    check_evaluators({"plain": gives()}, "data")
    with pytest.raises(ValueError, match=r"evaluation.evaluators.few: data.seq_len = 4"):
        check_evaluators({"plain": gives(), "few": Picky()}, "data")


def test_two_evaluators_that_measure_one_name_are_an_error() -> None:
    one = gives(Metric("val/loss", 1.5, "nats/token"))
    with pytest.raises(ValueError, match="evaluator 'b' gives the metric 'val_loss'.*Remove one"):
        run(a=one, b=one)
    with pytest.raises(ValueError, match="'b' gives the metric 'val_loss'"):  # one column
        run(a=one, b=gives(Metric("val_loss", 1.5, "nats/token")))
