"""Whatever runs differ in is a column, and nothing else is."""

from __future__ import annotations

from typing import Any

import pytest

from fmscale.runs.hyperparameters import differing, headed, of_record
from tests.helpers.records import BASE, changed


@pytest.mark.parametrize(
    ("change", "columns"),
    [
        ({"model__dropout": 0.3}, {"model.dropout": (0.0, 0.3)}),
        ({"optimizer__weight_decay": 0}, {"optimizer.weight_decay": (0.1, 0)}),
        ({"batch_size": 32}, {"batch_size": (16, 32)}),
        ({"optimizer__betas": [0.9, 0.99]}, {"optimizer.betas": ("[0.9, 0.95]", "[0.9, 0.99]")}),
        ({"trainer__gradient_clip_val": None}, {"trainer.gradient_clip_val": (1.0, "null")}),
        ({"trainer__precision": "bf16-mixed"}, {"trainer.precision": ("32-true", "bf16-mixed")}),
        ({"model__extra": 3}, {"model.extra": ("null", 3)}),
        ({"optimizer__lr": ...}, {"optimizer.lr": (0.1, "null")}),
        ({"batch_ramp__start": 4}, {"batch_ramp.start": ("null", 4)}),
        ({"model___target_": "mylab.net.GPT"}, {"model._target_": ("GPT", "mylab.net.GPT")}),
        ({"objective___target_": "fmscale.o.P"}, {"objective._target_": ("NextToken", "P")}),
        (
            {"data__root": "/b", "data__content": "c2"},
            {"data.root": ("/a", "/b"), "data.content": ("c1", "c2")},
        ),
        (
            {"evaluation__evaluators__language__n": 5},
            {"evaluation.evaluators.language.n": ("null", 5)},
        ),
        # The same numbers, or columns of their own: nothing to tell.
        ({"data__root": "/moved", "data__data_dir": "/e"}, {}),
        ({"trainer__keep_checkpoints": 5, "logger__mode": "online", "study": "t"}, {}),
        ({"seed": 2, "budget__tokens": 200}, {}),
        ({"model__dropout": 0}, {}),
        ({"model___target_": "fmscale.GPT"}, {}),
    ],
)
def test_each_key_that_differs_is_a_column_and_no_other(change, columns):
    first, second = differing([BASE, changed(**change)])
    assert {key: (first.get(key), second.get(key)) for key in {*first, *second}} == columns


def test_a_record_of_an_earlier_release_does_not_say_all_and_differs_in_nothing_by_that():
    described = {"name": "x", "content_sha256": "c1", "n_tokens_by_source": {"a": 5}}
    sections = ("model", "objective", "optimizer", "schedule", "trainer")
    old = {"hyperparameters": {k: BASE[k] for k in sections}, "data": described}
    new = {"hyperparameters": BASE, "data": {**described, "n_tokens_by_source": {"a": 9}}}
    assert differing(map(of_record, [old, new])) == [{}, {}]
    new["data"] = {**new["data"], "content_sha256": "c2"}
    assert differing(map(of_record, [old, new])) == [
        {"data.content_sha256": "c1"}, {"data.content_sha256": "c2"}
    ]  # fmt: skip
    other = {"hyperparameters": changed(data__root="/b", data__content="c9"), "data": described}
    (first, second, third) = differing(map(of_record, [old, {**new, "data": described}, other]))
    assert first == {}  # unknown, not null
    assert (second["data.root"], third["data.root"]) == ("/a", "/b")


def test_an_imported_model_has_no_keys_and_takes_none_from_the_others():
    imported = {"hyperparameters": {"imported": "gpt2"}, "data": {}}
    pair = [{"hyperparameters": changed(model__dropout=p), "data": {}} for p in (0.0, 0.3)]
    assert differing(map(of_record, [imported, *pair])) == [
        {}, {"model.dropout": 0.0}, {"model.dropout": 0.3}
    ]  # fmt: skip


def columns(*configs: dict[str, Any], models: str) -> dict[str, list[str]]:
    return headed(differing(configs), models.split())


def test_a_heading_is_short_and_what_follows_from_the_model_is_left_out():
    large = {"model__shape__d_model": 16, "optimizer__lr": 0.05, "schedule__warmup_units": 20}
    grid = [changed(**size, model__dropout=p) for size in ({}, large) for p in (0.0, 0.3)]
    assert columns(*grid, models="a a b b") == {"dropout": ["0", "0.3", "0", "0.3"]}
    rates = [changed(optimizer__lr=lr) for lr in (0.1, 0.2)]
    assert columns(*rates, models="a a") == {"lr": ["0.1", "0.2"]}
    shapes = [BASE, changed(model__shape__d_model=16)]
    assert columns(*shapes, models="a a") == {"d_model": ["8", "16"]}
    assert columns(*shapes, models="a b") == {}


def test_two_keys_of_one_last_name_keep_their_whole_names():
    configs = [BASE, changed(model__floor=1, schedule__floor=2, data__seed=3)]
    assert columns(*configs, models="a a") == {
        "model.floor": ["null", "1"], "schedule.floor": ["null", "2"], "data.seed": ["null", "3"]
    }  # fmt: skip


def test_where_the_data_lie_stands_for_their_content():
    texts = [BASE, changed(data__root="/b", data__content="c2")]
    assert columns(*texts, models="a a") == {"root": ["/a", "/b"]}
    edited = [BASE, changed(data__content="c2")]
    assert columns(*edited, models="a a") == {"content": ["c1", "c2"]}
