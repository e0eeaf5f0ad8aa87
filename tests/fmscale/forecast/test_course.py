"""The verdict on a run, against planted laws."""

from __future__ import annotations

import dataclasses
import math
import random

import pytest

from fmscale.forecast.course import judge
from fmscale.forecast.reference import Reference, loss_at


def planted(n: float, d: float, noise: float, chance: random.Random) -> Reference:
    """A run under L = 20 N^-0.1 D^-0.1 at the end, 1.3 times that at 20 % of its budget."""
    end = 20 * n**-0.1 * d**-0.1 * math.exp(chance.gauss(0, noise))
    early = 1.3 * end * math.exp(chance.gauss(0, noise))
    return Reference(f"{n}-{d}", f"{n}-{d}", n, d, end, {0.2: early})


def study(noise: float, seed: int, sizes=(1e4, 1e5, 1e6), budgets=(1e6, 4e6)) -> list[Reference]:
    chance = random.Random(seed)
    return [planted(n, d, noise, chance) for n in sizes for d in budgets]


def look(references, n: float, d: float, loss: float):
    return judge(references, n_params=n, n_units=d, fraction=0.2, step=20, loss=loss)


def test_a_planted_law_is_forecast_and_a_run_above_it_flagged():
    references = study(noise=0.002, seed=1)
    end = 20 * (3e5) ** -0.1 * (8e6) ** -0.1
    good = look(references, 3e5, 8e6, 1.3 * end)
    assert good.end_by_law == pytest.approx(end, rel=0.02)
    assert good.end_by_curve == pytest.approx(end, rel=0.02)
    assert not good.off_course
    bad = look(references, 3e5, 8e6, 1.3 * end * 1.2)
    assert bad.off_course
    assert bad.end_by_curve == pytest.approx(1.2 * end, rel=0.02)
    assert "in place of" in bad.sentence


def test_one_good_run_in_a_hundred_is_flagged():
    flags, n_trials = 0, 2000
    for seed in range(n_trials):
        references = study(noise=0.02, seed=seed)
        own = planted(3e5, 2e6, 0.02, random.Random(10**6 + seed))
        flags += look(references, 3e5, 2e6, own.losses[0.2]).off_course
    assert 0.004 <= flags / n_trials <= 0.018  # 1 %, three standard errors of 2000 trials


def test_too_few_runs_give_no_verdict():
    assert look(study(0.01, 1)[:5], 3e5, 2e6, 3.0) is None
    assert look([], 3e5, 2e6, 3.0) is None


def test_runs_of_one_trunk_count_as_one():
    references = study(0.01, 1)
    trunks = [dataclasses.replace(r, trunk_id=str(r.n_params)) for r in references]
    assert look(references, 3e5, 2e6, 3.0) is not None
    assert look(trunks, 3e5, 2e6, 3.0) is None  # three sizes, three coefficients


def test_an_axis_on_which_the_study_has_one_value_is_not_extrapolated():
    references = study(0.01, 1, sizes=(1e4, 3e4, 1e5, 3e5, 1e6, 3e6), budgets=(1e6,))
    assert look(references, 3e5, 1e6, 3.0) is not None
    assert look(references, 3e5, 2e6, 3.0) is None


def test_the_loss_on_the_way_is_the_median_of_a_window():
    rows = [{"step": s, "train/loss": float(s)} for s in range(10, 110, 10)]
    rows.append({"step": 100, "val/loss": 1.0})
    assert loss_at(rows, 100) == 90.0  # of 80, 90, 100
    assert loss_at(rows, 20) is None
