"""The lowest contrastive loss that any model can reach on scenes with captions.

Captions leave attributes out, and different scenes share attributes, so that a caption is often
true of several images of its batch and no model can know which one it was written for. The best
possible score of a pair is its pointwise mutual information log p(caption | scene) / p(caption),
which the grammar gives exactly. The loss of that critic on a batch is the floor: in expectation
no model is below it, since a model sees the image and not the scene's attributes themselves.
Words do not matter, as synonyms are chosen whatever the scene; only what is mentioned does.
"""

from __future__ import annotations

import math

import numpy as np

from fmscale.data.scenes.grammar import (
    BACKGROUNDS,
    INVERSE_RELATION,
    POSITIONS,
    RELATIONS,
    SIZES,
    Mentions,
    SceneBatch,
    SceneGrammar,
)


def pair_information(
    grammar: SceneGrammar, scenes: SceneBatch, caption_scenes: SceneBatch, mentions: Mentions
) -> np.ndarray:
    """log p(caption j | scene i) / p(caption j) in nats, (n scenes, n captions); -inf if untrue.

    Args:
        scenes: the n scenes of the images.
        caption_scenes: the scenes that the captions were written for.
        mentions: what those captions mention.
    """
    choice_one, choice_two = _choice_log_probability(grammar, mentions)  # (n captions,) each
    single = _true_of_single(scenes, caption_scenes, mentions)
    # Either object may have been named first, with probability one half.
    as_stored = _true_of_pair(scenes, caption_scenes, mentions, swapped=False)
    as_swapped = _true_of_pair(scenes, caption_scenes, mentions, swapped=True)
    pair = 0.5 * (as_stored.astype(np.float64) + as_swapped)
    with np.errstate(divide="ignore"):
        given_scene = np.logaddexp(np.log(single) + choice_one, np.log(pair) + choice_two)
    return given_scene - _log_marginal(grammar, caption_scenes, mentions, choice_one, choice_two)


def batch_floor(information: np.ndarray) -> np.ndarray:
    """Loss of each pair (B,) in nats when scores are the pointwise mutual information (B, B).

    Symmetric as the training loss: the mean over both directions of the cross-entropy of the
    true partner. Pair i is scene i with caption i.
    """
    own = np.diagonal(information)
    caption_of_image = np.logaddexp.reduce(information, axis=1) - own
    image_of_caption = np.logaddexp.reduce(information, axis=0) - own
    return (caption_of_image + image_of_caption) / 2


def collision_floor(
    grammar: SceneGrammar, seed: int, indices: np.ndarray, batch_size: int
) -> tuple[float, float]:
    """Floor of the loss on the pairs of given indices, and its standard error, in nats per pair.

    Args:
        indices: item numbers (n,), in the order they are batched; a short last batch is dropped.
        batch_size: pairs of one batch; the floor rises with it.
    """
    losses = []
    for first in range(0, len(indices) - batch_size + 1, batch_size):
        batch = indices[first : first + batch_size]
        scenes = grammar.sample_scenes(seed, batch)
        mentions = grammar.sample_mentions(seed, batch, scenes)
        losses.append(batch_floor(pair_information(grammar, scenes, scenes, mentions)))
    if not losses:
        raise ValueError(
            f"{len(indices)} pairs do not fill one batch of batch_size = {batch_size}. "
            "Give more pairs or a smaller batch."
        )
    pooled = np.concatenate(losses)
    return float(pooled.mean()), float(pooled.std() / math.sqrt(len(pooled)))


def _true_of_object(
    scenes: SceneBatch, caption: SceneBatch, mentions: Mentions, k: int, scene_k: int
) -> np.ndarray:
    """Whether what caption j says of its object k holds for object scene_k of scene i, (n, m)."""
    true = np.ones((len(scenes), len(caption)), dtype=bool)
    for name in ("shape", "color", "size"):
        scene_value = getattr(scenes, name)[:, scene_k, None]
        true &= ~getattr(mentions, name)[:, k] | (scene_value == getattr(caption, name)[:, k])
    return true


