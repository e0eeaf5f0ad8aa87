"""Zero-shot tasks as plain arrays: chance, prompts, errors."""

import numpy as np
import pytest

from fmscale.data.zero_shot_task import ZeroShotTask


def task(**changes: object) -> ZeroShotTask:
    settings: dict[str, object] = {
        "name": "toy",
        "class_names": ("red", "blue", "green"),
        "templates": ("a {} thing", "the {}"),
        "images": np.zeros((2, 3, 16, 16), dtype=np.uint8),
        "labels": np.array([0, 1]),
    }
    return ZeroShotTask(**{**settings, **changes})  # type: ignore[arg-type]


def test_prompts_go_class_after_class_through_all_templates() -> None:
    expected = ["a red thing", "the red", "a blue thing", "the blue", "a green thing", "the green"]
    assert task().prompts() == expected


def test_chance_counts_the_candidates_where_there_are_any() -> None:
    assert task().chance == 1 / 3
    assert task(candidates=np.array([[2, 0], [1, 0]])).chance == 1 / 2


def test_a_label_that_is_no_candidate_is_refused() -> None:
    with pytest.raises(AssertionError):
        task(candidates=np.array([[2, 0], [2, 0]]))


@pytest.mark.parametrize("template", ["no place", "{} and {}"])
def test_a_template_needs_one_place_for_the_class_name(template: str) -> None:
    with pytest.raises(ValueError, match="task toy: template .* needs exactly one"):
        task(templates=("a {}", template))


def test_a_task_without_images_is_an_error() -> None:
    with pytest.raises(ValueError, match="0 images and 0 labels.*at least one image"):
        task(images=np.zeros((0, 3, 16, 16), dtype=np.uint8), labels=np.zeros(0, dtype=int))
