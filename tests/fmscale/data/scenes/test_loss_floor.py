"""The loss floor against closed forms, counting, and the claim that nothing beats it."""

import math
from dataclasses import replace

import numpy as np
import pytest

from fmscale.data.scenes.grammar import (
    BACKGROUNDS,
    POSITIONS,
    SHAPES,
    SIZES,
    Mentions,
    SceneBatch,
    SceneGrammar,
)
from fmscale.data.scenes.loss_floor import batch_floor, collision_floor, pair_information

FULL = SceneGrammar(
    zipf_exponent=0.0,
    p_second_object=0.0,
    **{
        f"p_mention_{name}": 1.0
        for name in ("shape", "color", "size", "position", "relation", "background", "second")
    },
)


def rows(batch, pick):  # type: ignore[no-untyped-def]
    return type(batch)(**{name: value[pick] for name, value in vars(batch).items()})


def draw(grammar: SceneGrammar, indices: np.ndarray) -> tuple[SceneBatch, Mentions]:
    scenes = grammar.sample_scenes(0, indices)
    return scenes, grammar.sample_mentions(0, indices, scenes)


@pytest.mark.parametrize("batch_size", [32, 256])
def test_floor_of_equally_likely_captions_has_a_closed_form(batch_size: int) -> None:
    # Only shape and color are told: 72 captions, all equally likely; E log(1 + Bin(B - 1, 1/72)).
    grammar = replace(FULL, p_mention_size=0.0, p_mention_position=0.0, p_mention_background=0.0)
    p = 1 / 72
    expected = sum(
        math.comb(batch_size - 1, k) * p**k * (1 - p) ** (batch_size - 1 - k) * math.log(1 + k)
        for k in range(batch_size)
    )
    floor, error = collision_floor(grammar, 0, np.arange(128 * 256), batch_size)
    assert abs(floor - expected) < 5 * error
    assert error < 0.01


def test_full_captions_hardly_collide() -> None:
    n_captions = 72 * len(SIZES) * len(POSITIONS) * len(BACKGROUNDS)
    floor, error = collision_floor(FULL, 0, np.arange(64 * 256), 256)
    assert abs(floor - 255 / n_captions * math.log(2)) < 5 * error + 0.001


def test_caption_probabilities_are_their_frequencies() -> None:
    # Averaged over scenes, p(caption | scene) / p(caption) must be 1 for every caption.
    grammar = SceneGrammar(p_second_object=0.5)
    scenes, _ = draw(grammar, np.arange(20_000))
    caption_scenes, mentions = draw(grammar, 10**6 + np.arange(400))
    ratio = np.exp(pair_information(grammar, scenes, caption_scenes, mentions))
    # Captions of many words are too rare to count; those with a few are counted well.
    mean, error = ratio.mean(axis=0), ratio.std(axis=0) / math.sqrt(len(scenes))
    common = (ratio > 0).sum(axis=0) > 100
    assert common.sum() > 40
    assert (np.abs(mean - 1)[common] < 5 * error[common]).all()
    # And the mean over all captions is sharp: no systematic factor.
    assert abs(np.average(mean[common], weights=error[common] ** -2) - 1) < 0.02


def test_untrue_captions_have_no_chance_and_own_captions_have() -> None:
    grammar = SceneGrammar(p_second_object=0.5)
    scenes, mentions = draw(grammar, np.arange(600))
    information = pair_information(grammar, scenes, scenes, mentions)
    assert np.isfinite(np.diagonal(information)).all()
    shape_told = mentions.shape[:, 0] & ~mentions.second
    has_shape = (scenes.shape[:, None, :] == scenes.shape[None, :, :1]) & (
        np.arange(2) < scenes.n_objects[:, None, None]
    )
    impossible = ~has_shape.any(axis=2) & shape_told
    assert impossible.sum() > 1000
    assert (information[impossible] == -np.inf).all()


def test_swapping_both_objects_changes_nothing() -> None:
    grammar = SceneGrammar(p_second_object=1.0)
    scenes, mentions = draw(grammar, np.arange(300))
    swapped = replace(
        scenes,
        shape=scenes.shape[:, ::-1],
        color=scenes.color[:, ::-1],
        size=scenes.size[:, ::-1],
        relation=np.array([1, 0, 3, 2])[scenes.relation],
    )
    np.testing.assert_allclose(
        pair_information(grammar, scenes, scenes, mentions),
        pair_information(grammar, swapped, scenes, mentions),
    )


@pytest.mark.parametrize("distortion", ["temper", "blind to size", "count once"])
def test_no_other_critic_is_below_the_floor(distortion: str) -> None:
    grammar = SceneGrammar(p_second_object=0.5)
    gaps = []
    for first in range(0, 8192, 256):
        scenes, mentions = draw(grammar, first + np.arange(256))
        best = pair_information(grammar, scenes, scenes, mentions)
        if distortion == "temper":
            other = 0.5 * best
        elif distortion == "blind to size":
            blind = replace(mentions, size=np.zeros_like(mentions.size))
            other = pair_information(grammar, scenes, scenes, blind)
        else:
            other = np.where(np.isfinite(best), 0.0, -np.inf)  # merely true or untrue
        gaps.append(float((batch_floor(other) - batch_floor(best)).mean()))
    assert np.mean(gaps) > 5 * np.std(gaps) / math.sqrt(len(gaps))


def test_floor_rises_with_the_batch() -> None:
    grammar = SceneGrammar()
    floors = [collision_floor(grammar, 0, np.arange(4096), b)[0] for b in (2, 16, 64, 256)]
    assert floors == sorted(floors)
    assert floors[0] > 0


def test_uninformative_captions_leave_the_loss_at_log_batch() -> None:
    silent = SceneGrammar(
        p_second_object=0.0,
        **{
            f"p_mention_{name}": 0.0
            for name in ("shape", "color", "size", "position", "relation", "background", "second")
        },
    )
    floor, _ = collision_floor(silent, 0, np.arange(512), 64)
    assert abs(floor - math.log(64)) < 1e-12


def test_too_few_pairs_are_an_error() -> None:
    with pytest.raises(ValueError, match="batch_size = 64"):
        collision_floor(SceneGrammar(), 0, np.arange(63), 64)


def test_number_of_shapes_is_what_the_closed_form_assumes() -> None:
    assert (FULL.concept_probabilities > 0).sum() == 72
    assert len(SHAPES) == 8
