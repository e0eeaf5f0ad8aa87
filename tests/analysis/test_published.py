"""Published answers on published tables, for those who have them.

Set FMSCALE_PUBLISHED_TABLES to a folder with chinchilla_svg_extracted.csv (Besiroglu et al. 2024)
and isoflops_many_sources.csv; without it these tests skip, and planted laws stand in for them.
"""

import json
import os
from pathlib import Path

import pytest

from analysis import fit, map_columns, read_table, where
from analysis.__main__ import main
from analysis.tables.filters import drop_highest

FOLDER = os.environ.get("FMSCALE_PUBLISHED_TABLES")
pytestmark = pytest.mark.skipif(not FOLDER, reason="FMSCALE_PUBLISHED_TABLES is not set")


@pytest.fixture(scope="module")
def chinchilla():
    table = read_table(Path(FOLDER) / "chinchilla_svg_extracted.csv")
    columns = {"N": "Model Size", "C": "Training FLOP", "metric": "loss"}
    return map_columns(table, columns, {"D": "6nd"})


def test_huber_optimum_and_bootstrap_errors(tmp_path):
    out = tmp_path / "fit.json"
    command = ["fit", str(Path(FOLDER) / "chinchilla_svg_extracted.csv"), "--law", "joint",
               "--n", "Model Size", "--c", "Training FLOP", "--d-from", "6nd", "--loss", "loss",
               "--drop-highest-loss", "5", "--objective", "huber", "--delta", "1e-3",
               "--bootstrap", "4000", "--seed", "42", "--json", str(out)]  # fmt: skip
    assert main(command) == 0
    answer = json.loads(out.read_text())
    assert answer["objective"] == pytest.approx(0.001018274018, abs=5e-13)
    expected = {"E": 1.81722, "A": 477.83, "B": 2143.42, "alpha": 0.34731, "beta": 0.36717}
    assert answer["parameters"] == pytest.approx(expected, rel=1e-5)
    errors = {"E": 0.026, "A": 124, "B": 1290, "alpha": 0.0154, "beta": 0.0206}
    assert answer["standard_errors"] == pytest.approx(errors, rel=0.05)


def test_least_absolute_deviations(chinchilla):
    result = fit(
        "joint", drop_highest(chinchilla, "metric", 5), objective="absolute", interval="none"
    )
    expected = {"E": 1.81686, "A": 482.01, "B": 2085.43, "alpha": 0.34781, "beta": 0.36585}
    assert result.parameters == pytest.approx(expected, rel=2e-5)


def test_plain_least_squares_on_the_smaller_runs(chinchilla):
    table = where(drop_highest(chinchilla, "metric", 5), "6 * N * D < 1e21")
    result = fit("joint", table, objective="least_squares", interval="none")
    p = result.parameters
    assert len(table) == 217
    assert result.objective == pytest.approx(0.062414, abs=5e-7)
    assert p["E"] == pytest.approx(1.9051, abs=5e-5)
    assert p["A"] / 1e6 ** p["alpha"] == pytest.approx(4.0005, abs=5e-5)
    assert p["B"] / 1e9 ** p["beta"] == pytest.approx(1.0509, abs=5e-5)
    assert (p["alpha"], p["beta"]) == pytest.approx((0.3511, 0.4587), abs=5e-5)


def test_the_cut_moves_beta(chinchilla):
    published = {0: 0.453, 4: 0.371, 5: 0.367, 10: 0.358, 20: 0.327}
    for count, beta in published.items():
        result = fit("joint", drop_highest(chinchilla, "metric", count), interval="none")
        assert result.parameters["beta"] == pytest.approx(beta, abs=5e-4)


def test_starting_at_the_wrong_published_answer_does_not_stay_there(chinchilla):
    wrong = {"E": 1.69, "A": 406.4, "B": 410.7, "alpha": 0.34, "beta": 0.28}
    table = drop_highest(chinchilla, "metric", 5)
    result = fit("joint", table, start=[wrong], interval="none")
    assert result.objective == pytest.approx(0.001018274018, abs=5e-13)


def test_isoflop_table_of_another_group():
    table = read_table(Path(FOLDER) / "isoflops_many_sources.csv")
    table = where(table, 'experiment == "ml_scalefit__massivetext__chinchilla"')
    table = map_columns(table, {"N": "params", "D": "tokens", "metric": "loss"})
    result = fit("joint", table, objective="huber_raw", interval="none")
    assert result.objective / len(table) == pytest.approx(13.1e-6, rel=5e-3)
    assert result.objective / len(table) <= 13.1e-6
