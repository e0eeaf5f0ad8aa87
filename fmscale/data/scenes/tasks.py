"""Held-out zero-shot tasks on rendered scenes, one per attribute and some out of distribution.

Images come from streams of random numbers that training never uses, with labels balanced. Every
prompt is a sentence that training captions could contain, but concepts marked unseen are not.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from fmscale.data.counter_random import random_bits, random_uniform
from fmscale.data.scenes.grammar import (
    BACKGROUNDS,
    COLORS,
    HELD_OUT_COLOR,
    INVERSE_RELATION,
    POSITIONS,
    RELATIONS,
    SHAPES,
    SIZES,
    SceneBatch,
    SceneGrammar,
    held_out_concepts,
)
from fmscale.data.scenes.renderer import SceneRenderer, SceneStyle
from fmscale.data.zero_shot_task import ZeroShotTask

_TASK_STREAM = 0x7A5C
# Tasks share item numbers with nothing: each starts at its own multiple of this.
_TASK_STRIDE = 1 << 32
_FIRST_TASK_INDEX = 1 << 48
# Within a task, the images that probes are fitted on start here.
_FIRST_FIT_INDEX = 1 << 31

CAPTION_TEMPLATES = ("a {}", "a photo of a {}", "a picture of a {}", "there is a {}")
# For classes that are not shapes, the object itself stays unnamed.
THING_TEMPLATES = ("a {} thing", "a {} object", "a photo of a {} shape", "there is a {} object")
# Two of them suffice where each image brings prompts of its own.
PAIR_TEMPLATES = ("a {}", "a photo of a {}")
PLACE_TEMPLATES = ("a thing {}", "an image of a object {}", "a photo of a shape {}")
HEAVY_NOISE = 35.0  # standard deviation in levels of 0..255
# Colors that no training scene has; far from each of COLOR_RGB, one for every color index.
OTHER_PALETTE = np.array(
    [
        (120, 0, 40),
        (250, 180, 140),
        (175, 170, 25),
        (90, 120, 70),
        (10, 125, 130),
        (150, 180, 240),
        (85, 20, 230),
        (245, 20, 150),
        (190, 140, 110),
        (0, 235, 140),
    ]
)


class SceneTasks:
    """Builds the task sets; each is a pure function of the data seed.

    Args:
        style: how training scenes are drawn; three tasks depart from it.
        seed: of the data set.
        n_images: images per task; 512 give a standard error of at most 2.2 points.
        n_fit_per_class: other images of each class, to fit on; at least `n_images` in all.
    """

    def __init__(
        self,
        grammar: SceneGrammar,
        renderer: SceneRenderer,
        style: SceneStyle,
        seed: int,
        n_images: int,
        n_fit_per_class: int = 20,
    ) -> None:
        if n_images < 1 or n_fit_per_class < 1:
            raise ValueError(
                f"data.n_task_images = {n_images}, data.n_fit_per_class = {n_fit_per_class}: give "
                "at least 1 image."
            )
        self.n_fit_per_class = n_fit_per_class
        self.grammar = grammar
        self.renderer = renderer
        self.style = style
        self.seed = seed
        self.n_images = n_images

    def build(self) -> tuple[ZeroShotTask, ...]:
        """All task sets, in a fixed order."""
        makers: tuple[Callable[[np.ndarray], ZeroShotTask], ...] = (
            self._shape,
            self._color,
            self._size,
            self._position,
            self._background,
            self._relation,
            self._binding,
            self._concept,
            self._unseen,
            self._palette,
            self._noise,
            self._outline,
            self._count,
        )
        return tuple(
            self._with_fit_images(maker, _FIRST_TASK_INDEX + i * _TASK_STRIDE)
            for i, maker in enumerate(makers)
        )

    def _with_fit_images(
        self, maker: Callable[[np.ndarray], ZeroShotTask], first: int
    ) -> ZeroShotTask:
        task = maker(first + np.arange(self.n_images))
        if task.candidates is not None:  # its answers differ from image to image: nothing to fit
            return task
        n_fit = max(self.n_images, self.n_fit_per_class * len(np.unique(task.labels)))
        fit = maker(first + _FIRST_FIT_INDEX + np.arange(n_fit))
        return replace(task, fit_images=fit.images, fit_labels=fit.labels)

    def _shape(
        self, indices: np.ndarray, name: str = "shape", style: SceneStyle | None = None
    ) -> ZeroShotTask:
        scenes = self._single(indices)
        labels = _labels(indices, len(SHAPES))
        scenes.shape[:, 0] = labels
        scenes.color[:, 0] = self._seen_partner(indices, labels, ~held_out_concepts())
        return self._task(name, SHAPES, CAPTION_TEMPLATES, scenes, labels, indices, style=style)

    def _color(self, indices: np.ndarray) -> ZeroShotTask:
        scenes = self._single(indices)
        labels = _labels(indices, len(COLORS))
        scenes.color[:, 0] = labels
        scenes.shape[:, 0] = self._seen_partner(indices, labels, ~held_out_concepts().T)
        return self._task("color", COLORS, THING_TEMPLATES, scenes, labels, indices)

    def _size(self, indices: np.ndarray) -> ZeroShotTask:
        scenes = self._single(indices)
        labels = _labels(indices, len(SIZES))
        scenes.size[:, 0] = labels
        return self._task("size", SIZES, THING_TEMPLATES, scenes, labels, indices)

    def _count(self, indices: np.ndarray) -> ZeroShotTask:
        """One object or two. Of two, a caption may leave one out, but seldom does."""
        labels = _labels(indices, 2)
        scenes = replace(self.grammar.sample_scenes(self.seed, indices), n_objects=1 + labels)
        names = ("object", "object and a object")
        return self._task("count", names, CAPTION_TEMPLATES, scenes, labels, indices)

    def _position(self, indices: np.ndarray) -> ZeroShotTask:
        labels = _labels(indices, len(POSITIONS))
        scenes = replace(self._single(indices), position=labels)
        names = tuple(
            "in the center" if name == "center" else f"at the {name}" for name in POSITIONS
        )
        return self._task("position", names, PLACE_TEMPLATES, scenes, labels, indices)

    def _background(self, indices: np.ndarray) -> ZeroShotTask:
        labels = _labels(indices, len(BACKGROUNDS))
        scenes = replace(self._single(indices), background=labels)
        names = tuple(f"on a {name} background" for name in BACKGROUNDS)
        return self._task("background", names, PLACE_TEMPLATES, scenes, labels, indices)

    def _relation(self, indices: np.ndarray) -> ZeroShotTask:
        """Which of four relations holds between two objects that the prompts name."""
        concepts = self._concept_pairs(indices)
        answer = _labels(indices, len(RELATIONS))
        scenes = self._pair(indices, concepts, answer)
        names, candidates = _index_texts(
            [
                [f"{_concept(a)} {relation} a {_concept(b)}" for relation in RELATIONS]
                for a, b in concepts
            ]
        )
        labels = candidates[np.arange(len(indices)), answer]
        return self._task(
            "relation", names, PAIR_TEMPLATES, scenes, labels, indices, candidates=candidates
        )

    def _binding(self, indices: np.ndarray) -> ZeroShotTask:
        """Which object has which color: the two prompts hold the same words."""
        concepts = self._concept_pairs(indices)
        relation = _choose_one(self.seed, indices, len(RELATIONS))
        scenes = self._pair(indices, concepts, relation)
        texts = []
        for (first, second), index in zip(concepts, relation, strict=True):
            swapped = ((first[0], second[1]), (second[0], first[1]))
            texts.append(
                [
                    f"{_concept(a)} {RELATIONS[index]} a {_concept(b)}"
                    for a, b in ((first, second), swapped)
                ]
            )
        names, candidates = _index_texts(texts)
        labels = candidates[:, 0]
        # A model that cannot tell the two apart takes the first, so the truth is first half the
        # time.
        truth_last = _labels(indices, 2) == 1
        candidates = np.where(truth_last[:, None], candidates[:, ::-1], candidates)
        return self._task(
            "binding", names, PAIR_TEMPLATES, scenes, labels, indices, candidates=candidates
        )

    def _concept(self, indices: np.ndarray) -> ZeroShotTask:
        """Shape and color together, all combinations that training shows, equally often."""
        shapes, colors = np.nonzero(~held_out_concepts())
        return self._concepts("concept", indices, shapes, colors)

    def _unseen(self, indices: np.ndarray) -> ZeroShotTask:
        """The same for the combinations that training never shows, among all combinations."""
        return self._concepts("unseen", indices, np.arange(len(SHAPES)), HELD_OUT_COLOR)

    def _concepts(
        self, name: str, indices: np.ndarray, shapes: np.ndarray, colors: np.ndarray
    ) -> ZeroShotTask:
        scenes = self._single(indices)
        which = _labels(indices, len(shapes))
        scenes.shape[:, 0] = shapes[which]
        scenes.color[:, 0] = colors[which]
        names = tuple(f"{color} {shape}" for shape in SHAPES for color in COLORS)
        labels = shapes[which] * len(COLORS) + colors[which]
        return self._task(name, names, CAPTION_TEMPLATES, scenes, labels, indices)

    def _palette(self, indices: np.ndarray) -> ZeroShotTask:
        return self._shape(indices, "palette", replace(self.style, palette=OTHER_PALETTE))

    def _noise(self, indices: np.ndarray) -> ZeroShotTask:
        return self._shape(indices, "noise", replace(self.style, noise=HEAVY_NOISE))

    def _outline(self, indices: np.ndarray) -> ZeroShotTask:
        return self._shape(indices, "outline", replace(self.style, outline=True))

    def _single(self, indices: np.ndarray) -> SceneBatch:
        """Scenes of the training distribution, but with one object each."""
        scenes = self.grammar.sample_scenes(self.seed, indices)
        return replace(scenes, n_objects=np.ones_like(scenes.n_objects))

    def _pair(
        self,
        indices: np.ndarray,
        concepts: list[tuple[tuple[int, int], tuple[int, int]]],
        relation: np.ndarray,
    ) -> SceneBatch:
        """Two objects with given concepts. Every second scene is drawn the other way round."""
        scenes = self.grammar.sample_scenes(self.seed, indices)
        table = np.array(concepts)  # (n, object, shape and color)
        # The renderer draws object 0 first; no answer may depend on that.
        swapped = (np.arange(len(indices)) // len(RELATIONS)) % 2 == 1
        table = np.where(swapped[:, None, None], table[:, ::-1], table)
        return replace(
            scenes,
            n_objects=np.full_like(scenes.n_objects, 2),
            shape=table[:, :, 0],
            color=table[:, :, 1],
            relation=np.where(swapped, INVERSE_RELATION[relation], relation),
        )

    def _concept_pairs(self, indices: np.ndarray) -> list[tuple[tuple[int, int], tuple[int, int]]]:
        """Two concepts per image with other shapes and colors, seen in either combination."""
        seen = ~held_out_concepts()
        pairs = [
            ((s, c), (t, d))
            for s, c in np.argwhere(seen).tolist()
            for t, d in np.argwhere(seen).tolist()
            if s != t and c != d and seen[s, d] and seen[t, c]
        ]
        # The same pair for each run of four images, one image per relation.
        which = _choose_one(self.seed, indices, len(pairs))
        return [pairs[which[i - i % len(RELATIONS)]] for i in range(len(indices))]

    def _seen_partner(
        self, indices: np.ndarray, labels: np.ndarray, allowed: np.ndarray
    ) -> np.ndarray:
        """For each label a uniform choice among the columns its row of `allowed` permits."""
        u = random_uniform(self.seed, _TASK_STREAM, indices, 1)[:, 0]
        wanted = (u * allowed[labels].sum(axis=1)).astype(np.int64) + 1
        return np.argmax(np.cumsum(allowed[labels], axis=1) == wanted[:, None], axis=1)

    def _task(
        self,
        name: str,
        class_names: tuple[str, ...],
        templates: tuple[str, ...],
        scenes: SceneBatch,
        labels: np.ndarray,
        indices: np.ndarray,
        candidates: np.ndarray | None = None,
        style: SceneStyle | None = None,
    ) -> ZeroShotTask:
        images = self.renderer.render(scenes, self.seed, indices, style or self.style)
        return ZeroShotTask(name, class_names, templates, images, labels, candidates)


def _labels(indices: np.ndarray, n_class: int) -> np.ndarray:
    """Every class equally often, whatever the item numbers."""
    return np.arange(len(indices)) % n_class


def _choose_one(seed: int, indices: np.ndarray, n: int) -> np.ndarray:
    """A uniform choice out of 0..n-1 for each index (B,)."""
    bits = random_bits(seed, _TASK_STREAM, indices, 2)[:, 1]
    return (bits % np.uint64(n)).astype(np.int64)


def _concept(concept: tuple[int, int]) -> str:
    shape, color = concept
    return f"{COLORS[color]} {SHAPES[shape]}"


def _index_texts(texts: list[list[str]]) -> tuple[tuple[str, ...], np.ndarray]:
    """Distinct texts in order of appearance, and the table (n, n_way) with their numbers."""
    names = tuple(dict.fromkeys(text for row in texts for text in row))
    number = {text: i for i, text in enumerate(names)}
    return names, np.array([[number[text] for text in row] for row in texts])
