"""Choice among candidates for laws of any variables: brute force, chance, a planted law."""

import json

import numpy as np
import pandas as pd
import pytest

from analysis.__main__ import main
from analysis.forecasting.choice import PRICE_POWER, Fits, Mode, Pool, choose_runs, fit_law
from analysis.laws import Law, Parameter, get_law
from analysis.solver.global_fit import FitError


class Experts(Law):
    name, columns = "experts", ("E", "N", "D")
    parameters = (
        Parameter("F", guess=(0.5, 3)), Parameter("A", guess=(0.1, 10)),
        Parameter("B", guess=(0.1, 10)), Parameter("a", False, (0.1, 1.0)),
        Parameter("b", False, (0.1, 1.0)), Parameter("e", False, (0.0, 0.5)),
    )  # fmt: skip

    def value(self, p, x):
        size = p["A"] * np.exp(-p["a"] * np.log(x["N"]) - p["e"] * np.log(x["E"]))
        return p["F"] + size + p["B"] * np.exp(-p["b"] * np.log(x["D"]))


EXPERTS = Experts()
TRUTH = {"F": 1.7, "A": 0.9, "B": 0.7, "a": 0.35, "b": 0.4, "e": 0.15}
TARGETS = {"E": np.array([64.0, 128.0]), "N": np.full(2, 60.0), "D": np.full(2, 90.0)}


def grid(e=4, n=5, d=5):
    axes = 2.0 ** np.arange(e), np.geomspace(0.1, 10, n), np.geomspace(0.1, 10, d)
    places = [axis.ravel() for axis in np.meshgrid(*axes, indexing="ij")]
    return dict(zip("END", places, strict=True))


def rows(x, index):
    return {c: v[index] for c, v in x.items()}


def measured(x, rng, noise=0.003):
    y = EXPERTS.predict(x, TRUTH)
    return y * np.exp(noise * rng.standard_normal(len(y)))


def brute_force(theta, fits, seen, pool, each):
    """Variance at the targets after each candidate, from the whole information matrix."""

    def slopes(x):
        value, jac = EXPERTS.jacobian(theta[None], x)
        return (jac / value[..., None])[0]

    known = slopes(seen).T @ slopes(seen) / fits.noise + np.diag(fits.prior)
    at_targets, out = slopes(pool.targets), []
    for candidate in slopes(pool.x).reshape(len(pool.price), each, -1):
        covariance = np.linalg.inv(known + candidate.T @ candidate / fits.noise)
        out.append(np.trace(at_targets @ covariance @ at_targets.T))
    return np.array(out)


