"""The gain of one recipe over another: published answers, planted ladders, and what it refuses."""

import json

import numpy as np
import pandas as pd
import pytest

from analysis.__main__ import main
from analysis.gain import Ladder, gain
from analysis.tables.table import TableError

# A public ladder of two recipes, floor 1.6 and exponent 0.0941 (loss in nats, speed in tokens/s).
COMPUTE = np.array([2.19e17, 1.70e18, 9.00e18, 2.83e19])
BASE = np.array([3.8104, 3.4339, 3.1605, 3.0065])
OTHER = np.array([3.7542, 3.3988, 3.1357, 2.9888])
SPEED = np.array([405630.0, 273532.0, 175165.0, 128277.0])


def ladders(floor, ratio, n, noise, rng, slope=0.094):
    """Two planted ladders; `other` needs 1 / ratio of the compute everywhere."""
    compute = np.geomspace(1e17, 3e19, n)

    def losses(times):
        clean = floor + 10 * (times * compute / 1e10) ** -slope
        return clean * np.exp(noise * rng.standard_normal(n))

    return Ladder("a", compute, losses(1.0)), Ladder("b", compute, losses(ratio))


def test_gains_at_the_rungs_are_the_published_ones():
    found = gain(Ladder("a", COMPUTE, BASE), Ladder("b", COMPUTE, OTHER), floor=1.6, alpha=0.0941)
    gains = [rung["gain"] for rung in found.rungs]
    assert gains == pytest.approx([1.315, 1.228, 1.186, 1.144], abs=1e-3)


def test_hours_count_the_speed_of_each_recipe():
    speed = np.array([404371.0, 272679.0, 175706.0, 128375.0])
    other = np.array([3.8002, 3.4026, 3.1420, 2.9850])
    found = gain(
        Ladder("a", COMPUTE, BASE, SPEED), Ladder("b", COMPUTE, other, speed),
        floor=1.6, alpha=0.0941,
    )  # fmt: skip
    hours = [rung["hours"] for rung in found.rungs]
    assert hours == pytest.approx([1.047, 1.197, 1.139, 1.179], abs=1e-3)
    assert found.hours == pytest.approx(found.at_target * 128375 / 128277)


def test_a_gain_that_shrinks_with_scale_is_said_and_turns_into_a_loss():
    base, other = Ladder("a", COMPUTE, BASE), Ladder("b", COMPUTE, OTHER)
    tied = gain(base, other, floor=1.6, alpha=(0.0941, 0.0906), target=1e21)
    assert tied.verdict == "not yet"
    assert tied.low < 1 < tied.high
    assert "gain shrinks with scale, from 1.3" in tied.reason
    worse = gain(base, other, floor=1.6, alpha=(0.0941, 0.0906), target=1e23)
    assert worse.verdict == "reject"
    lost = [law["E"] + law["A"] * 1e23 ** -law["alpha"] for law in worse.laws.values()]
    assert lost[1] - lost[0] == pytest.approx(0.011, abs=1e-3)


def test_without_noise_the_planted_gain_is_found():
    for floor in (1.6, "shared", "free"):
        found = gain(*ladders(1.6, 1.3, 6, 0.0, np.random.default_rng(0)), floor=floor, target=1e21)
        assert found.at_target == pytest.approx(1.3, rel=1e-3)


@pytest.mark.parametrize(("floor", "n"), [(1.6, 5), ("shared", 6)])
def test_the_interval_covers_and_few_recipes_are_adopted_by_chance(floor, n):
    rng = np.random.default_rng(7)
    found = [gain(*ladders(1.6, 1.0, n, 0.003, rng), floor=floor, target=1e21) for _ in range(40)]
    covered = [(g.low or 0) <= 1 <= (g.high or np.inf) for g in found]
    assert sum(covered) >= 34  # of 40: fewer have a chance of 0.3 % at a coverage of 95 %
    assert sum(g.verdict == "adopt" for g in found) <= 5  # expected: 1


