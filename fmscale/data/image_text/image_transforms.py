"""From a picture file to the pixels that CLIP was trained on (Radford et al. 2021, Sec. 2.4).

The shorter side is brought to the model's size by bicubic interpolation. In training a random
square is cut out, which is the only augmentation; in evaluation the middle one. Pixels are then
normalised by the published mean and standard deviation, as in the released code. Pictures are read
as a person sees them, since a person wrote the caption: turned as their EXIF says, transparent
parts on white, 16-bit grays as grays; of an animation, the first picture.
"""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageOps

from fmscale.data.counter_random import random_uniform

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)
MAX_ELONGATION = 50  # longer side by shorter; with the shorter at the model's size, more is vast
_CROP_STREAM = 0xC409


class UnreadableImage(ValueError):
    """Bytes that Pillow cannot turn into a picture."""


@dataclass(frozen=True)
class ImageTransform:
    """Sizes and levels of the pixels a model is given."""

    image_size: int  # side of the square, pixels
    mean: tuple[float, float, float] = CLIP_MEAN  # of channels in 0..1
    std: tuple[float, float, float] = CLIP_STD

    def __post_init__(self) -> None:
        if self.image_size < 1:
            raise ValueError(f"data.image_size = {self.image_size}: give at least 1 pixel.")
        if len(self.mean) != 3 or len(self.std) != 3 or min(self.std) <= 0:
            raise ValueError(
                f"data.mean = {list(self.mean)}, data.std = {list(self.std)}: give three numbers "
                "each, for red, green and blue, and positive standard deviations."
            )

    def shrink(self, picture: Image.Image) -> np.ndarray:
        """Pixels (H, W, 3) uint8 whose shorter side is `image_size`.

        Raises:
            UnreadableImage: for levels of no known scale.
        """
        picture = _as_seen(picture)
        width, height = picture.size
        short, long = min(width, height), max(width, height)
        other = int(self.image_size * long / short)
        size = (self.image_size, other) if width <= height else (other, self.image_size)
        if size != picture.size:
            picture = picture.resize(size, Image.Resampling.BICUBIC)
        return np.asarray(picture)

    def center(self, pixels: np.ndarray) -> np.ndarray:
        """The middle square (S, S, 3) of `shrink`'s result."""
        return self._cut(
            pixels, *(round((side - self.image_size) / 2) for side in pixels.shape[:2])
        )

    def random_square(self, pixels: np.ndarray, place: np.ndarray) -> np.ndarray:
        """A square (S, S, 3) at a place (2,) in 0..1 of the room along both sides."""
        room = np.array(pixels.shape[:2]) - self.image_size
        top, left = (place * (room + 1)).astype(int).tolist()
        return self._cut(pixels, top, left)

    def normalize(self, pixels: np.ndarray) -> np.ndarray:
        """(B, 3, S, S) float32 from (B, S, S, 3) uint8."""
        mean, std = (np.array(values, dtype=np.float32) for values in (self.mean, self.std))
        scaled = pixels.astype(np.float32) / np.float32(255)
        return np.ascontiguousarray(((scaled - mean) / std).transpose(0, 3, 1, 2))

    def _cut(self, pixels: np.ndarray, top: int, left: int) -> np.ndarray:
        return pixels[top : top + self.image_size, left : left + self.image_size]


def crop_places(seed: int, samples: np.ndarray, step: int) -> np.ndarray:
    """Where the random square of each sample lies: (B, 2), uniform in 0..1."""
    return random_uniform(seed, (step << 16) | _CROP_STREAM, samples, 2)


def _as_seen(picture: Image.Image) -> Image.Image:
    """RGB of any mode: 16 bits scaled to 8, and white behind what is transparent."""
    if picture.mode == "F":
        raise UnreadableImage("its levels are floating-point numbers, whose scale is not known")
    if picture.mode.startswith("I"):  # Pillow would cut 16-bit levels off at 255
        levels = np.asarray(picture)
        if levels.min() < 0 or levels.max() > 0xFFFF:
            raise UnreadableImage("its levels are 32-bit numbers, whose scale is not known")
        picture = Image.fromarray(np.rint(levels / 257).astype(np.uint8))
    if picture.has_transparency_data:
        picture = picture.convert("RGBA")
        picture = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture)
    return picture.convert("RGB")


def decode(content: bytes) -> Image.Image:
    """The picture in a file's bytes, fully read and upright.

    Raises:
        UnreadableImage: for anything that is not a whole picture, or is a mere strip.
    """
    try:
        picture = Image.open(io.BytesIO(content))
        if max(picture.size) > MAX_ELONGATION * min(picture.size):  # before pixels are read
            width, height = picture.size
            raise UnreadableImage(f"{width} x {height} pixels are a strip, longer than "
                                  f"{MAX_ELONGATION} times its width")  # fmt: skip
        picture.load()
        ImageOps.exif_transpose(picture, in_place=True)
        return picture
    except UnreadableImage:
        raise
    # Pillow's plugins raise half a dozen kinds for broken files, a bomb of pixels among them.
    except Exception as error:
        raise UnreadableImage(f"{type(error).__name__}: {error}") from error
