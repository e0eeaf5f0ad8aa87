"""What a rendered scene can contain, and with which probability.

A scene has a plain background and one or two objects; each object has a shape, a color and a
size. A single object has one of nine positions, two objects have a relation instead. Concepts
(shape-color combinations) follow a Zipf law, and a few of them never occur in training, so that
zero-shot tasks can ask for combinations that were never seen.

Which attributes a caption mentions is drawn here as well, because the probability of a caption
given a scene is what the loss floor is computed from (`loss_floor`).
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import cached_property

import numpy as np

from fmscale.data.counter_random import random_order, random_uniform

SHAPES = ("circle", "square", "triangle", "diamond", "cross", "ring", "star", "moon")
COLORS = ("red", "orange", "yellow", "green", "cyan", "blue", "purple", "pink", "brown", "lime")
SIZES = ("small", "medium", "large")
POSITIONS = (
    "top left", "top", "top right",
    "left", "center", "right",
    "bottom left", "bottom", "bottom right",
)  # fmt: skip
RELATIONS = ("left of", "right of", "above", "below")
INVERSE_RELATION = np.array([1, 0, 3, 2])
BACKGROUNDS = ("black", "gray", "navy", "maroon", "forest")

# One color per shape, every one another color: these eight concepts are never trained on.
HELD_OUT_COLOR = (3 * np.arange(len(SHAPES)) + 2) % len(COLORS)

_CONCEPT_ORDER_STREAM = 0xC0
_SCENE_STREAM = 0x5C
_MENTION_STREAM = 0x3E


@dataclass(frozen=True)
class SceneBatch:
    """The attributes of B scenes, as index arrays into the tuples above.

    Columns 0 and 1 are the two objects; column 1 and `relation` mean nothing where there is one
    object, `position` means nothing where there are two. Either object may come first: the scene
    with both objects swapped and the relation inverted looks the same and is as likely.
    """

    n_objects: np.ndarray  # (B,) 1 or 2
    shape: np.ndarray  # (B, 2)
    color: np.ndarray  # (B, 2)
    size: np.ndarray  # (B, 2)
    position: np.ndarray  # (B,)
    relation: np.ndarray  # (B,) how object 0 stands to object 1
    background: np.ndarray  # (B,)

    def __len__(self) -> int:
        return len(self.n_objects)


@dataclass(frozen=True)
class Mentions:
    """Which attributes the captions of B scenes mention; never one that the scene has not."""

    second: np.ndarray  # (B,) bool: the second object is mentioned at all
    shape: np.ndarray  # (B, 2) bool; otherwise "thing", "object" or "shape"
    color: np.ndarray  # (B, 2) bool
    size: np.ndarray  # (B, 2) bool
    position: np.ndarray  # (B,) bool
    relation: np.ndarray  # (B,) bool; otherwise "and" or "with"
    background: np.ndarray  # (B,) bool


@dataclass(frozen=True)
class SceneGrammar:
    """Probabilities of the scene language. Sizes, positions, relations, backgrounds are uniform."""

    zipf_exponent: float = 0.8  # p(concept) ~ rank^-zipf_exponent; 0 is uniform
    p_second_object: float = 0.3
    p_mention_shape: float = 0.9
    p_mention_color: float = 0.9
    p_mention_size: float = 0.7
    p_mention_position: float = 0.8
    p_mention_relation: float = 0.8
    p_mention_background: float = 0.5
    p_mention_second: float = 0.9

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name == "zipf_exponent":
                if value < 0:
                    raise ValueError(
                        f"grammar.zipf_exponent = {value}: give 0 (uniform) or more, "
                        "so that earlier ranks are the more frequent ones."
                    )
            elif not 0 <= value <= 1:
                raise ValueError(f"grammar.{field.name} = {value}: give a probability, 0 to 1.")

    @cached_property
    def concept_probabilities(self) -> np.ndarray:
        """Probability of each concept, (n_shape, n_color); 0 for the held-out combinations."""
        shapes, colors = np.nonzero(~held_out_concepts())
        rank = 1 + random_order(0, _CONCEPT_ORDER_STREAM, len(shapes))
        weights = rank.astype(np.float64) ** -self.zipf_exponent
        table = np.zeros((len(SHAPES), len(COLORS)))
        table[shapes, colors] = weights / weights.sum()
        return table

    def sample_scenes(self, seed: int, indices: np.ndarray) -> SceneBatch:
        """Scenes of the given item numbers (B,); a pure function of (seed, index)."""
        u = random_uniform(seed, _SCENE_STREAM, indices, 8)
        cumulative = np.cumsum(self.concept_probabilities)
        # Rounding may leave the last sum a hair under 1; scaling keeps every draw in range.
        concept = np.searchsorted(cumulative / cumulative[-1], u[:, 0:2], side="right")
        return SceneBatch(
            n_objects=1 + (u[:, 2] < self.p_second_object),
            shape=concept // len(COLORS),
            color=concept % len(COLORS),
            size=_pick(u[:, 3:5], len(SIZES)),
            position=_pick(u[:, 5], len(POSITIONS)),
            relation=_pick(u[:, 6], len(RELATIONS)),
            background=_pick(u[:, 7], len(BACKGROUNDS)),
        )

    def sample_mentions(self, seed: int, indices: np.ndarray, scenes: SceneBatch) -> Mentions:
        """What the captions of these scenes mention; a pure function of (seed, index)."""
        u = random_uniform(seed, _MENTION_STREAM, indices, 10)
        second = (scenes.n_objects == 2) & (u[:, 0] < self.p_mention_second)
        present = np.stack([np.ones_like(second), second], axis=1)
        return Mentions(
            second=second,
            shape=present & (u[:, 1:3] < self.p_mention_shape),
            color=present & (u[:, 3:5] < self.p_mention_color),
            size=present & (u[:, 5:7] < self.p_mention_size),
            position=(scenes.n_objects == 1) & (u[:, 7] < self.p_mention_position),
            relation=second & (u[:, 8] < self.p_mention_relation),
            background=u[:, 9] < self.p_mention_background,
        )


def held_out_concepts() -> np.ndarray:
    """Mask (n_shape, n_color): True where the combination never occurs in training."""
    mask = np.zeros((len(SHAPES), len(COLORS)), dtype=bool)
    mask[np.arange(len(SHAPES)), HELD_OUT_COLOR] = True
    return mask


def _pick(u: np.ndarray, n: int) -> np.ndarray:
    return (u * n).astype(np.int64)
