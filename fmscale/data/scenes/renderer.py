"""Draws scenes as small RGB images, vectorised over the batch.

Every shape is rasterised once per radius, anti-aliased, in the middle of a canvas twice the
image's size. An object at any position is then a window into that canvas, so that rendering a
batch is a few array look-ups and one blend per object.
"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from fmscale.data.counter_random import random_bits, random_uniform
from fmscale.data.scenes.grammar import BACKGROUNDS, COLORS, SHAPES, SIZES, SceneBatch

COLOR_RGB = np.array(
    [
        (220, 40, 40),  # red
        (245, 140, 25),  # orange
        (250, 220, 50),  # yellow
        (35, 140, 60),  # green
        (50, 200, 215),  # cyan
        (55, 95, 225),  # blue
        (140, 55, 175),  # purple
        (245, 130, 185),  # pink
        (135, 85, 45),  # brown
        (150, 225, 60),  # lime
    ]
)
BACKGROUND_RGB = np.array(
    [
        (12, 12, 12),  # black
        (75, 75, 75),  # gray
        (15, 25, 95),  # navy
        (90, 20, 30),  # maroon
        (15, 70, 40),  # forest
    ]
)
# small, medium, large; share of the image's side. With the jitter and the widest shape of radius 1
# the largest one stays under a quarter, so that two objects half an image apart never touch.
RADIUS = (0.145, 0.19, 0.235)
OUTLINE_INSIDE = 0.4  # opacity inside an outlined shape
RADIUS_JITTER = (0.94, 1.0, 1.06)
_OPAQUE = 128  # blending weights 0..128: (color difference) * weight fits 16 bits
_SUPERSAMPLE = 8
_LAYOUT_STREAM = 0x1A
_NOISE_STREAM = 0x90


@dataclass(frozen=True)
class SceneStyle:
    """How scenes are drawn; the training style is the default one."""

    palette: np.ndarray | None = None  # (n_color, 3) in place of COLOR_RGB
    color_jitter: int = 12  # each channel of each color moves by up to this much
    position_jitter: float = 0.1  # how often an object is a pixel off its place, along each axis
    noise: float = 6.0  # standard deviation of pixel noise, in levels of 0..255
    outline: bool = False  # draw only the rim of each shape


class SceneRenderer:
    """Turns attributes into square images of `image_size` pixels a side."""

    def __init__(self, image_size: int) -> None:
        if image_size < 16 or image_size % 4:
            raise ValueError(
                f"data.image_size = {image_size}: give a multiple of 4 of at least 16 pixels, "
                "so that shapes can be told apart and positions fall on whole pixels."
            )
        self.image_size = image_size
        # (outline, shape, size, radius jitter, S + 1, S + 1, S, S): a view, not a copy
        self._windows = sliding_window_view(
            _canvases(image_size), (image_size, image_size), axis=(4, 5)
        )

    def render(
        self, scenes: SceneBatch, seed: int, indices: np.ndarray, style: SceneStyle | None = None
    ) -> np.ndarray:
        """Images (B, 3, S, S) uint8; jitter and noise depend on (seed, index) alone."""
        style = style or SceneStyle()
        size = self.image_size
        u = random_uniform(seed, _LAYOUT_STREAM, indices, 16)
        center = self._centers(scenes, u[:, 0:5], style.position_jitter)
        radius = (u[:, 5:7] * len(RADIUS_JITTER)).astype(np.int64)
        jitter = np.round((2 * u[:, 7:16] - 1) * style.color_jitter).astype(np.int16)
        palette = COLOR_RGB if style.palette is None else style.palette
        background = BACKGROUND_RGB[scenes.background] + jitter[:, 0:3]
        image = np.empty((len(scenes), 3, size, size), dtype=np.int16)
        image[:] = np.clip(background, 0, 255)[:, :, None, None]
        for k in (0, 1):
            rows = np.arange(len(scenes)) if k == 0 else np.flatnonzero(scenes.n_objects == 2)
            color = palette[scenes.color[rows, k]] + jitter[rows, 3 + 3 * k : 6 + 3 * k]
            weight = self._windows[
                int(style.outline),
                scenes.shape[rows, k],
                scenes.size[rows, k],
                radius[rows, k],
                size - center[rows, k, 1],
                size - center[rows, k, 0],
            ]  # (rows, S, S)
            _blend(image, rows, np.clip(color, 0, 255).astype(np.int16), weight)
        if style.noise > 0:
            image += _pixel_noise(seed, indices, style.noise, size)
            np.clip(image, 0, 255, out=image)
        return image.astype(np.uint8)

    def _centers(self, scenes: SceneBatch, u: np.ndarray, jitter: float) -> np.ndarray:
        """Object centers (B, 2 objects, x and y) in pixels from the top left corner."""
        quarter = self.image_size // 4
        step = max(self.image_size // 24, 1)
        shift = step * ((u >= 1 - jitter / 2).astype(np.int64) - (u < jitter / 2))
        single = quarter * (1 + np.stack([scenes.position % 3, scenes.position // 3], axis=1))
        single = single + shift[:, 0:2]
        # Two objects stand half an image apart along one axis and jitter across it. They never
        # overlap: which of them the caption names first must not show.
        horizontal = scenes.relation < 2
        first_is_lower = (scenes.relation % 2) == 1  # right of, below: the larger coordinate
        along = quarter * np.where(first_is_lower[:, None], [[3, 1]], [[1, 3]])
        along = along + shift[:, 0:1]
        across = 2 * quarter + 2 * shift[:, 3:5]
        x = np.where(horizontal[:, None], along, across)
        y = np.where(horizontal[:, None], across, along)
        pair = np.stack([x, y], axis=2)
        return np.where((scenes.n_objects == 2)[:, None, None], pair, single[:, None, :])


def _blend(image: np.ndarray, rows: np.ndarray, color: np.ndarray, weight: np.ndarray) -> None:
    """Lay `color` (rows, 3) over the images by `weight` (rows, S, S) in 0.._OPAQUE, in place."""
    under = image if len(rows) == len(image) else image[rows]
    layer = color[:, :, None, None] - under
    layer *= weight[:, None]
    layer >>= 7
    if under is image:
        image += layer
    else:
        image[rows] = under + layer


def _pixel_noise(seed: int, indices: np.ndarray, noise: float, image_size: int) -> np.ndarray:
    """Gaussian noise (B, 3, S, S) int16, from one random byte per channel and pixel."""
    n_values = 3 * image_size**2
    bits = random_bits(seed, _NOISE_STREAM, indices, -(-n_values // 8))
    # Little-endian on every machine, so that the bytes come in the same order.
    byte = bits.astype("<u8", copy=False).view(np.uint8)[:, :n_values]
    table = np.round(noise * _gaussian_quantiles(256)).astype(np.int16)
    return table[byte].reshape(-1, 3, image_size, image_size)


def _gaussian_quantiles(n: int) -> np.ndarray:
    """Standard normal quantiles at the n midpoints (i + 1/2) / n, scaled to unit variance."""
    normal = NormalDist()
    quantiles = np.array([normal.inv_cdf((i + 0.5) / n) for i in range(n)])
    return quantiles / quantiles.std()


def _canvases(image_size: int) -> np.ndarray:
    """Blending weights (outline, shape, size, jitter, 2S, 2S) int16, shapes in the middle.

    Outlined shapes keep a faint inside.
    """
    side = 2 * image_size
    fine = (np.arange(side * _SUPERSAMPLE) + 0.5) / _SUPERSAMPLE - image_size
    out = np.zeros((2, len(SHAPES), len(SIZES), len(RADIUS_JITTER), side, side), dtype=np.int16)
    # Only the middle can be covered; the rest stays 0.
    middle = slice(image_size - image_size // 3, image_size + image_size // 3)
    inner = fine[middle.start * _SUPERSAMPLE : middle.stop * _SUPERSAMPLE]
    for s, size_radius in enumerate(RADIUS):
        for j, factor in enumerate(RADIUS_JITTER):
            radius = size_radius * factor * image_size
            x, y = np.meshgrid(inner / radius, inner / radius)
            for k, shape in enumerate(SHAPES):
                filled = _inside(shape, x, y)
                hollow = np.where(_rim(filled), 1.0, OUTLINE_INSIDE * filled)
                for outline, weight in enumerate((filled, hollow)):
                    out[outline, k, s, j, middle, middle] = _average(weight)
    return out


def _rim(filled: np.ndarray) -> np.ndarray:
    """The part of a mask that lies within one pixel of its edge, along rows or columns."""
    core = filled.copy()
    for axis in (0, 1):
        for shift in (-_SUPERSAMPLE, _SUPERSAMPLE):
            core &= np.roll(filled, shift, axis)
    return filled & ~core


def _average(weight: np.ndarray) -> np.ndarray:
    n = weight.shape[0] // _SUPERSAMPLE
    cells = weight.reshape(n, _SUPERSAMPLE, n, _SUPERSAMPLE).mean(axis=(1, 3))
    return np.round(cells * _OPAQUE).astype(np.int16)


def _inside(shape: str, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Whether points are inside a shape of radius about 1 around the origin; y points down."""
    r = np.hypot(x, y)
    if shape == "circle":
        return r < 0.95
    if shape == "square":
        return np.maximum(abs(x), abs(y)) < 0.85
    if shape == "triangle":
        return (y < 0.8) & (y > 2 * abs(x) - 1)
    if shape == "diamond":
        return abs(x) / 0.72 + abs(y) < 1
    if shape == "cross":
        return (np.minimum(abs(x), abs(y)) < 0.33) & (np.maximum(abs(x), abs(y)) < 1)
    if shape == "ring":
        return (r < 1) & (r > 0.55)
    if shape == "star":
        # Five points: the radius falls linearly from tip to notch within each 36 degrees.
        turn = np.abs((np.arctan2(x, -y) / (2 * np.pi / 5) + 0.5) % 1 - 0.5) * 2  # 0 at a tip
        return r < 1 - 0.6 * turn
    if shape == "moon":
        return (r < 1) & (np.hypot(x - 0.5, y) > 0.8)
    raise AssertionError(shape)


assert len(COLOR_RGB) == len(COLORS)
assert len(BACKGROUND_RGB) == len(BACKGROUNDS)
assert len(RADIUS) == len(SIZES)
