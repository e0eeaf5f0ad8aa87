"""The same configuration has the same name, however its numbers were typed."""

import pytest

from fmscale.runs.identity import (
    IDENTITY_KEYS,
    TRAINER_IDENTITY_KEYS,
    digest,
    identity,
    short_number,
    slug,
)


def test_digest_sees_values_not_spelling():
    assert digest({"a": 2e6, "b": [1.0]}) == digest({"b": [1], "a": 2_000_000})
    assert digest({"a": 1}) != digest({"a": 1.5})


def test_digest_is_stable_across_releases():
    # Changing this changes every run id, and studies would be trained again.
    assert digest({"model": {"n_layer": 2}, "lr": 0.003}) == "f818b8c172"


@pytest.mark.parametrize(
    ("value", "text"),
    [(999, "999"), (1000, "1k"), (2_097_152, "2.1M"), (999_999_488, "1G"), (131_072, "131k")],
)
def test_short_number(value, text):
    assert short_number(value) == text


def test_slug_cannot_leave_its_folder():
    assert "/" not in slug("../../etc", 1000, 1)


def test_tasks_count_by_name_and_not_by_place():
    def of(*folders):
        config = {**{key: None for key in IDENTITY_KEYS}, "data": {"tasks": list(folders)},
                  "trainer": {key: None for key in TRAINER_IDENTITY_KEYS}}  # fmt: skip
        return identity(config)

    assert of("/a/pets", "cars") == of("/b/c/pets/", "x/cars")
    assert of("/a/pets") != of("/a/cars")
