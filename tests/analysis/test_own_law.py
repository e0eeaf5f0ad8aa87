"""A law from outside the package: every verb takes it, and a saved fit of it works elsewhere."""

import json
import sys

import numpy as np
import pandas as pd
import pytest

from analysis import LAWS, Law, fit
from analysis.__main__ import main
from tests.helpers.planted import write_study

SOURCE = """
import numpy as np
from analysis import Law, Parameter

class Saturating(Law):
    name, columns, formula = "saturating", ("x",), "a / (1 + (x/b)^c) + d"
    color = "#123456"
    parameters = tuple(Parameter(n, guess=g) for n, g in (
        ("a", (0.1, 10)), ("b", (1e3, 1e9)), ("c", (0.1, 2)), ("d", (0.1, 10))))

    def value(self, p, x):
        return p["a"] / (1 + np.exp(p["c"] * (np.log(x["x"]) - np.log(p["b"])))) + p["d"]

class Halves(Law):
    name, columns, formula = "halves", ("N", "D"), "E + (A/N)^(1/2) + (B/D)^(1/2)"
    standard = True
    separable = ("A", "B", "alpha", "beta")
    parameters = tuple(Parameter(n, guess=(1e-3, 1e9)) for n in "EAB")

    def value(self, p, x):
        return p["E"] + (p["A"] / x["N"]) ** 0.5 + (p["B"] / x["D"]) ** 0.5

class Nameless(Law):
    parameters = (Parameter("a"),)

    def value(self, p, x):
        return p["a"]

class Joint(Halves):
    name = "joint"
"""
TRUTH = {"a": 3.0, "b": 2e6, "c": 0.6, "d": 1.4}


@pytest.fixture
def mylab(tmp_path, monkeypatch):
    (tmp_path / "mylab").mkdir()
    (tmp_path / "mylab" / "laws.py").write_text(SOURCE)
    (tmp_path / "mylab" / "broken.py").write_text("1 / 0")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [p for p in sys.path if p])
    yield tmp_path
    forget()


def forget():
    """As another process begins: nothing of the law is imported."""
    for name in ("saturating", "halves"):
        LAWS.pop(name, None)
    for name in ("mylab", "mylab.laws", "mylab.broken"):
        sys.modules.pop(name, None)


def write_points(path):
    x = np.geomspace(1e4, 1e9, 24)
    loss = TRUTH["a"] / (1 + (x / TRUTH["b"]) ** TRUTH["c"]) + TRUTH["d"]
    noise = 0.001 * np.random.default_rng(0).standard_normal(x.size)
    pd.DataFrame({"flops": x, "loss": loss * np.exp(noise)}).to_csv(path, index=False)


def test_it_is_fitted_saved_drawn_and_forecast(mylab, capsys):
    write_points("points.csv")
    where = ["points.csv", "--x", "flops", "--loss", "loss"]
    law = ["--law", "mylab.laws:Saturating", "--bootstrap", "50"]
    assert main(["fit", *where, *law, "--json", "fit.json"]) == 0
    stored = json.loads((mylab / "fit.json").read_text())
    assert stored["law"] == "saturating"
    for name, value in TRUTH.items():
        assert stored["parameters"][name] == pytest.approx(value, rel=0.02)
        assert None not in stored["intervals"][name]
    forget()
    assert main(["plot", "fit.json", "--out", "fit.svg"]) == 0
    assert "#123456" in (mylab / "fit.svg").read_text()
    forget()
    assert main(["forecast", "fit.json", "--flops", "1e8", "--json", "forecast.json"]) == 0
    there = TRUTH["a"] / (1 + (1e8 / TRUTH["b"]) ** TRUTH["c"]) + TRUTH["d"]
    answer = json.loads((mylab / "forecast.json").read_text())
    assert answer["loss"] == pytest.approx(there, rel=2e-3)
    forget()
    laws = "power_floor,mylab.laws:Saturating"
    assert main(["compare", *where, "--laws", laws, "--json", "compare.json"]) == 0
    rows = {row["law"]: row for row in json.loads((mylab / "compare.json").read_text())["laws"]}
    assert rows["saturating"]["delta_aicc"] == 0 < rows["power_floor"]["delta_aicc"]


def test_a_report_draws_it_in_the_panels_of_its_variables(mylab, capsys):
    study = write_study(mylab / "runs" / "gpt_planted", sizes=(2e4, 1e5, 5e5, 2e6),
                        budgets=(1e6, 3e6, 9e6, 2.7e7))  # fmt: skip
    own = "mylab.laws:Halves"
    out = ["--out", "report", "--bootstrap", "20"]
    assert main(["report", str(study), *out, "--laws", own]) == 0
    cards = {
        p.stem.rpartition("gpt_planted_val_loss_")[2] for p in (mylab / "report/cards").glob("*")
    }
    assert "joint_halves" in cards
    assert "vs_N_halves" not in cards
    assert "halves" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("law", "problem"),
    [
        ("nolab.laws:Saturating", "No module named 'nolab'"),
        ("mylab.laws:Missing", "has no attribute 'Missing'"),
        ("mylab.laws:np", "no subclass of analysis.Law"),
        ("mylab.laws:Nameless", "a law has a name and parameters"),
        ("mylab.broken:Law", "ZeroDivisionError"),
        ("mylab.laws:Joint", "there is a law named 'joint': give Joint another"),
        ("saturated", "MODULE:CLASS of your own"),
    ],
)
def test_what_is_no_law_is_named_in_one_line(mylab, capsys, law, problem):
    write_points("points.csv")
    assert main(["fit", "points.csv", "--x", "flops", "--loss", "loss", "--law", law]) == 2
    error = capsys.readouterr().err
    assert problem in error
    assert error.count("\n") == 1


def test_a_law_that_no_import_finds_is_missed_by_name():
    class Hidden(type(LAWS["power"]())):
        name = "hidden"

    try:
        frame = pd.DataFrame({"x": [1.0, 2.0, 4.0, 9.0], "metric": [4.0, 3.0, 2.2, 1.5]})
        result = fit(Hidden(), frame, interval="none")
        assert result.law_class is None
    finally:
        LAWS.pop("hidden")
    with pytest.raises(ValueError, match="law='hidden': choose one of"):
        result.predict({"x": [3.0]})


def test_what_a_law_says_of_itself_is_what_tables_and_fans_use():
    for name, make in LAWS.items():
        law = make()
        assert isinstance(law, Law)
        assert set(law.separable) <= set(law.names), name
        assert all(other in LAWS for other in law.relatives), name
        assert len(law.example) == len(law.names), name
