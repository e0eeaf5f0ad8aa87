"""Contact sheets show every image with its caption."""

import numpy as np
import pytest

from fmscale.data.scenes.contact_sheet import contact_sheet, training_sheet
from fmscale.data.scenes.dataset import Scenes


def test_every_pair_has_a_cell() -> None:
    data = Scenes(n_val_samples=2, val_batch_size=2)
    figure = training_sheet(data, n_pairs=7, n_columns=3)
    images, tokens = data.pairs(np.arange(7))
    shown = [axis for axis in figure.axes if axis.images]
    assert len(figure.axes) == 9
    assert len(shown) == 7
    for axis, image, caption in zip(shown, images, data.tokenizer.decode(tokens), strict=True):
        assert (axis.images[0].get_array() == image.transpose(1, 2, 0)).all()
        assert axis.get_xlabel().replace("\n", " ") == caption


def test_an_image_without_a_caption_is_an_error() -> None:
    with pytest.raises(ValueError, match="2 images, 1 captions"):
        contact_sheet(np.zeros((2, 3, 16, 16), dtype=np.uint8), ["a red circle"])
