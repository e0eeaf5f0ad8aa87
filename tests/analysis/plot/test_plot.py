"""Figures: what is on the axes, not pixels; no axes are shown or saved behind the caller's back."""

import numpy as np
import pandas as pd
import pytest

pytest.importorskip("matplotlib")

from analysis import RunTable, fit
from analysis.optima.isoflop import fit_isoflop
from analysis.optima.law_optimum import forecast
from analysis.plot import new_figure, plot_fit, plot_joint, plot_laws, plot_residuals, save
from analysis.plot.coverage import plot_coverage
from analysis.plot.fan import draw_fan, plot_fan
from analysis.plot.isoflop import plot_frontier, plot_isoflop
from analysis.plot.profiles import plot_profiles
from analysis.plot.style import draw_floor, log_tick_values, short_number
from analysis.plot.tornado import plot_tornado
from analysis.sensitivity import sensitivity, tornado
from tests.helpers.planted import isoflop_grid, power_data, symmetric_grid


@pytest.fixture(scope="module")
def fits():
    frame = power_data(0, n=12, noise=0.01, floor=0.5)
    frame["C"] = frame["x"]
    options = {"hold_out": "x > 2e8", "bootstrap": 200}
    return [fit(law, frame, **options) for law in ("power", "power_floor")]


def test_laws_bands_formula_and_held_out_marks_are_drawn(fits):
    ax = plot_laws(fits, title="a title")
    labels = [t.get_text() for t in ax.get_legend().get_texts()]
    assert any("held-out error" in text and "x^-" in text for text in labels)
    assert "held out" in labels
    assert len(ax.lines) == 2
    assert len(ax.collections) >= 4  # points, held-out marks, two bands
    assert ax.get_xscale() == "log"
    assert ax.get_title(loc="left") == "a title"


def test_a_floor_is_drawn_and_always_shown(fits):
    for value in (0.01, 0.9):  # below what the data span, and inside
        ax = plot_laws(fits)
        high = ax.get_ylim()[1]
        draw_floor(ax, value)
        assert list(ax.lines[-1].get_ydata()) == [value, value]
        assert ax.get_ylim()[0] < value < ax.get_ylim()[1] == high
        assert ax.lines[-1].get_label() == f"floor {value:.3g}"


def test_axes_given_are_used_and_returned(fits):
    _, ax = new_figure()
    assert plot_fit(fits[0], ax=ax) is ax
    assert fits[0].plot(ax=new_figure()[1]).get_xlabel() == "x"


def test_residuals_show_every_point_of_every_law(fits):
    ax = plot_residuals(fits)
    drawn = sum(len(c.get_offsets()) for c in ax.collections)
    assert drawn == 2 * len(fits[0].data["y"])


def test_error_bars_are_drawn_when_errors_are_known():
    frame = power_data(0)
    frame["se"] = 0.02
    ax = plot_fit(fit("power", frame, error="se", bootstrap=50))
    assert len(ax.containers) == 1


def test_joint_law_has_one_curve_per_size():
    frame = isoflop_grid(budgets=3, points=4, noise=0.01)
    frame["N"] = np.tile([1e6, 1e7, 1e8], 4)
    frame["metric"] = 1.7 + 400 * frame["N"] ** -0.34 + 400 * frame["D"] ** -0.28
    ax = plot_joint(fit("joint", frame, interval="none"))
    assert len([line for line in ax.lines if len(line.get_xdata()) > 10]) == 3


def test_isoflop_frontier_coverage_profile_and_tornado(fits):
    found = fit_isoflop(RunTable(symmetric_grid(0.002)))
    ax = plot_isoflop(found, columns={"N": "n_params_total", "metric": "val_loss"})
    assert ax.get_ylabel() == "validation loss [nats]"
    assert len([line for line in ax.lines if len(line.get_xdata()) == 200]) == 8
    labels = [t.get_text() for t in plot_frontier(found).get_legend().get_texts()]
    assert labels[0].startswith("N* ~ C^0.4")
    measured = pd.DataFrame(
        {
            "design": ["few", "few", "many"],
            "interval": ["rows", "delta", "rows"],
            "parameter": "c",
            "coverage": [0.99, 0.95, 0.94],
            "trials": 400,
        }
    )
    drawn = plot_coverage(measured)
    assert [t.get_text() for t in drawn.get_yticklabels()] == ["few", "many"]
    assert "[%]" in drawn.get_xlabel()
    profiles = plot_profiles(fits[0])
    assert len(profiles.lines) == 3  # two parameters and the threshold
    result = fit("joint", isoflop_grid(noise=0.01), interval="none")
    bars = tornado(sensitivity(result), "beta")
    assert len(plot_tornado(bars, "beta").patches) == len(bars)


def test_saving_writes_png_and_svg_and_is_repeatable(fits, tmp_path):
    ax = plot_laws(fits)
    paths = save(ax.figure, tmp_path / "a")
    again = save(plot_laws(fits).figure, tmp_path / "b")
    assert [p.suffix for p in paths] == [".png", ".svg"]
    assert paths[1].read_text() == again[1].read_text()


def test_drawing_leaves_matplotlibs_settings_alone(fits):
    import matplotlib

    before = dict(matplotlib.rcParams)
    plot_laws(fits)
    assert dict(matplotlib.rcParams) == before


@pytest.mark.parametrize(("value", "text"), [(950.0, "950"), (12_345_678, "12.3M"), (7e10, "70B")])
def test_numbers_are_short(value, text):
    assert short_number(value) == text


@pytest.mark.parametrize("ends", [(1.32, 1.41), (1.1, 2.5), (0.2, 1.3), (0.05, 0.9), (2, 71)])
def test_a_short_logarithmic_axis_has_a_few_readable_ticks(ends):
    ticks = log_tick_values(*ends)
    assert 3 <= len(ticks) <= 12
    assert ticks == sorted(ticks)
    assert ends[0] <= ticks[0] <= ticks[-1] <= ends[1]
    assert all(len(f"{tick:g}") <= 4 for tick in ticks)


def test_a_long_logarithmic_axis_keeps_the_librarys_ticks():
    assert log_tick_values(1e18, 1e24) == []


def test_the_fan_shows_every_variant_and_the_interval():
    result = fit("joint", isoflop_grid(budgets=4, points=6, noise=0.003), bootstrap=40)
    answer = forecast(result, 1e23)
    figure = draw_fan(answer)
    assert [ax.get_xlabel() for ax in figure.axes] == ["best size N* [parameters]", "loss"]
    rows = [r for r in answer["fan"] if r.get("n_opt") is not None]
    labels = [t.get_text() for t in figure.axes[0].get_yticklabels()]
    assert labels == [r["variant"] for r in rows]
    assert plot_fan(answer, "loss").get_xlabel() == "loss"
