"""The published preprocessing of CLIP, against transformers, and properties of crops."""

import numpy as np
import pytest
from PIL import Image

from fmscale.data.image_text.image_transforms import (
    CLIP_MEAN,
    CLIP_STD,
    ImageTransform,
    UnreadableImage,
    crop_places,
    decode,
)
from tests.helpers.pair_files import encoded


def photo(width, height, seed=0):
    """Smooth at large and noisy at small scale."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 256, (5, 7, 3), dtype=np.uint8))
    pixels = np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC)).astype(int)
    noisy = pixels + rng.integers(-20, 21, pixels.shape)
    return Image.fromarray(noisy.clip(0, 255).astype(np.uint8))


@pytest.mark.parametrize(("width", "height"), [(640, 480), (333, 500), (224, 224), (100, 90)])
def test_evaluation_equals_the_published_transform(width, height):
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

    picture = photo(width, height)
    published = CLIPImageProcessorPil(size={"shortest_edge": 224},
                                      crop_size={"height": 224, "width": 224})  # fmt: skip
    theirs = published(picture, return_tensors="np")["pixel_values"][0]
    transform = ImageTransform(224)
    square = transform.center(transform.shrink(picture))
    ours = transform.normalize(square[None])[0]
    assert ours.shape == (3, 224, 224)
    assert ours.dtype == np.float32
    # One level of 255 is 0.015 after normalising; nothing differs by so much.
    np.testing.assert_allclose(ours, theirs, atol=2e-6)


def test_normalising_gives_the_published_mean_zero_and_deviation_one():
    transform = ImageTransform(4)
    mean = np.round(255 * np.array(CLIP_MEAN)).astype(np.uint8)
    found = transform.normalize(np.broadcast_to(mean, (1, 4, 4, 3)))
    assert np.abs(found).max() < 0.5 / 255 / min(CLIP_STD) + 1e-6
    above = transform.normalize(np.full((1, 4, 4, 3), 255, dtype=np.uint8))[0, :, 0, 0]
    np.testing.assert_allclose(above, (1 - np.array(CLIP_MEAN)) / np.array(CLIP_STD), rtol=1e-6)


def test_a_random_square_is_a_function_of_seed_sample_and_step():
    transform = ImageTransform(16)
    pixels = transform.shrink(photo(64, 31))
    assert pixels.shape == (16, 33, 3)

    def square(seed, sample, step):
        # In a batch of others: a sample's square does not depend on its neighbours.
        places = crop_places(seed, np.array([2, sample, 5]), step)
        return transform.random_square(pixels, places[1])

    alone = transform.random_square(pixels, crop_places(1, np.array([7]), 3)[0])
    assert (square(1, 7, 3) == alone).all()
    offsets = set()
    for seed, sample, step in [(1, 7, 3), (2, 7, 3), (1, 8, 3), (1, 7, 4)]:
        cut = square(seed, sample, step)
        assert cut.shape == (16, 16, 3)
        (offset,) = [x for x in range(18) if (pixels[:, x : x + 16] == cut).all()]
        offsets.add(offset)
    assert len(offsets) > 1


def test_random_squares_reach_every_place_equally_often():
    transform = ImageTransform(8)
    pixels = np.broadcast_to(np.arange(11)[None, :, None], (8, 11, 3))
    places = crop_places(0, np.arange(2000), 5)
    starts = [int(transform.random_square(pixels, place)[0, 0, 0]) for place in places]
    counts = np.bincount(starts, minlength=4)
    assert len(counts) == 4
    assert (np.abs(counts - 500) < 5 * np.sqrt(500 * 0.75)).all()


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "CMYK", "1"])
def test_any_kind_of_picture_becomes_rgb(mode):
    assert ImageTransform(16).shrink(photo(40, 20).convert(mode)).shape == (16, 32, 3)


def saved(picture, kind, **options):
    return ImageTransform(4).shrink(decode(encoded(picture, kind, **options)))


@pytest.mark.parametrize("level", [0, 257 * 3, 32_768, 65_535])
def test_gray_of_16_bits_keeps_its_level(level):
    gray = Image.fromarray(np.full((8, 8), level, dtype=np.uint16))
    for kind in ("png", "tiff"):
        assert (saved(gray, kind) == round(level / 257)).all()
    as_32 = Image.fromarray(np.full((8, 8), level, dtype=np.int32))
    assert (ImageTransform(4).shrink(as_32) == round(level / 257)).all()


@pytest.mark.parametrize(
    "levels", [np.full((8, 8), 0.5, np.float32), np.full((8, 8), 1 << 20, np.int32)]
)
def test_levels_of_no_known_scale_are_not_guessed(levels):
    with pytest.raises(UnreadableImage, match="scale is not known"):
        ImageTransform(4).shrink(Image.fromarray(levels))


@pytest.mark.parametrize(("mode", "kind"), [("LA", "png"), ("RGBA", "webp"), ("P", "gif")])
def test_white_is_behind_what_is_transparent(mode, kind):
    picture = Image.new("RGBA", (8, 8), (10, 20, 30, 0)).convert(mode)
    assert (saved(picture, kind, **({"transparency": 0} if mode == "P" else {})) == 255).all()


def test_a_picture_is_turned_as_its_exif_says():
    picture = Image.fromarray(np.arange(0, 240, 30, dtype=np.uint8).reshape(2, 4).repeat(8, 1))
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was held on its side
    turned = saved(picture.resize((64, 16)), "png", exif=exif)
    upright = saved(picture.resize((64, 16)).transpose(Image.Transpose.ROTATE_270), "png")
    assert np.array_equal(turned, upright)


@pytest.mark.parametrize("size", [(1, 1500), (1500, 1), (10, 501)])
def test_strips_are_refused_before_they_are_resized(size):
    with pytest.raises(UnreadableImage, match="are a strip"):
        decode(encoded(Image.new("RGB", size)))
    assert decode(encoded(Image.new("RGB", (10, 500)))).size == (10, 500)


@pytest.mark.parametrize("spoil", [lambda c: b"", lambda c: c[: len(c) // 2], lambda c: b"x" + c])
def test_broken_bytes_are_named_as_such(spoil):
    content = encoded(photo(40, 30), "jpg")
    assert decode(content).size == (40, 30)
    with pytest.raises(UnreadableImage):
        decode(spoil(content))


def test_impossible_settings_are_refused():
    with pytest.raises(ValueError, match=r"data\.image_size = 0"):
        ImageTransform(0)
    with pytest.raises(ValueError, match=r"data\.std"):
        ImageTransform(8, std=(1.0, 0.0, 1.0))
