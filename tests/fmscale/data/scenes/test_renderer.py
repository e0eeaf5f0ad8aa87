"""Pictures of scenes: the right place, color and size; nothing cut off; purity."""

from __future__ import annotations

import numpy as np
import pytest

from fmscale.data.scenes.grammar import INVERSE_RELATION, SHAPES, SceneBatch, SceneGrammar
from fmscale.data.scenes.renderer import BACKGROUND_RGB, COLOR_RGB, SceneRenderer, SceneStyle

PLAIN = SceneStyle(color_jitter=0, position_jitter=0, noise=0)
RED, GREEN, BLACK = 0, 3, 0


def scenes(n: int, **attributes) -> SceneBatch:
    """n scenes of one small red circle in the middle of black, with some attributes changed."""
    values = {"n_objects": 1, "position": 4, "relation": 0, "background": BLACK}
    pairs = {"shape": 0, "color": (RED, GREEN), "size": 0}
    one = {k: np.broadcast_to(attributes.get(k, v), n) for k, v in values.items()}
    two = {k: np.broadcast_to(attributes.get(k, v), (n, 2)) for k, v in pairs.items()}
    return SceneBatch(**one, **two)


def foreground(images: np.ndarray) -> np.ndarray:
    """Pixels that differ from black, (B, S, S)."""
    return (images != BACKGROUND_RGB[BLACK][:, None, None]).any(axis=1)


def center(mask: np.ndarray) -> tuple[float, float]:
    """Mean x and y of a mask (S, S), pixels from the top left corner."""
    y, x = np.nonzero(mask)
    return float(x.mean()) + 0.5, float(y.mean()) + 0.5


def test_an_object_stands_at_its_position():
    images = SceneRenderer(24).render(scenes(9, position=np.arange(9)), 0, np.arange(9), PLAIN)
    expected = [(x, y) for y in (6, 12, 18) for x in (6, 12, 18)]
    centers = [center(mask) for mask in foreground(images)]
    np.testing.assert_allclose(centers, expected, atol=0.3)


def test_a_circle_and_its_background_have_their_own_colors():
    for color in range(len(COLOR_RGB)):
        for background in range(len(BACKGROUND_RGB)):
            batch = scenes(1, color=color, background=background, size=2)
            (image,) = SceneRenderer(24).render(batch, 0, np.arange(1), PLAIN)
            # Blending in 16 bits may lose one level.
            np.testing.assert_allclose(image[:, 12, 12].astype(int), COLOR_RGB[color], atol=1)
            np.testing.assert_array_equal(image[:, 0, 0], BACKGROUND_RGB[background])


def test_larger_objects_cover_more_pixels_at_any_jitter():
    renderer, n = SceneRenderer(24), 200
    for shape in range(len(SHAPES)):
        areas = []
        for size in range(3):
            batch = scenes(n, shape=shape, size=size)
            images = renderer.render(batch, 0, np.arange(n), PLAIN)
            covered = np.abs(images[:, 0].astype(int) - 12).sum(axis=(1, 2))
            areas.append((covered.min(), covered.max()))
        assert areas[0][1] < areas[1][0]
        assert areas[1][1] < areas[2][0]


def test_all_shapes_look_different():
    renderer = SceneRenderer(16)
    batch = scenes(len(SHAPES), shape=np.arange(len(SHAPES))[:, None], size=0)
    images = renderer.render(batch, 0, np.zeros(len(SHAPES), dtype=int), PLAIN).astype(int)
    for i in range(len(SHAPES)):
        for j in range(i):
            assert np.abs(images[i] - images[j]).sum() > 500


def test_the_object_named_first_stands_in_the_stated_relation_and_never_touches_the_other():
    style = SceneStyle(color_jitter=0, position_jitter=1, noise=0)
    n = 400
    for size in (16, 24, 32):
        renderer = SceneRenderer(size)
        for shape in range(len(SHAPES)):
            relation = np.arange(n) % 4
            batch = scenes(n, n_objects=2, shape=shape, size=2, relation=relation)
            images = renderer.render(batch, 0, np.arange(n), style).astype(int)
            # Above the anti-aliased edge of the other one: red has R > G, green has G > R.
            red = images[:, 0] > images[:, 1]
            green = images[:, 1] > images[:, 0]
            for axis, lower, higher in ((1, 0, 1), (2, 2, 3)):
                along_red, along_green = (mask.any(axis=axis) for mask in (red, green))
                for rel, first, second in (
                    (lower, along_red, along_green),
                    (higher, along_green, along_red),
                ):
                    rows = relation == rel
                    last = size - 1 - first[rows][:, ::-1].argmax(axis=1)
                    assert (last < second[rows].argmax(axis=1)).all()