@pytest.mark.parametrize("each", [1, 2])
def test_gains_equal_those_of_the_whole_information_matrix(each):
    x, rng = grid(3, 4, 4), np.random.default_rng(0)
    seen, pool = rows(x, slice(0, 12)), Pool(rows(x, slice(12, 48)), np.ones(36 // each), TARGETS)
    fits = fit_law(EXPERTS, seen, measured(seen, rng))
    mode = Mode(EXPERTS, fits, 0, seen, pool)
    for taken in (3, 0):
        left = brute_force(fits.theta[0], fits, seen, pool, each)
        assert mode.variance - mode.gains() == pytest.approx(left, rel=1e-6)
        mode.take(taken)
        own = slice(taken * each, (taken + 1) * each)
        seen = {c: np.r_[seen[c], pool.x[c][own]] for c in seen}
    assert mode.variance == pytest.approx(left[0], rel=1e-6)


def test_the_first_run_is_the_best_for_its_price_of_a_small_pool():
    x, rng = grid(3, 3, 3), np.random.default_rng(1)
    seen, rest = rows(x, slice(0, 14)), rows(x, slice(14, 27))
    fits = fit_law(EXPERTS, seen, measured(seen, rng))
    one = Fits(fits.theta[:1], np.ones(1), fits.noise, fits.prior)
    pool = Pool(rest, rest["E"] * rest["N"] * rest["D"], TARGETS)
    now = Mode(EXPERTS, one, 0, seen, pool).variance
    left = brute_force(one.theta[0], one, seen, pool, 1)
    chosen = choose_runs(EXPERTS, one, seen, pool, pool.price.max())
    assert chosen.runs[0] == np.argmax((now - left) / pool.price**PRICE_POWER)
    assert chosen.spread[0] == pytest.approx(np.sqrt(left[chosen.runs[0]] / now))
    assert np.all(np.diff(chosen.spread) < 0)
    assert chosen.price == pytest.approx(pool.price[list(chosen.runs)].sum())
    assert chosen.price <= pool.price.max()
    free = np.ones(13, dtype=bool)
    free[chosen.runs[0]] = False
    again = choose_runs(EXPERTS, one, seen, pool, pool.price.max(), free, worth=0.05)
    assert chosen.runs[0] not in again.runs
    assert "5%" in again.reason or "budget" in again.reason
    assert choose_runs(EXPERTS, one, seen, pool, 1e-9).runs == ()
    assert choose_runs(EXPERTS, one, seen, pool, 1e9, most=2).runs[0] == chosen.runs[0]


def test_on_a_planted_law_of_three_variables_chosen_runs_beat_drawn_ones():
    x = grid()
    price = x["E"] * x["N"] * x["D"]
    truth, errors = np.log(EXPERTS.predict(TARGETS, TRUTH)), {"chosen": [], "drawn": []}
    for seed in range(6):
        rng = np.random.default_rng(seed)
        y, first = measured(x, rng), np.argsort(price)[:20]
        budget = 0.1 * price.sum()
        free = np.ones(len(price), dtype=bool)
        free[first] = False
        fits = fit_law(EXPERTS, rows(x, first), y[first])
        chosen = choose_runs(EXPERTS, fits, rows(x, first), Pool(x, price, TARGETS), budget, free)
        drawn, left = [], budget
        for run in rng.permutation(np.flatnonzero(free)):
            if price[run] <= left:
                drawn.append(run)
                left -= price[run]
        for name, runs in (("chosen", list(chosen.runs)), ("drawn", drawn)):
            taken = np.r_[first, runs]
            theta = fit_law(EXPERTS, rows(x, taken), y[taken]).theta[:1]
            errors[name].append(np.log(EXPERTS.evaluate(theta, TARGETS)[0]) - truth)
    size = {name: np.sqrt(np.mean(np.square(e))) for name, e in errors.items()}
    print(size)
    assert size["chosen"] < 0.8 * size["drawn"]


class Straight(Law):
    name, positive, columns = "straight", False, ("x",)
    parameters = (Parameter("a", False, (-5, 5)), Parameter("b", False, (-5, 5)))

    def value(self, p, x):
        return p["a"] + p["b"] * x["x"]


def test_a_straight_line_is_told_best_at_its_ends_and_is_fitted_exactly():
    x = np.array([-0.1, 0.0, 0.1])
    fits = fit_law(Straight(), {"x": x}, 1 - 2 * x)
    assert fits.theta[0] == pytest.approx([1, -2], abs=1e-6)
    pool = Pool({"x": np.linspace(-1, 1, 9)}, np.ones(9), {"x": np.array([3.0])})
    assert choose_runs(Straight(), fits, {"x": x}, pool, 1.0).runs == (8,)
    assert fit_law(Straight(), {"x": np.zeros(1)}, np.ones(1)).noise > 0


def test_a_law_that_is_nowhere_finite_is_refused():
    class Broken(Straight):
        def value(self, p, x):
            return p["a"] * np.nan * x["x"]

    with pytest.raises(FitError, match="finite"):
        fit_law(Broken(), {"x": np.ones(3)}, np.ones(3))


def test_laws_of_the_product_serve_as_they_are():
    law, rng = get_law("data_constrained"), np.random.default_rng(0)
    truth = {"E": 1.8, "A": 500, "B": 2000, "alpha": 0.35, "beta": 0.36, "R_D": 15, "R_N": 5}
    n, d, u = (a.ravel() for a in np.meshgrid(
        np.geomspace(1e7, 1e9, 4), np.geomspace(1e9, 1e11, 4), [1e9, 1e10]))  # fmt: skip
    x = {"N": n, "D": d, "U": np.minimum(u, d)}
    names = {p.name for p in law.parameters}
    y = law.predict(x, {k: v for k, v in truth.items() if k in names})
    y = y * np.exp(0.002 * rng.standard_normal(len(y)))
    known = np.argsort(n * d)[:16]
    targets = {"N": np.array([3e9]), "D": np.array([3e11]), "U": np.array([1e10])}
    fits = fit_law(law, rows(x, known), y[known])
    chosen = choose_runs(law, fits, rows(x, known), Pool(x, 6 * n * d, targets), 1e21)
    assert chosen.runs
    assert chosen.spread[-1] < 0.9


@pytest.fixture
def tables(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my_laws.py").write_text(
        "from tests.analysis.forecasting.test_choice import Experts\nclass Other: pass\n"
    )
    x = grid(3, 4, 4)
    frame = pd.DataFrame({"experts": x["E"], "size": x["N"], "tokens": x["D"]})
    frame["price"] = frame.experts * frame["size"] * frame.tokens
    order = np.argsort(frame["price"], kind="stable")
    known = frame.iloc[order[:24]].assign(
        loss=measured(rows(x, order[:24]), np.random.default_rng(2))
    )  # fmt: skip
    known.to_csv("runs.csv", index=False)
    frame.iloc[order[24:]].to_csv("grid.csv", index=False)
    pd.DataFrame({"experts": [64], "size": [60], "tokens": [90]}).to_csv("large.csv", index=False)
    return frame.iloc[order[24:]].reset_index(drop=True)


ASK = ["next", "runs.csv", "--law", "my_laws:Experts", "--x", "experts,size,tokens",
       "--candidates", "grid.csv", "--cost", "price", "--targets", "large.csv", "--loss", "loss",
       "--budget", "300"]  # fmt: skip


def test_a_law_of_the_users_own_is_answered_with_runs(tables, capsys):
    assert main([*ASK, "--json", "next.json"]) == 0
    with open("next.json") as file:
        answer = json.load(file)
    assert answer["runs"]
    assert answer["price"] == pytest.approx(sum(run["price"] for run in answer["runs"]))
    assert answer["price"] <= 300
    for run in answer["runs"]:
        at = [run["experts"], run["size"], run["tokens"]]
        same = np.abs(tables[["experts", "size", "tokens"]] - at).max(axis=1)
        assert tables["price"][same.argmin()] == pytest.approx(run["price"])
    narrowing = [run["narrowing"] for run in answer["runs"]]
    assert narrowing == sorted(narrowing, reverse=True)
    out = capsys.readouterr().out
    assert "of now" in out
    assert all(len(line) <= 80 for line in out.splitlines())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"--law": "my_laws:Nothing"}, "law='my_laws:Nothing'"),
        ({"--law": "no_module:Law"}, "no_module"),
        ({"--law": "my_laws:Other"}, "no subclass of analysis.Law"),
        ({"--law": "unknown"}, "choose one of"),
        ({"--x": "experts,size"}, "law experts is of E, N, D"),
        ({"--cost": "dollars"}, "'dollars' is not in"),
        ({"--targets": "none.csv"}, "none.csv: no such file"),
        ({"--budget": "0"}, "a positive number"),
        ({"--candidates": None}, "--law needs --candidates"),
        ({"--x": "experts,size,loss"}, "'loss' is not in grid.csv"),
        ({"--law": None}, "go with --law"),
    ],
)
def test_bad_questions_end_with_one_line(tables, capsys, change, message):
    words = dict(zip(ASK[2::2], ASK[3::2], strict=True)) | change
    options = [word for pair in words.items() if pair[1] is not None for word in pair]
    assert main(["next", "runs.csv", *options]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