def _true_of_single(scenes: SceneBatch, caption: SceneBatch, mentions: Mentions) -> np.ndarray:
    """Whether caption j could have been written for scene i, if that has one object."""
    return (
        (scenes.n_objects == 1)[:, None]
        & ~mentions.second
        & _true_of_object(scenes, caption, mentions, 0, 0)
        & (~mentions.position | (scenes.position[:, None] == caption.position))
        & (~mentions.background | (scenes.background[:, None] == caption.background))
    )


def _true_of_pair(
    scenes: SceneBatch, caption: SceneBatch, mentions: Mentions, swapped: bool
) -> np.ndarray:
    """The same if scene i has two objects and the caption names them in this or swapped order."""
    first, second = (1, 0) if swapped else (0, 1)
    relation = INVERSE_RELATION[scenes.relation] if swapped else scenes.relation
    about_second = _true_of_object(scenes, caption, mentions, 1, second) & (
        ~mentions.relation | (relation[:, None] == caption.relation)
    )
    return (
        (scenes.n_objects == 2)[:, None]
        & ~mentions.position
        & _true_of_object(scenes, caption, mentions, 0, first)
        & (~mentions.second | about_second)
        & (~mentions.background | (scenes.background[:, None] == caption.background))
    )


def _choice_log_probability(
    grammar: SceneGrammar, mentions: Mentions
) -> tuple[np.ndarray, np.ndarray]:
    """Log probability of mentioning just these attributes, for one and for two objects."""

    def of_object(k: int) -> np.ndarray:
        return (
            _log_choice(mentions.shape[:, k], grammar.p_mention_shape)
            + _log_choice(mentions.color[:, k], grammar.p_mention_color)
            + _log_choice(mentions.size[:, k], grammar.p_mention_size)
        )

    common = of_object(0) + _log_choice(mentions.background, grammar.p_mention_background)
    one = common + _log_choice(mentions.position, grammar.p_mention_position)
    one = np.where(mentions.second, -np.inf, one)
    about_second = of_object(1) + _log_choice(mentions.relation, grammar.p_mention_relation)
    two = common + _log_choice(mentions.second, grammar.p_mention_second)
    two = two + np.where(mentions.second, about_second, 0.0)
    return one, np.where(mentions.position, -np.inf, two)


def _log_marginal(
    grammar: SceneGrammar,
    caption: SceneBatch,
    mentions: Mentions,
    choice_one: np.ndarray,
    choice_two: np.ndarray,
) -> np.ndarray:
    """log p(caption): the same, summed over all scenes the caption may have been written for."""

    def of_object(k: int) -> np.ndarray:
        table = grammar.concept_probabilities
        shape, color = caption.shape[:, k], caption.color[:, k]
        probability = np.where(
            mentions.shape[:, k],
            np.where(mentions.color[:, k], table[shape, color], table.sum(axis=1)[shape]),
            np.where(mentions.color[:, k], table.sum(axis=0)[color], 1.0),
        )
        return np.log(probability) - math.log(len(SIZES)) * mentions.size[:, k]

    common = of_object(0) - math.log(len(BACKGROUNDS)) * mentions.background
    one = common + choice_one - math.log(len(POSITIONS)) * mentions.position
    about_second = of_object(1) - math.log(len(RELATIONS)) * mentions.relation
    two = common + choice_two + np.where(mentions.second, about_second, 0.0)
    with np.errstate(divide="ignore"):
        p_two = np.log(grammar.p_second_object)
        p_one = np.log1p(-grammar.p_second_object)
    return np.logaddexp(one + p_one, two + p_two)


def _log_choice(chosen: np.ndarray, probability: float) -> np.ndarray:
    with np.errstate(divide="ignore"):
        log_yes, log_no = np.log(probability), np.log1p(-probability)
    return np.asarray(np.where(chosen, log_yes, log_no))
