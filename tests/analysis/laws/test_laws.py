"""Laws: gradients against complex-step and finite differences, formulas, starts, user laws."""

import numpy as np
import pandas as pd
import pytest

from analysis import LAWS, Law, Parameter, fit, get_law
from analysis.laws.law import Law as BaseLaw
from analysis.laws.sums import SumLaw
from tests.helpers.planted import NATURAL

RNG = np.random.default_rng(0)
COLUMNS = {
    "x": np.geomspace(3.0, 1e6, 12),
    "N": np.geomspace(1e5, 1e9, 12),
    "D": np.geomspace(1e7, 3e10, 12)[::-1],
    "U": np.geomspace(1e7, 3e9, 12)[::-1],
    "S": np.geomspace(1e2, 1e5, 12),
    "L": np.linspace(1.5, 4.0, 12),
}


def columns_of(law: Law) -> dict[str, np.ndarray]:
    return {c: COLUMNS[c] for c in law.columns}


@pytest.mark.parametrize("name", LAWS)
def test_gradient_agrees_with_central_differences(name):
    law = get_law(name)
    x = columns_of(law)
    theta = law.encode(NATURAL[name])[None]
    _, jacobian = law.jacobian(theta, x)
    for j in range(theta.shape[1]):
        step = 1e-6 * max(1.0, abs(theta[0, j]))
        up, down = theta.copy(), theta.copy()
        up[0, j] += step
        down[0, j] -= step
        difference = (law.evaluate(up, x) - law.evaluate(down, x))[0] / (2 * step)
        np.testing.assert_allclose(jacobian[0, :, j], difference, rtol=2e-6, atol=1e-8)


@pytest.mark.parametrize("name", ["power_floor", "joint", "shifted_power", "exp_link"])
def test_written_gradient_equals_complex_step(name):
    law = get_law(name)
    p = {k: np.array([[v]]) for k, v in NATURAL[name].items()}
    written = law.gradient(p, columns_of(law))
    stepped = BaseLaw.gradient(law, p, columns_of(law))
    for key in law.names:
        np.testing.assert_allclose(
            np.broadcast_to(written[key], (1, 12)), np.broadcast_to(stepped[key], (1, 12)),
            rtol=1e-12, atol=1e-14,
        )  # fmt: skip


def test_overtrain_is_gadres_form_in_compute_and_multiplier():
    p = {"E": 1.5, "a": 100.0, "b": 200.0, "eta": 0.3}
    n, d = np.array([1e7, 3e8]), np.array([2e9, 1e10])
    m, c = d / n, 6 * n * d
    # Gadre et al. 2024, Eq. 4: E + (a' M^eta/2 + b' M^-eta/2) C^-eta/2, with a' = a 6^(eta/2).
    direct = 1.5 + 6**0.15 * (100 * m**0.15 + 200 * m**-0.15) * c**-0.15
    np.testing.assert_allclose(
        get_law("overtrain").predict({"N": n, "D": d}, p), direct, rtol=1e-12
    )


def test_data_constrained_equals_joint_without_repetition():
    p = NATURAL["data_constrained"]
    # N below what U can feed and D = U: nothing is repeated, nothing is in excess.
    x = {"N": np.array([1e6, 1e7]), "D": np.array([1e10, 1e11]), "U": np.array([1e10, 1e11])}
    joint = get_law("joint").predict(x, {k: p[k] for k in ("E", "A", "B", "alpha", "beta")})
    np.testing.assert_allclose(get_law("data_constrained").predict(x, p), joint, rtol=1e-12)


def test_repeated_data_are_worth_less_than_new_data():
    p = NATURAL["data_constrained"]
    law = get_law("data_constrained")
    x = {"N": np.array([1e7] * 2), "D": np.array([4e9] * 2), "U": np.array([4e9, 1e9])}
    new, repeated = law.predict(x, p)
    assert new < repeated < law.predict({**x, "D": np.array([1e9] * 2)}, p)[1]


def test_kaplan_tends_to_its_one_variable_laws():
    law, p = get_law("kaplan"), NATURAL["kaplan"]
    n = np.array([1e8])
    far = law.predict({"N": n, "D": np.array([1e30])}, p)
    np.testing.assert_allclose(far, (p["N_c"] / n) ** p["alpha_N"], rtol=1e-6)


def test_sigmoid_and_exponential_links_respect_chance():
    far = {"L": np.array([60.0])}
    assert get_law("sigmoid_link").predict(far, NATURAL["sigmoid_link"])[0] == pytest.approx(0.25)
    assert get_law("exp_link").predict(far, NATURAL["exp_link"])[0] == pytest.approx(0.9)


def test_a_law_of_your_own_takes_ten_lines(monkeypatch):
    monkeypatch.setattr("analysis.laws.LAWS", dict(LAWS))

    class Exponential(Law):
        name = "exponential"
        columns = ("x",)
        formula = "a exp(-x/b) + c"
        parameters = (Parameter("a"), Parameter("b"), Parameter("c"))

        def value(self, p, x):
            return p["a"] * np.exp(-x["x"] / p["b"]) + p["c"]

    x = np.linspace(0.1, 9, 30)
    frame = pd.DataFrame({"x": x, "metric": 3 * np.exp(-x / 2.5) + 0.4})
    result = fit(Exponential(), frame, interval="none")
    assert result.parameters == pytest.approx({"a": 3.0, "b": 2.5, "c": 0.4}, rel=1e-7)
    assert result.predict({"x": [2.5]})["mean"][0] == pytest.approx(3 / np.e + 0.4)
    assert "exponential: L = a exp(-x/b) + c" in result.summary()


def test_a_law_of_your_own_needs_a_name_of_its_own():
    class Mine(type(get_law("joint"))):
        pass

    with pytest.raises(ValueError, match="give Mine another"):
        fit(Mine(), pd.DataFrame({"N": [1.0], "D": [1.0], "metric": [1.0]}))


def test_unknown_law_names_the_known_ones():
    with pytest.raises(ValueError, match="power_floor"):
        get_law("no such law")


def test_every_law_has_formula_source_and_parameters():
    for name in LAWS:
        law = get_law(name)
        assert law.formula, name
        assert law.source, name
        assert law.parameters, name
        assert law.name == name
        if isinstance(law, SumLaw):
            assert law.terms
