"""Zero-shot tasks: balanced, truly held out, answerable from the picture."""

from __future__ import annotations

import numpy as np
import pytest

from fmscale.data.scenes.dataset import Scenes
from fmscale.data.scenes.grammar import COLORS, SHAPES, SceneBatch, SceneGrammar, held_out_concepts
from fmscale.data.scenes.renderer import COLOR_RGB, SceneStyle
from fmscale.data.scenes.tasks import OTHER_PALETTE, SceneTasks
from fmscale.data.zero_shot_task import ZeroShotTask
from tests.helpers.caption_reader import is_true, read

DATA = Scenes(n_val_samples=2, val_batch_size=2, n_task_images=240)
TASKS = {task.name: task for task in DATA.zero_shot_tasks}
NAMED = [task for task in DATA.zero_shot_tasks if task.named]


def test_there_are_at_least_eight_tasks_of_other_names() -> None:
    assert len(TASKS) == len(DATA.zero_shot_tasks) >= 8
    wanted = {"shape", "color", "size", "position", "background", "relation", "unseen"}
    assert wanted <= set(TASKS)


def test_chance_is_one_in_the_number_of_choices() -> None:
    chances = {name: task.chance for name, task in TASKS.items()}
    assert chances["shape"] == chances["noise"] == chances["palette"] == 1 / 8
    assert chances["position"] == 1 / 9
    assert chances["relation"] == 1 / 4
    assert chances["binding"] == 1 / 2
    assert chances["unseen"] == 1 / 80


@pytest.mark.parametrize("name", ["shape", "color", "size", "position", "background", "outline"])
def test_labels_are_balanced(name: str) -> None:
    counts = np.bincount(TASKS[name].labels, minlength=len(TASKS[name].class_names))
    assert counts.max() - counts.min() <= 1


def test_every_prompt_is_in_the_language_and_no_two_are_alike() -> None:
    for task in NAMED:
        prompts = task.prompts()
        rows = DATA.tokenizer.encode(prompts, DATA.seq_len)
        assert len(np.unique(rows, axis=0)) == len(prompts), task.name
        assert len(prompts) == len(task.class_names) * len(task.templates)


def test_unseen_labels_are_the_held_out_combinations() -> None:
    held_out = {
        f"{COLORS[color]} {SHAPES[shape]}" for shape, color in np.argwhere(held_out_concepts())
    }
    asked = {TASKS["unseen"].class_names[label] for label in TASKS["unseen"].labels}
    assert asked == held_out
    seen = {TASKS["concept"].class_names[label] for label in TASKS["concept"].labels}
    assert not seen & held_out
    assert len(seen) == 72


def test_binding_prompts_hold_the_same_words() -> None:
    task = TASKS["binding"]
    assert task.candidates is not None
    for right, wrong in task.candidates:
        a, b = task.class_names[right].split(), task.class_names[wrong].split()
        assert sorted(a) == sorted(b)
        assert a != b


def test_relation_prompts_differ_in_the_relation_alone() -> None:
    task = TASKS["relation"]
    assert task.candidates is not None
    for row in task.candidates:
        texts = [task.class_names[i].split() for i in row]
        assert len({tuple(words[:2] + words[-2:]) for words in texts}) == 1
        assert len({tuple(words) for words in texts}) == 4
    answers = (task.candidates == task.labels[:, None]).argmax(axis=1)
    assert (np.bincount(answers, minlength=4) == 60).all()


def test_relation_images_show_the_named_object_on_the_named_side() -> None:
    # Without looking at attributes: the picture's colors on each side of the middle.
    task, right = TASKS["relation"], 0
    for image, label in zip(task.images, task.labels, strict=True):
        words = task.class_names[label].split()
        rgb = COLOR_RGB[COLORS.index(words[0])]
        distance = np.abs(image.astype(int) - rgb[:, None, None]).max(axis=0)
        y, x = np.unravel_index(distance.argmin(), distance.shape)
        side = {"left": x < 12, "right": x >= 12, "above": y < 12, "below": y >= 12}
        right += side[words[2]]
    # Close colors (orange and brown, say) may mislead this simple reading.
    assert right > 0.9 * len(task.labels)


