"""Contact sheets: pictures of scenes with their captions, to look at what a model is trained on."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from fmscale.data.scenes.dataset import Scenes


def contact_sheet(images: np.ndarray, captions: Sequence[str], n_columns: int = 6) -> Figure:
    """A figure with one captioned image per cell, row by row.

    Args:
        images: (n, 3, H, W) uint8.
        captions: n texts; long ones are wrapped.
    """
    if len(images) != len(captions) or len(images) == 0 or n_columns < 1:
        raise ValueError(
            f"{len(images)} images, {len(captions)} captions, n_columns = {n_columns}: give one "
            "caption per image, and at least one image and one column."
        )
    # matplotlib comes late: training does not need it.
    from matplotlib.figure import Figure

    n_rows = -(-len(images) // n_columns)
    figure = Figure(figsize=(1.9 * n_columns, 2.5 * n_rows), layout="constrained")
    axes = figure.subplots(n_rows, n_columns, squeeze=False).ravel()
    for axis in axes[len(images) :]:
        axis.set_axis_off()
    # Without strict: the last row may have empty cells.
    for axis, image, caption in zip(axes, images, captions, strict=False):
        axis.imshow(image.transpose(1, 2, 0), interpolation="nearest")
        axis.set_xticks([])
        axis.set_yticks([])
        axis.spines[:].set_visible(False)
        axis.set_xlabel(textwrap.fill(caption, 26), fontsize=7)
    return figure


def training_sheet(data: Scenes, n_pairs: int = 18, n_columns: int = 6) -> Figure:
    """The first training pairs of a data set, as `contact_sheet` draws them."""
    images, captions = data.pairs(np.arange(n_pairs))
    return contact_sheet(images, data.tokenizer.decode(captions), n_columns)
