"""No law on any kind of table lets a warning of numpy or scipy reach the screen."""

import warnings

import numpy as np
import pandas as pd
import pytest

from analysis import LAWS, FitError, fit, get_law
from analysis.optima.law_optimum import forecast
from analysis.tables.table import TableError


def one_column():
    """Curves of one column that no law of ours was made for."""
    x = np.array([0.02, 0.03, 0.04, 0.06, 0.09, 0.13, 0.18, 0.23, 0.26, 0.28])
    sizes = np.geomspace(1e4, 1e8, 14)
    bump = 0.25 * np.exp(-4 * np.log10(sizes / 7e5) ** 2)
    return {
        "a floor below zero": (x, 0.9 * x**-0.5 - 1.4),
        "a constant": (np.geomspace(1e6, 1e9, 8), np.full(8, 3.1)),
        "double descent": (sizes, (1 + 20 * sizes**-0.2) * (1 + bump)),
        "rising": (sizes, 0.1 + 0.05 * np.log10(sizes)),
        "exact": (sizes, 1.5 + 40 * sizes**-0.3),
        "one size": (np.full(6, 1e6), 3 + 0.01 * np.arange(6.0)),
        "enormous": (np.geomspace(1e3, 1e30, 9), np.geomspace(1e8, 1e-8, 9)),
        "five values": (sizes[:5], np.array([4.2, 3.7, 3.5, 3.0, 2.9])),
    }


def two_columns():
    n = np.geomspace(1e6, 1e9, 8)
    wide, data = (v.ravel() for v in np.meshgrid(np.geomspace(1e6, 1e9, 4), [1e8, 1e9, 1e10, 1e11]))
    chance = np.exp(0.01 * np.random.default_rng(0).standard_normal(16))
    return {
        "one ratio": (n, 20 * n, 1.7 + 400 * n**-0.34 + 410 * (20 * n) ** -0.28),
        "a grid": (wide, data, (1.7 + 300 * wide**-0.38 + 400 * data**-0.3) * chance),
        "no effect of data": (wide, data, (1.0 + 30 * wide**-0.2) * chance),
        "one budget": (wide[:4], data[:4], np.array([4.0, 3.5, 3.2, 3.0])),
        "five runs": (wide[:5], data[:5], np.array([4.0, 3.5, 3.2, 3.0, 3.6])),
    }


def quietly(law, frame, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            result = fit(law, frame, bootstrap=20, strict=False, **options)
        except (FitError, TableError):
            return
        x = {c: [float(np.max(frame[c])) * 10] for c in result.model.columns}
        result.predict(x)
        result.summary()
        if {"N", "D"} <= set(result.model.columns):
            forecast(result, 1e22, fan=False)


@pytest.mark.parametrize("kind", one_column())
@pytest.mark.parametrize("law", [n for n in LAWS if len(get_law(n).columns) == 1])
def test_curves_of_one_column_are_fitted_quietly(law, kind):
    x, y = one_column()[kind]
    column = get_law(law).columns[0]
    if column == "L":
        y = y / np.max(y)
    for objective in (None, "absolute"):
        quietly(law, pd.DataFrame({column: x, "metric": y}), objective=objective)


@pytest.mark.parametrize("kind", two_columns())
@pytest.mark.parametrize("law", [n for n in LAWS if len(get_law(n).columns) > 1])
def test_tables_of_size_and_data_are_fitted_quietly(law, kind):
    n, d, y = two_columns()[kind]
    frame = pd.DataFrame({"N": n, "D": d, "S": d, "U": d / 2, "metric": y})
    quietly(law, frame)
    quietly(law, frame, objective="least_squares")
