"""Which values are one value: sizes and budgets are rounded to whole layers and whole steps."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from analysis.laws.law import Array

LONGEST = 4.0  # tolerances that a chain of close values may span and still be one value


def label_groups(values: Array, tolerance: float) -> NDArray[np.intp]:
    """Group of each positive value (n,), 0 the lowest.

    Values that follow each other within a relative `tolerance` are one group. A dense table is one
    long chain of such values: it is cut, each group from its lowest value to `tolerance` above it.
    """
    order = np.argsort(values, kind="stable")
    logs, width = np.log(values[order]), np.log1p(tolerance)
    first = np.diff(logs, prepend=-np.inf) > width
    starts = np.flatnonzero(first)
    for start, end in zip(starts, np.append(starts[1:], len(logs)), strict=True):
        at = int(start)
        while logs[end - 1] - logs[start] > LONGEST * width and at < end:
            first[at] = True
            at = int(np.searchsorted(logs, logs[at] + width, side="right"))
    label = np.empty(len(logs), dtype=np.intp)
    label[order] = np.cumsum(first) - 1
    return label
