"""Signs, letters and digits: what is drawn is what the label says; fitting sees other images."""

import numpy as np
import pytest
from PIL import Image

from fmscale.data.scenes.glyph_tasks import (
    LETTER_FONTS,
    SIGN_FONTS,
    SIGNS,
    _glyph,
    digits,
    glyph_tasks,
)
from fmscale.data.scenes.grammar import SHAPES

GLYPH, LETTER, DIGIT = glyph_tasks(32, 0, 208)


def test_names_sizes_and_which_can_be_asked_in_words():
    assert [t.name for t in (GLYPH, LETTER, DIGIT)] == ["glyph", "letter", "digit"]
    assert [t.named for t in (GLYPH, LETTER, DIGIT)] == [True, False, False]
    assert GLYPH.class_names == SHAPES
    for task in (GLYPH, LETTER, DIGIT):
        assert task.images[:].shape == (208, 3, 32, 32)
        assert task.images[:].dtype == np.uint8


@pytest.mark.parametrize(("signs", "fonts"), [(tuple(SIGNS.values()), SIGN_FONTS),
                                              (tuple("ABCXYZ"), LETTER_FONTS)])  # fmt: skip
def test_every_font_draws_every_sign_and_draws_them_apart(signs, fonts):
    for font in fonts:
        pictures = {np.asarray(_glyph(sign, font).resize((32, 32))).tobytes() for sign in signs}
        # A font without a sign draws the same empty box for all that it lacks.
        assert len(pictures) == len(signs), font


def test_a_sign_in_the_picture_is_the_one_of_its_label():
    """Cut out by its color and compared with every sign, the own one fits best."""
    shapes = {s: np.asarray(_glyph(c, "DejaVuSans").resize((16, 16))) > 100
              for s, c in SIGNS.items()}  # fmt: skip
    right = 0
    for image, label in zip(GLYPH.images[:], GLYPH.labels, strict=True):
        # Signs never reach all four corners; the most common corner is the background.
        corners = [tuple(image[:, y, x]) for y in (0, -1) for x in (0, -1)]
        background = max(corners, key=corners.count)
        apart = np.abs(image.astype(int) - np.array(background)[:, None, None]).max(axis=0)
        y, x = np.nonzero(apart > 0.3 * apart.max())
        cut = apart[y.min() : y.max() + 1, x.min() : x.max() + 1] > 0.5 * apart.max()
        found = np.asarray(Image.fromarray((cut * 255).astype(np.uint8)).resize((16, 16))) > 100
        best = min(shapes, key=lambda name: (shapes[name] != found).sum())
        right += best == SHAPES[label]
    assert right > 0.75 * len(GLYPH.labels)


def test_digits_are_all_of_scikit_learns_and_none_twice():
    from sklearn.datasets import load_digits

    assert len(DIGIT.images) + len(DIGIT.fit_images) == len(load_digits().target)
    counts = np.bincount(np.concatenate([DIGIT.labels, DIGIT.fit_labels]))
    assert (counts == np.bincount(load_digits().target)).all()
    assert len(digits(24, 10_000).images) == 1797 // 2


def test_a_task_is_a_function_of_its_seed():
    again, other = glyph_tasks(32, 0, 208)[1], glyph_tasks(32, 1, 208)[1]
    assert (again.images == LETTER.images).all()
    assert not (other.images == LETTER.images).all()
