"""Names beside points: near them, and clear of each other."""

import itertools

import numpy as np
import pytest
from matplotlib.text import Text
from scipy.optimize import minimize

from analysis.plot.labels import label_ends, label_points, spread
from analysis.plot.style import new_figure


def boxes(figure, notes):
    figure.draw_without_rendering()
    return [Text.get_window_extent(note) for note in notes]


def crowd(n=11, seed=0):
    """Points of which many nearly coincide, as tasks near 100 % do."""
    rng = np.random.default_rng(seed)
    x = np.concatenate([rng.uniform(0.2, 0.9, n - 5), rng.normal(0.95, 0.004, 5)])
    return x, x + rng.normal(0, 0.02, n), [f"task number {i}" for i in range(n)]


@pytest.mark.parametrize("seed", range(2))
def test_names_cover_neither_each_other_nor_points_nor_the_border(seed):
    x, y, names = crowd(seed=seed)
    figure, ax = new_figure(5.6, 5.2)
    ax.scatter(x, y)
    ax.set_xlim(0, 1.1)
    ax.set_ylim(0, 1.1)
    notes = label_points(ax, x, y, names, fontsize=7.5)
    assert [note.get_text() for note in notes] == names
    found = boxes(figure, notes)
    assert not any(a.overlaps(b) for a, b in itertools.combinations(found, 2))
    for point in ax.transData.transform(np.column_stack([x, y])):
        assert not any(box.contains(*point) for box in found)
    border = ax.get_window_extent()
    assert all(border.x0 <= box.x0 and box.x1 <= border.x1 for box in found)


def test_a_lone_name_stands_right_beside_its_point():
    figure, ax = new_figure()
    ax.set_xlim(0, 1)
    ax.set_ylim(0, 1)
    (note,) = label_points(ax, [0.5], [0.5], ["alone"])
    (box,) = boxes(figure, [note])
    x, y = ax.transData.transform((0.5, 0.5))
    assert 0 < (box.x0 - x) * 72 / figure.dpi < 8
    assert box.y0 < y < box.y1


def test_names_at_the_end_of_lines_keep_their_order_and_do_not_touch():
    levels = {"a": 0.9, "b": 0.89, "c": 0.88, "d": 0.885, "e": 0.05}
    figure, ax = new_figure()
    ax.set_yscale("log")
    ax.set_ylim(0.01, 1)
    label_ends(ax, 1.0, levels, fontsize=7)
    found = dict(zip(levels, boxes(figure, ax.texts), strict=True))
    assert sorted(found, key=lambda name: -found[name].y0) == ["a", "b", "d", "c", "e"]
    assert not any(a.overlaps(b) for a, b in itertools.combinations(found.values(), 2))
    height = ax.transData.transform((1.0, 0.05))[1]
    assert found["e"].y0 < height < found["e"].y1  # where there is room, it is not moved


def test_places_are_the_nearest_that_keep_the_gap():
    rng = np.random.default_rng(0)
    for _ in range(5):
        wanted = rng.uniform(0, 10, 7)
        found = spread(wanted, 1.3)
        order = np.argsort(wanted)
        assert np.diff(found[order]).min() >= 1.3 - 1e-9
        best = minimize(
            lambda p, w=wanted[order]: ((p - w) ** 2).sum(),
            np.arange(7) * 2.0,
            constraints={"type": "ineq", "fun": lambda p: np.diff(p) - 1.3},
        )
        assert ((found - wanted) ** 2).sum() == pytest.approx(best.fun, abs=1e-6)