def test_what_would_decide_is_named_and_decides_more_the_more_it_costs():
    rng = np.random.default_rng(3)
    found = gain(*ladders(1.6, 1.1, 5, 0.003, rng), floor=1.6, target=1e21)
    assert found.verdict == "not yet"
    assert found.next_run["compute"] <= 1e21 * (1 + 1e-9)
    assert np.log(found.next_run["high"] / found.next_run["low"]) < np.log(found.high / found.low)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"floor": 3.0}, "below every loss"),
        ({"floor": "none"}, "a number, or one of shared, free"),
        ({"level": 95}, "level=95 must be between 0 and 1"),
        ({"target": -1.0}, "must be positive"),
    ],
)
def test_bad_options_are_refused(options, message):
    with pytest.raises(TableError, match=message):
        gain(Ladder("a", COMPUTE, BASE), Ladder("b", COMPUTE, OTHER), **options)


def test_as_many_parameters_as_runs_give_no_interval():
    base, other = Ladder("a", COMPUTE[:2], BASE[:2]), Ladder("b", COMPUTE[:2], OTHER[:2])
    found = gain(base, other, floor=1.6)
    assert (found.low, found.high, found.verdict) == (None, None, "not yet")
    assert "no more runs than parameters" in found.reason


def test_the_command_puts_the_verdict_first_and_draws_it(tmp_path, capsys):
    rows = [("adamw", c, b, v) for c, b, v in zip(COMPUTE, BASE, SPEED, strict=True)]
    rows += [("muon", c, o, v) for c, o, v in zip(COMPUTE, OTHER, SPEED, strict=True)]
    pd.DataFrame(rows, columns=["recipe", "flops", "loss", "tps"]).to_csv(tmp_path / "t.csv")
    figure, answer = tmp_path / "gain.png", tmp_path / "gain.json"
    assert main([
        "gain", str(tmp_path / "t.csv"), "--by", "recipe", "--c", "flops", "--loss", "loss",
        "--floor", "1.6", "--alpha", "0.0941", "--throughput", "tps",
        "--plot", str(figure), "--json", str(answer),
    ]) == 0  # fmt: skip
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("Adopt: at 2.83e+19 FLOPs adamw needs 1.")
    assert max(map(len, lines)) <= 80
    first = json.loads(answer.read_text())["rungs"][0]
    assert first["gain"] == pytest.approx(1.3148, abs=1e-4)
    assert figure.stat().st_size > 5000


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "name two tables, or one and the column"),
        (["--by", "flops"], "has 4 values"),
        (["--by", "recipe", "--base", "sgd"], "recipe is adamw or muon"),
        (["--by", "recipe", "--alpha", "0"], "one positive number"),
    ],
)
def test_the_command_names_what_it_needs(tmp_path, capsys, options, message):
    rows = [("adamw", c, loss) for c, loss in zip(COMPUTE, BASE, strict=True)]
    rows += [("muon", c, loss) for c, loss in zip(COMPUTE, OTHER, strict=True)]
    pd.DataFrame(rows, columns=["recipe", "flops", "loss"]).to_csv(tmp_path / "t.csv")
    command = ["gain", str(tmp_path / "t.csv"), "--c", "flops", "--loss", "loss"]
    assert main([*command, *options]) == 2
    assert message in capsys.readouterr().err


def test_runs_of_one_budget_are_one_rung_whatever_its_last_bits(tmp_path, capsys):
    frames = {}
    for name, factor in (("a", 1.0), ("b", 0.9)):
        grid = np.meshgrid(np.geomspace(1e7, 1e9, 5), 10.0 ** np.arange(17, 22))
        n, budget = (axis.ravel() for axis in grid)
        spread = 1 + 0.02 * np.log(n / 1e8) ** 2
        frames[name] = pd.DataFrame({"flops": 6 * n * (budget / 6 / n),
                                     "loss": factor * 60 * budget**-0.07 * spread})  # fmt: skip
        frames[name].to_csv(tmp_path / f"{name}.csv", index=False)
    assert frames["a"]["flops"].nunique() > 5
    tables = [str(tmp_path / f"{name}.csv") for name in frames]
    to = tmp_path / "gain.json"
    ask = ["gain", *tables, "--c", "flops", "--loss", "loss", "--target", "1e22"]
    assert main([*ask, "--json", str(to)]) == 0
    rungs = json.loads(to.read_text())["rungs"]
    assert [rung["compute"] for rung in rungs] == pytest.approx(10.0 ** np.arange(17, 22))
