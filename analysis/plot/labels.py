"""Names beside points, placed so that none covers another name or a point."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.text import Annotation
    from matplotlib.transforms import Bbox

# Sides of a point in the order of preference: (right, up), and how the text is aligned to it.
SIDES = (
    (1, 0), (1, -1), (1, 1), (-1, 0), (-1, -1), (-1, 1), (0, -1), (0, 1),
)  # fmt: skip
DISTANCES = (6.0, 13.0, 22.0, 34.0, 48.0, 64.0)  # points; from the third on, a line leads back
POINT = 4.0  # half the side of a point's own square, in points
HORIZONTAL = {1: "left", -1: "right", 0: "center"}
VERTICAL = {1: "bottom", -1: "top", 0: "center"}


def label_points(
    ax: Axes, x: Sequence[float], y: Sequence[float], names: Sequence[str], **text: Any
) -> list[Annotation]:
    """Write each point's name beside it, where it covers no point, no name and not the border.

    Points are served in order of x. Sides are tried near the point first, then farther off, with a
    line that leads back; where no place is free the name lies at the last one tried. Limits and
    scales of the axes must be set before. `text` are options of the annotations.
    """
    figure: Any = ax.figure
    figure.draw_without_rendering()
    scale = figure.dpi / 72  # pixels in a point
    points = ax.transData.transform(np.column_stack([x, y]))
    taken = [_square(point, POINT * scale) for point in points]
    inside, found = ax.get_window_extent(), {}
    for i in np.lexsort((y, x)):
        found[i] = _beside(ax, (x[i], y[i]), names[i], taken, inside, text)
        taken.append(_text_box(found[i]))
    return [found[i] for i in range(len(names))]


def label_ends(ax: Axes, x: float, levels: Mapping[str, float], **text: Any) -> None:
    """Write names at the right of `x`, each at the height of its level or as near as room allows.

    Names are moved as little as possible; a line leads from a moved name to its level. They may lie
    outside of the axes, whose layout makes room for them.
    """
    figure: Any = ax.figure
    figure.draw_without_rendering()
    names = list(levels)
    ends = ax.transData.transform([(x, levels[name]) for name in names])  # pixels
    size = float(text.get("fontsize", 7))
    heights = spread(ends[:, 1] * 72 / figure.dpi, 1.25 * size)  # points
    line = {**_line(text), "relpos": (0, 0.5)}  # to the name's beginning
    for name, end, height in zip(names, ends, heights, strict=True):
        moved = height - end[1] * 72 / figure.dpi
        ax.annotate(name, (x, levels[name]), xytext=(16, moved), textcoords="offset points",
                    va="center", annotation_clip=False, arrowprops=line, **text)  # fmt: skip


def spread(places: np.ndarray, gap: float) -> np.ndarray:
    """The nearest places, by squared distance, of which no two are nearer than `gap`.

    With the gaps taken off it is a monotone regression, which merging neighbours solves.
    """
    order = np.argsort(places, kind="stable")
    groups: list[list[float]] = []
    for k, place in enumerate(places[order]):
        groups.append([place - k * gap])
        while len(groups) > 1 and np.mean(groups[-2]) > np.mean(groups[-1]):
            groups[-2:] = [groups[-2] + groups[-1]]
    free = np.concatenate([np.full(len(group), np.mean(group)) for group in groups])
    found = np.empty(len(places))
    found[order] = free + gap * np.arange(len(places))
    return found


def _beside(
    ax: Axes,
    point: tuple[float, float],
    name: str,
    taken: list[Bbox],
    inside: Bbox,
    text: dict[str, Any],
) -> Annotation:
    """The name at the first free place around the point."""
    note: Annotation | None = None
    for k, distance in enumerate(DISTANCES):
        for right, up in SIDES:
            if note is not None:
                note.remove()
            length = distance / (1.0 if right == 0 or up == 0 else 1.3)
            note = ax.annotate(
                name, point, xytext=(right * length, up * length), textcoords="offset points",
                ha=HORIZONTAL[right], va=VERTICAL[up],
                arrowprops=_line(text) if k >= 2 else None, **text,
            )  # fmt: skip
            box = _text_box(note)
            free = not any(box.overlaps(other) for other in taken)
            if (
                free
                and inside.x0 <= box.x0
                and box.x1 <= inside.x1
                and (inside.y0 <= box.y0 and box.y1 <= inside.y1)
            ):
                return note
    assert note is not None
    return note


def _line(text: dict[str, Any]) -> dict[str, Any]:
    """How a name is led back to its point."""
    return {"arrowstyle": "-", "lw": 0.5, "color": text.get("color", "#666666"),
            "shrinkA": 0.0, "shrinkB": 2.0}  # fmt: skip


def _text_box(note: Annotation) -> Bbox:
    """Of the text alone, without the line that leads to it, in pixels."""
    from matplotlib.text import Text

    note.update_positions(note.figure.canvas.get_renderer())  # type: ignore[attr-defined]
    return Text.get_window_extent(note)


def _square(center: np.ndarray, half: float) -> Bbox:
    from matplotlib.transforms import Bbox

    return Bbox([center - half, center + half])