def test_tasks_are_the_same_each_time_and_other_than_validation() -> None:
    again = Scenes(n_val_samples=2, val_batch_size=2, n_task_images=240).zero_shot_tasks
    for task, same in zip(DATA.zero_shot_tasks, again, strict=True):
        assert (task.images == same.images).all()
        assert (task.labels == same.labels).all()
    every = [image.tobytes() for task in DATA.zero_shot_tasks for image in task.images]
    assert len(set(every)) == len(every)


def test_the_other_palette_is_new() -> None:
    assert len(OTHER_PALETTE) == len(COLOR_RGB)
    gap = np.abs(OTHER_PALETTE[:, None] - COLOR_RGB[None]).max(axis=2)
    # Farther than the jitter of both colors together.
    assert gap.min() > 2 * DATA.style.color_jitter


def test_no_images_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"data\.n_task_images = 0"):
        _ = Scenes(n_task_images=0).zero_shot_tasks


class Recorder:
    """Stands in for the renderer, and keeps the scenes it is asked to draw."""

    def __init__(self) -> None:
        self.drawn: list[SceneBatch] = []

    def render(
        self, scenes: SceneBatch, seed: int, indices: np.ndarray, style: SceneStyle
    ) -> np.ndarray:
        self.drawn.append(scenes)
        return np.zeros((len(scenes), 3, 16, 16), dtype=np.uint8)


def drawn(n_images: int) -> list[tuple[ZeroShotTask, SceneBatch, np.ndarray]]:
    """Tasks with the scenes of their images, and the same for the images to fit on."""
    recorder = Recorder()
    maker = SceneTasks(SceneGrammar(), recorder, SceneStyle(), 0, n_images)  # type: ignore[arg-type]
    parts = [
        (task, labels)
        for task in maker.build()
        for labels in (task.labels, task.fit_labels)
        if labels is not None
    ]
    return [
        (task, scenes, labels) for (task, labels), scenes in zip(parts, recorder.drawn, strict=True)
    ]


def test_of_all_answers_the_label_alone_is_true_of_its_scene() -> None:
    for task, scenes, labels in drawn(240):
        if task.name == "count":  # a caption may leave the second object out; see below
            continue
        claims = [
            [read(template.format(name)) for template in task.templates]
            for name in task.class_names
        ]
        for i, label in enumerate(labels):
            choices = range(len(claims)) if task.candidates is None else task.candidates[i]
            true = [j for j in choices if any(is_true(claim, scenes, i) for claim in claims[j])]
            assert true == [label], (task.name, task.class_names[label], i)
            assert all(is_true(claim, scenes, i) for claim in claims[label])


def test_taking_the_first_answer_or_the_last_is_no_better_than_chance() -> None:
    # A tie goes to the first answer: words without their order tie all binding prompts.
    for task in NAMED:
        n_class = len(task.class_names)
        choices = task.candidates
        if choices is None:
            choices = np.tile(np.arange(n_class), (len(task.labels), 1))
        for place in (0, -1):
            accuracy = (choices[:, place] == task.labels).mean()
            assert accuracy <= task.chance + 2 / 240, task.name


def test_two_objects_are_named_only_where_there_are_two() -> None:
    count = [entry for entry in drawn(40) if entry[0].name == "count"]
    assert len(count) == 2
    for task, scenes, labels in count:
        claim = read(task.templates[0].format(task.class_names[1]))
        assert [is_true(claim, scenes, i) for i in range(len(labels))] == (labels == 1).tolist()


def test_only_the_unseen_task_shows_held_out_combinations() -> None:
    for task, scenes, _ in drawn(240):
        shown = np.arange(2) < scenes.n_objects[:, None]
        unseen = held_out_concepts()[scenes.shape, scenes.color] & shown
        assert unseen.any(axis=1).all() if task.name == "unseen" else not unseen.any(), task.name


def test_every_class_has_images_to_fit_on_that_are_not_scored() -> None:
    for task in DATA.zero_shot_tasks:
        if task.candidates is not None:
            continue
        assert task.fit_images is not None
        _, counts = np.unique(task.fit_labels, return_counts=True)
        assert counts.min() >= 20
        assert set(np.unique(task.fit_labels)) == set(np.unique(task.labels))
        scored = {image.tobytes() for image in task.images[:]}
        assert not scored & {image.tobytes() for image in task.fit_images[:]}
