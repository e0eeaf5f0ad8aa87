"""The scene language: stated probabilities, held-out combinations, purity."""

import numpy as np
import pytest

from fmscale.data.scenes.grammar import (
    BACKGROUNDS,
    COLORS,
    INVERSE_RELATION,
    POSITIONS,
    RELATIONS,
    SHAPES,
    SIZES,
    SceneGrammar,
    held_out_concepts,
)

N = 100_000
INDICES = np.arange(N)


def chi2(counts: np.ndarray, probabilities: np.ndarray) -> float:
    """Pearson's statistic as a standard normal number, near enough for many cells."""
    expected = probabilities * counts.sum()
    cells = expected > 0
    statistic = ((counts - expected)[cells] ** 2 / expected[cells]).sum()
    freedom = cells.sum() - 1
    return float((statistic - freedom) / np.sqrt(2 * freedom))


def test_concept_probabilities_follow_the_zipf_law_over_72_seen_combinations():
    for exponent in (0.0, 0.8, 1.5):
        table = SceneGrammar(zipf_exponent=exponent).concept_probabilities
        falling = np.sort(table[table > 0])[::-1]
        assert len(falling) == 72
        assert falling.sum() == pytest.approx(1)
        ranks = np.arange(1, 73)
        np.testing.assert_allclose(falling / falling[0], ranks**-exponent, rtol=1e-12)


@pytest.mark.parametrize("exponent", [0.0, 0.8, 1.2])
def test_concept_frequencies_follow_the_stated_law(exponent: float):
    grammar = SceneGrammar(zipf_exponent=exponent)
    scenes = grammar.sample_scenes(5, INDICES)
    for k in (0, 1):
        concept = scenes.shape[:, k] * len(COLORS) + scenes.color[:, k]
        counts = np.bincount(concept, minlength=len(SHAPES) * len(COLORS))
        assert abs(chi2(counts, grammar.concept_probabilities.ravel())) < 4.5


def test_the_frequency_of_a_rank_falls_with_the_stated_slope():
    scenes = SceneGrammar(zipf_exponent=0.8).sample_scenes(1, INDICES)
    concept = (scenes.shape * len(COLORS) + scenes.color).ravel()
    counts = np.sort(np.bincount(concept))[::-1][:72]
    slope = np.polyfit(np.log(np.arange(1, 73)), np.log(counts), 1)[0]
    assert slope == pytest.approx(-0.8, abs=0.03)


def test_held_out_combinations_never_occur_in_a_training_scene():
    held_out = held_out_concepts()
    assert held_out.sum() == len(SHAPES)
    assert (held_out.sum(axis=1) == 1).all(), "one color of each shape"
    assert held_out.sum(axis=0).max() == 1, "each of another color"
    for seed in (0, 1):
        scenes = SceneGrammar().sample_scenes(seed, INDICES)
        assert not held_out[scenes.shape, scenes.color].any()


def test_every_other_combination_occurs():
    scenes = SceneGrammar().sample_scenes(0, INDICES)
    seen = np.zeros_like(held_out_concepts())
    seen[scenes.shape, scenes.color] = True
    np.testing.assert_array_equal(seen, ~held_out_concepts())


def test_all_other_attributes_are_uniform_and_two_objects_come_as_often_as_stated():
    scenes = SceneGrammar(p_second_object=0.3).sample_scenes(2, INDICES)
    for values, names in (
        (scenes.size[:, 0], SIZES),
        (scenes.size[:, 1], SIZES),
        (scenes.position, POSITIONS),
        (scenes.relation, RELATIONS),
        (scenes.background, BACKGROUNDS),
    ):
        counts = np.bincount(values, minlength=len(names))
        assert len(counts) == len(names)
        assert chi2(counts, np.full(len(names), 1 / len(names))) < 6
    assert (scenes.n_objects == 2).mean() == pytest.approx(0.3, abs=0.007)  # 4.8 sigma


def test_attributes_are_drawn_independently_of_each_other():
    scenes = SceneGrammar(zipf_exponent=0).sample_scenes(3, INDICES)
    columns = [scenes.n_objects, scenes.position, scenes.relation, scenes.background]
    columns += [*scenes.size.T, *scenes.shape.T]
    correlation = np.corrcoef(columns) - np.eye(len(columns))
    assert np.abs(correlation).max() < 4.5 / np.sqrt(N)


def test_attributes_are_mentioned_as_often_as_stated_and_only_where_there_are_any():
    grammar = SceneGrammar(p_second_object=0.5)
    scenes = grammar.sample_scenes(0, INDICES)
    mentions = grammar.sample_mentions(0, INDICES, scenes)
    two = scenes.n_objects == 2
    for said, possible, probability in (
        (mentions.second, two, grammar.p_mention_second),
        (mentions.shape[:, 0], ~two | two, grammar.p_mention_shape),
        (mentions.color[:, 1], mentions.second, grammar.p_mention_color),
        (mentions.size[:, 1], mentions.second, grammar.p_mention_size),
        (mentions.position, ~two, grammar.p_mention_position),
        (mentions.relation, mentions.second, grammar.p_mention_relation),
        (mentions.background, ~two | two, grammar.p_mention_background),
    ):
        assert not said[~possible].any()
        assert said[possible].mean() == pytest.approx(probability, abs=0.01)


def test_a_scene_is_a_pure_function_of_seed_and_index():
    grammar, indices = SceneGrammar(), np.array([9, 1 << 40, 0, 9])
    scenes = grammar.sample_scenes(4, indices)
    for row, index in enumerate(indices):
        alone = SceneGrammar().sample_scenes(4, np.array([index]))
        for name in ("n_objects", "shape", "color", "size", "position", "relation", "background"):
            np.testing.assert_array_equal(getattr(alone, name)[0], getattr(scenes, name)[row])
    other = grammar.sample_scenes(5, INDICES[:100])
    assert (other.shape != grammar.sample_scenes(4, INDICES[:100]).shape).any()


def test_inverting_a_relation_twice_gives_it_back():
    np.testing.assert_array_equal(INVERSE_RELATION[INVERSE_RELATION], np.arange(4))
    named = {RELATIONS[i]: RELATIONS[j] for i, j in enumerate(INVERSE_RELATION)}
    assert named["left of"] == "right of"
    assert named["above"] == "below"


def test_a_probability_out_of_range_is_an_error_that_names_it():
    with pytest.raises(ValueError, match="grammar.p_mention_size = 1.5: give a probability"):
        SceneGrammar(p_mention_size=1.5)
    with pytest.raises(ValueError, match="grammar.zipf_exponent = -1: give 0"):
        SceneGrammar(zipf_exponent=-1)
