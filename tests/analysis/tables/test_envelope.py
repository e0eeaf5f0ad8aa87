"""Envelopes by name and the filters that say what they drop."""

import numpy as np
import pandas as pd
import pytest

from analysis import RunTable, TableError, envelope, fit, where
from analysis.__main__ import main
from analysis.tables.envelope import RULES
from analysis.tables.filters import cross_section, drop_highest, largest_compute


def cloud(seed=0, n=200):
    rng = np.random.default_rng(seed)
    x = 10 ** rng.uniform(8, 12, n)
    y = 3 * (x / 1e8) ** -0.1 * np.exp(rng.exponential(0.2, n))
    return RunTable(pd.DataFrame({"x": x, "metric": y}))


def test_pareto_front_is_what_nothing_cheaper_beats():
    table = cloud()
    front = envelope(table, "pareto")
    x, y = table.numbers("x"), table.numbers("metric")
    expected = [i for i in range(len(x)) if not ((x <= x[i]) & (y < y[i])).any()]
    assert list(front.frame.index) == expected
    assert front.dropped[0].count == len(table) - len(expected)


def test_one_budget_is_one_place_of_the_front_whatever_its_last_bits():
    n = np.geomspace(1e7, 1e9, 7)
    compute = np.r_[6 * n * (1e18 / 6 / n), 4 * n * (4e18 / 4 / n)]
    assert len(np.unique(compute)) > 2
    loss = 3 + np.tile((np.log(n) - np.log(1e8)) ** 2, 2) - np.repeat([0, 0.1], 7)
    front = envelope(RunTable(pd.DataFrame({"x": compute, "metric": loss})), "pareto")
    assert list(front.frame.index) == [3, 10]


def test_bins_follow_the_published_recipe():
    # Equal-width bins of log10 x up to max + pad, lowest value of each, at the bin's centre
    # (the recipe of the open CLIP scaling study), then a straight line in log-log.
    table = cloud()
    front = envelope(table, "bins", bins=5, pad=0.1)
    log_x, log_y = np.log10(table.numbers("x")), np.log10(table.numbers("metric"))
    _, edges = np.histogram(log_x, range=(log_x.min(), log_x.max() + 0.1), bins=5)
    which = np.digitize(log_x, edges)
    centres = [(edges[i] + edges[i + 1]) / 2 for i in range(5)]
    lowest = [log_y[which == i + 1].min() for i in range(5)]
    slope, offset = np.polyfit(centres, lowest, 1)
    result = fit("power", front, interval="none")
    assert result.parameters["c"] == pytest.approx(-slope, rel=1e-9)
    assert result.parameters["a"] == pytest.approx(10**offset, rel=1e-9)


def test_bins_point_keeps_the_run_where_it_is():
    table = cloud()
    front = envelope(table, "bins_point", bins=5)
    assert set(front.numbers("x")) <= set(table.numbers("x"))
    assert len(front) == 5


def test_quantile_keeps_a_share_of_each_bin():
    front = envelope(cloud(), "quantile", bins=4, quantile=0.2)
    assert 30 <= len(front) <= 60


def test_empty_bins_are_counted():
    table = RunTable(pd.DataFrame({"x": [1.0, 1.1, 1e6], "metric": [3.0, 2.9, 1.0]}))
    assert "empty" in envelope(table, "bins", bins=5).warnings[0]


def test_unknown_rule_lists_the_rules():
    with pytest.raises(TableError, match="pareto, bins"):
        envelope(cloud(), "best")


def test_where_reports_and_explains_mistakes():
    table = cloud()
    kept = where(table, "x > 1e10")
    assert len(kept) + kept.dropped[0].count == len(table)
    with pytest.raises(TableError, match="example"):
        where(table, "no_such_column > 3")
    with pytest.raises(TableError, match="true or false"):
        where(table, "x + 1")


def test_highest_losses_are_dropped_by_count():
    table = cloud()
    kept = drop_highest(table, "metric", 5)
    assert kept.numbers("metric").max() == np.sort(table.numbers("metric"))[-6]
    with pytest.raises(TableError, match="has 200 rows"):
        drop_highest(table, "metric", 200)


def test_cross_section_takes_the_level_where_most_sizes_are():
    frame = pd.DataFrame({"N": [1, 2, 3, 1, 2, 9], "D": [10, 10, 10.1, 20, 20, 40.0]}).astype(float)
    chosen = cross_section(RunTable(frame), vary="N", hold="D")
    assert list(chosen.numbers("N")) == [1, 2, 3]
    assert "where N varies most" in chosen.dropped[0].reason


def test_largest_compute_holds_out_ties_together():
    table = RunTable(pd.DataFrame({"C": [1.0, 2.0, 8.0, 8.0]}))
    assert list(largest_compute(table)) == [False, False, True, True]


@pytest.mark.parametrize("rule", RULES)
def test_the_frontier_of_a_metric_that_rises_keeps_its_best_runs(rule):
    x = np.repeat(np.geomspace(1e6, 1e9, 8), 5)
    best = 0.2 + 0.08 * np.log10(x / 1e6)
    accuracy = best - np.tile([0.0, 0.02, 0.05, 0.1, 0.12], 8)
    table = RunTable(pd.DataFrame({"x": x, "metric": accuracy}))
    kept = envelope(table, rule, bins=8, quantile=0.01)
    np.testing.assert_allclose(kept.numbers("metric"), best[::5])
    assert "highest values" in str(kept.dropped[-1])


def test_an_envelope_of_too_few_runs_is_refused(tmp_path, capsys):
    x = np.geomspace(1e6, 1e9, 10)
    frame = pd.DataFrame({"x": x, "loss": np.r_[2.0, np.linspace(4, 3, 9)]})
    frame.to_csv(tmp_path / "runs.csv", index=False)
    command = ["fit", str(tmp_path / "runs.csv"), "--law", "power", "--x", "x", "--loss", "loss"]
    assert main([*command, "--envelope", "pareto"]) == 2
    assert "keeps 1 of 10 rows, too few for a law" in capsys.readouterr().err
