"""Held-out tasks that no renderer of ours drew: signs and letters of bundled fonts, written digits.

The fonts come with matplotlib and the digits with scikit-learn, so nothing is downloaded. The eight
shapes exist as signs in some fonts, which asks for shapes by name in strange drawings. Letters and
digits have no words in the captions of scenes; they are only probed.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from fmscale.data.counter_random import random_order, random_uniform
from fmscale.data.scenes.grammar import SHAPES, held_out_concepts
from fmscale.data.scenes.renderer import BACKGROUND_RGB, COLOR_RGB
from fmscale.data.zero_shot_task import ZeroShotTask

SIGNS = dict(zip(SHAPES, "\u25cf\u25a0\u25b2\u25c6\u271a\u25ef\u2605\u263e", strict=True))
SIGN_TEMPLATES = ("a {}", "a photo of a {}", "a drawing of a {}")
LETTERS = tuple("ABCDEFGHIJKLMNOPQRSTUVWXYZ")
# Fonts in which every sign, or every letter, has a drawing of its own.
SIGN_FONTS = ("DejaVuSans", "DejaVuSans-Bold", "DejaVuSans-Oblique", "DejaVuSans-BoldOblique",
              "DejaVuSansMono", "DejaVuSansMono-Bold")  # fmt: skip
LETTER_FONTS = (*SIGN_FONTS, "DejaVuSerif", "DejaVuSerif-Bold", "DejaVuSerif-Italic",
                "DejaVuSerif-BoldItalic", "STIXGeneral", "STIXGeneralBol", "STIXGeneralItalic",
                "cmr10", "cmss10", "cmtt10")  # fmt: skip
_STREAM = 0x617F
_DIGIT_STREAM = 0xD161
_SCALE = 8  # glyphs are drawn this much larger and averaged down
_HEIGHT = (0.35, 0.6)  # of a glyph, as a share of the image's side


def glyph_tasks(
    image_size: int, seed: int, n_images: int, n_fit_per_class: int = 20
) -> tuple[ZeroShotTask, ...]:
    """The tasks `glyph`, `letter` and `digit`.

    Args:
        seed: of the data set; chooses font, size, place and colors of each image.
        n_images: images that are scored in each task; fewer where there are fewer digits.
        n_fit_per_class: others of each class, to fit on; at least `n_images` in all.
    """
    return (
        _glyphs(image_size, seed, n_images, n_fit_per_class),
        _letters(image_size, seed, n_images, n_fit_per_class),
        digits(image_size, n_images),
    )


def _glyphs(image_size: int, seed: int, n_images: int, n_fit: int) -> ZeroShotTask:
    def draw(first: int, n: int) -> tuple[np.ndarray, np.ndarray]:
        indices, labels = first + np.arange(n), np.arange(n) % len(SHAPES)
        u = random_uniform(seed, _STREAM, indices, 7)
        seen = ~held_out_concepts()
        palette = [COLOR_RGB[seen[label]][int(v * seen[label].sum())]
                   for label, v in zip(labels, u[:, 0], strict=True)]  # fmt: skip
        signs = [SIGNS[SHAPES[label]] for label in labels]
        return _draw(signs, SIGN_FONTS, np.array(palette), u, image_size), labels

    images, labels = draw(0, n_images)
    fit_images, fit_labels = draw(1 << 31, max(n_images, n_fit * len(SHAPES)))
    return ZeroShotTask("glyph", SHAPES, SIGN_TEMPLATES, images, labels,
                        fit_images=fit_images, fit_labels=fit_labels)  # fmt: skip


def _letters(image_size: int, seed: int, n_images: int, n_fit: int) -> ZeroShotTask:
    """Fitted on every second font and scored on the others."""

    def draw(first: int, n: int, fonts: tuple[str, ...]) -> tuple[np.ndarray, np.ndarray]:
        labels = np.arange(n) % len(LETTERS)
        u = random_uniform(seed, _STREAM, first + np.arange(n), 7)
        palette = COLOR_RGB[(u[:, 0] * len(COLOR_RGB)).astype(int)]
        return _draw([LETTERS[label] for label in labels], fonts, palette, u, image_size), labels

    images, labels = draw(1 << 32, n_images, LETTER_FONTS[1::2])
    n_fit = max(n_images, n_fit * len(LETTERS))
    fit_images, fit_labels = draw((1 << 32) + (1 << 31), n_fit, LETTER_FONTS[::2])
    return ZeroShotTask("letter", LETTERS, ("{}",), images, labels, named=False,
                        fit_images=fit_images, fit_labels=fit_labels)  # fmt: skip


def digits(image_size: int, n_images: int) -> ZeroShotTask:
    """scikit-learn's 1,797 handwritten digits, enlarged; at most half of them are scored."""
    from sklearn.datasets import load_digits

    found = load_digits()
    order = random_order(0, _DIGIT_STREAM, len(found.target))
    levels = np.round(found.images[order] * (255 / 16)).astype(np.uint8)
    labels = found.target[order].astype(np.int64)
    size = (image_size, image_size)
    pictures = [np.asarray(Image.fromarray(x).resize(size, Image.Resampling.BICUBIC))
                for x in levels]  # fmt: skip
    images = np.repeat(np.stack(pictures)[:, None], 3, axis=1)
    cut = min(n_images, len(labels) // 2)
    return ZeroShotTask("digit", tuple("0123456789"), ("{}",), images[:cut], labels[:cut],
                        named=False, fit_images=images[cut:], fit_labels=labels[cut:])  # fmt: skip


def _draw(
    signs: list[str], fonts: tuple[str, ...], colors: np.ndarray, u: np.ndarray, image_size: int
) -> np.ndarray:
    """Images (n, 3, S, S) uint8: one sign each, on a background, anywhere it fits."""
    out = np.empty((len(signs), 3, image_size, image_size), dtype=np.uint8)
    for i, sign in enumerate(signs):
        _, font, size, x, y, background, _ = u[i]
        height = _HEIGHT[0] + size * (_HEIGHT[1] - _HEIGHT[0])
        cover = _cover(sign, fonts[int(font * len(fonts))], round(height * image_size), image_size,
                       round(x * 16) / 16, round(y * 16) / 16)  # fmt: skip
        under = BACKGROUND_RGB[int(background * len(BACKGROUND_RGB))]
        picture = under[:, None, None] + (colors[i] - under)[:, None, None] * cover
        out[i] = np.round(picture).astype(np.uint8)
    return out


def _cover(sign: str, font: str, height: int, image_size: int, x: float, y: float) -> np.ndarray:
    """Share of each pixel (S, S) that a sign of `height` pixels covers, at a place 0..1 of the
    room that is left.
    """
    glyph = _glyph(sign, font)
    factor = height * _SCALE / max(glyph.size)
    width, tall = (max(round(side * factor), 1) for side in glyph.size)
    side = image_size * _SCALE
    canvas = Image.new("L", (side, side))
    place = (round(x * (side - width)), round(y * (side - tall)))
    canvas.paste(glyph.resize((width, tall), Image.Resampling.BOX), place)
    return np.asarray(canvas.reduce(_SCALE), dtype=np.float64) / 255


@cache
def _glyph(sign: str, font: str) -> Image.Image:
    """A sign in black on white, cut to its own size."""
    import matplotlib

    path = Path(matplotlib.get_data_path(), "fonts", "ttf", f"{font}.ttf")
    face = ImageFont.truetype(path, 256)
    left, top, right, bottom = (int(edge) for edge in face.getbbox(sign))
    image = Image.new("L", (right - left, bottom - top))
    ImageDraw.Draw(image).text((-left, -top), sign, fill=255, font=face)
    return image.crop(image.getbbox())