def test_swapping_both_objects_and_the_relation_gives_the_same_picture(
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr("fmscale.data.scenes.renderer.RADIUS_JITTER", (1.0,))
    renderer, indices = SceneRenderer(16), np.arange(300)
    drawn = SceneGrammar(p_second_object=1).sample_scenes(0, indices)
    swapped = SceneBatch(
        n_objects=drawn.n_objects,
        shape=drawn.shape[:, ::-1],
        color=drawn.color[:, ::-1],
        size=drawn.size[:, ::-1],
        position=drawn.position,
        relation=INVERSE_RELATION[drawn.relation],
        background=drawn.background,
    )
    np.testing.assert_array_equal(
        renderer.render(drawn, 0, indices, PLAIN), renderer.render(swapped, 0, indices, PLAIN)
    )


def test_an_unused_second_object_leaves_no_trace():
    a, b = scenes(50, shape=(0, 1)), scenes(50, shape=(0, 6), color=(RED, 9), relation=3)
    renderer, indices = SceneRenderer(16), np.arange(50)
    np.testing.assert_array_equal(renderer.render(a, 0, indices), renderer.render(b, 0, indices))


def test_at_most_a_rim_of_the_largest_objects_is_cut_off_at_the_edge():
    n = 300
    style = SceneStyle(color_jitter=0, position_jitter=1, noise=0)
    for size in (24, 32):
        renderer = SceneRenderer(size)
        for shape in range(len(SHAPES)):
            batch = scenes(n, shape=shape, size=2, position=np.arange(n) % 9)
            images = renderer.render(batch, 0, np.arange(n), style).astype(int)
            covered = (images[:, 0] - BACKGROUND_RGB[BLACK][0]).sum(axis=(1, 2))
            # In the middle nothing is cut off; the least there has the smallest radius jitter.
            assert covered.min() >= 0.9 * covered[np.arange(n) % 9 == 4].min()


def test_noise_has_no_bias_and_the_stated_deviation():
    gray = scenes(40, background=1)
    noisy, plain = (
        SceneRenderer(16).render(
            gray, 0, np.arange(40), SceneStyle(color_jitter=0, position_jitter=0, noise=noise)
        )
        for noise in (6.0, 0.0)
    )
    flat = (plain == 75).all(axis=1, keepdims=True) & np.ones((1, 3, 1, 1), dtype=bool)
    difference = noisy[flat].astype(float) - 75
    assert difference.std() == pytest.approx(6, rel=0.03)
    assert abs(difference.mean()) < 4.5 * 6 / np.sqrt(difference.size)


def test_an_image_is_a_pure_function_of_scene_seed_and_index():
    renderer, indices = SceneRenderer(16), np.array([5, 1 << 41, 3])
    grammar = SceneGrammar()
    images = renderer.render(grammar.sample_scenes(0, indices), 0, indices)
    assert images.shape == (3, 3, 16, 16)
    assert images.dtype == np.uint8
    for row, index in enumerate(indices):
        one = np.array([index])
        alone = SceneRenderer(16).render(grammar.sample_scenes(0, one), 0, one)
        np.testing.assert_array_equal(alone[0], images[row])


def test_an_outline_shows_less_of_the_shape_but_keeps_its_extent():
    batch = scenes(1, size=2)
    filled = SceneRenderer(24).render(batch, 0, np.arange(1), PLAIN)
    style = SceneStyle(color_jitter=0, position_jitter=0, noise=0, outline=True)
    hollow = SceneRenderer(24).render(batch, 0, np.arange(1), style)
    np.testing.assert_array_equal(foreground(filled), foreground(hollow))
    assert hollow[0, 0, 12, 12] < filled[0, 0, 12, 12]


@pytest.mark.parametrize("size", [12, 18])
def test_an_image_size_that_is_too_small_or_no_multiple_of_four_is_an_error(size: int):
    with pytest.raises(ValueError, match=f"data.image_size = {size}: give a multiple of 4"):
        SceneRenderer(size)
