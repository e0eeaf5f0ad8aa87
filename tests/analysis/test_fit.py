"""Known truths: parameters to eight digits, certificates, refusals, hold-outs, round trips."""

import json
import re

import numpy as np
import pandas as pd
import pytest

from analysis import LAWS, FitError, FitResult, TableError, fit
from analysis.optima.compute_optimal import ComputeRule, optimum_closed
from tests.helpers.planted import HOFFMANN, NATURAL, isoflop_grid


@pytest.mark.parametrize(
    "objective",
    ["huber", "log_least_squares", "least_squares", "absolute", "asymmetric", "huber_raw"],
)
def test_planted_joint_law_to_eight_digits(objective):
    result = fit("joint", isoflop_grid(), objective=objective, interval="none")
    assert result.parameters == pytest.approx(HOFFMANN, rel=1e-8)
    assert result.certificate.share_at_best > 0.2


@pytest.mark.parametrize(
    ("law", "columns"),
    [
        ("log_linear", "x"),
        ("power", "x"),
        ("power_floor", "x"),
        ("shifted_power", "x"),
        ("broken_power", "x"),
        ("joint_tied", "ND"),
        ("kaplan", "ND"),
        ("overtrain", "ND"),
        ("learning_curve", "NS"),
        ("sigmoid_link", "L"),
        ("exp_link", "L"),
    ],
)
def test_planted_laws_are_recovered(law, columns):
    from analysis import get_law

    rng = np.random.default_rng(3)
    if columns == "x":
        frame = pd.DataFrame({"x": np.geomspace(2.0, 1e7, 60)})
    elif columns == "L":
        frame = pd.DataFrame({"L": np.linspace(0.5, 6.0, 60)})
    else:
        frame = pd.DataFrame({"N": 10 ** rng.uniform(5, 10, 80)})
        frame[columns[1]] = 10 ** rng.uniform(
            2 if "S" in columns else 7, 11 - 4 * ("S" in columns), 80
        )
    truth = NATURAL[law]
    frame["metric"] = get_law(law).predict({c: frame[c].to_numpy() for c in columns}, truth)
    result = fit(law, frame, interval="none")
    if law == "sigmoid_link" and result.parameters["k"] * truth["k"] < 0:
        # chance and ceiling may swap with the sign of k: the same curve
        swapped = result.parameters
        result = result.replace(parameters={"chance": swapped["ceiling"],
                                            "ceiling": swapped["chance"],
                                            "k": -swapped["k"], "L0": swapped["L0"]})  # fmt: skip
    assert result.parameters == pytest.approx(truth, rel=1e-5)


def test_data_constrained_recovers_with_the_single_epoch_part_fixed():
    from analysis import get_law

    truth = NATURAL["data_constrained"]
    rng = np.random.default_rng(1)
    u = 10 ** rng.uniform(8, 10, 80)
    frame = pd.DataFrame({"N": 10 ** rng.uniform(7, 10, 80), "U": u,
                          "D": u * 10 ** rng.uniform(0, 1.8, 80)})  # fmt: skip
    frame["metric"] = get_law("data_constrained").predict(
        {c: frame[c].to_numpy() for c in "NDU"}, truth
    )
    fixed = {k: truth[k] for k in ("E", "A", "B", "alpha", "beta")}
    result = fit("data_constrained", frame, fix=fixed, interval="none")
    assert result.parameters == pytest.approx(truth, rel=1e-5)


def test_sum_and_mean_stop_at_the_same_answer():
    from analysis import get_objective

    frame = isoflop_grid(noise=0.01)
    total = fit("joint", frame, objective=get_objective("huber"), interval="none")
    mean = fit("joint", frame, objective=get_objective("huber", reduction="mean"), interval="none")
    assert total.parameters == mean.parameters
    assert total.objective == pytest.approx(mean.objective * len(frame), rel=1e-12)


def test_a_bad_start_does_not_hold_the_fit():
    frame = isoflop_grid(noise=0.01)
    bad = {"E": 0.5, "A": 3.0, "B": 5.0, "alpha": 0.05, "beta": 1.5}
    free = fit("joint", frame, interval="none")
    started = fit("joint", frame, start=[bad], interval="none")
    assert started.parameters == pytest.approx(free.parameters, rel=1e-6)
    assert started.certificate.starts == free.certificate.starts + 1


def test_certificate_says_how_the_optimum_was_reached():
    certificate = fit("joint", isoflop_grid(noise=0.01), interval="none").certificate
    assert certificate.converged
    assert certificate.starts >= 16
    assert certificate.gradient_norm < 1e-5
    assert certificate.improvement > 0
    assert certificate.at_bound == ()


def test_fixed_parameters_stay_and_the_rest_is_found():
    result = fit("joint", isoflop_grid(), fix={"E": 1.69, "alpha": 0.34}, interval="none")
    assert result.fixed == ("E", "alpha")
    assert result.parameters == pytest.approx(HOFFMANN, rel=1e-8)
    assert result.parameters["E"] == pytest.approx(1.69, rel=1e-15)


def test_amplitude_can_be_fixed_although_fits_are_centred():
    result = fit("joint", isoflop_grid(), fix={"A": 406.4}, interval="none")
    assert result.parameters == pytest.approx(HOFFMANN, rel=1e-7)


def test_standard_errors_weight_the_points():
    frame = isoflop_grid()
    frame["se"] = 0.001
    frame.loc[:15, "metric"] *= 1.5  # spoiled, and known to be worthless
    frame.loc[:15, "se"] = 1e3
    result = fit("joint", frame, error="se", objective="log_least_squares", interval="none")
    assert result.parameters == pytest.approx(HOFFMANN, rel=1e-3)


def test_floor_of_a_pure_power_law_is_reported_at_its_bound():
    x = np.geomspace(1, 1e5, 30)
    noise = np.exp(0.01 * np.random.default_rng(4).standard_normal(30))
    result = fit("power_floor", pd.DataFrame({"x": x, "metric": 5 * x**-0.2 * noise}))
    low = result.intervals["E"][0]
    assert low == 0 or result.parameters["E"] == 0
    assert any("E" in w for w in result.warnings)


def test_collinear_n_and_d_are_named():
    n = np.geomspace(1e6, 1e9, 20)
    loss = 1.69 + 406 * n**-0.34 + 411 * (20 * n) ** -0.28
    noise = np.exp(0.003 * np.random.default_rng(0).standard_normal(20))
    frame = pd.DataFrame({"N": n, "D": 20 * n, "metric": loss * noise})
    result = fit("joint", frame, interval="none", strict=False)
    assert any("collinear" in w and "large N and small D" in w for w in result.warnings)


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        (pd.DataFrame({"N": [], "D": [], "metric": []}), "no rows"),
        (
            pd.DataFrame({"N": [1e6, 2e6], "D": [1e8, 1e9], "metric": [3.0, 2.9]}),
            "5 free parameters",
        ),
    ],
)
def test_too_little_data_is_refused_with_the_remedy(frame, message):
    with pytest.raises((FitError, TableError), match=message):
        fit("joint", frame)


def test_one_size_is_named():
    frame = pd.DataFrame({"x": [1e6] * 6, "metric": [3.0, 3.1, 2.9, 3.0, 3.05, 2.95]})
    result = fit("power", frame, interval="none", strict=False)
    assert any("one value only" in w for w in result.warnings)


def test_as_many_points_as_parameters_gives_no_interval():
    x = np.array([1e6, 1e7, 1e8])
    result = fit("power_floor", pd.DataFrame({"x": x, "metric": 1 + 40 * x**-0.3}))
    assert all(v == (None, None) for v in result.intervals.values())
    assert any("no noise estimate" in w for w in result.warnings)


def test_held_out_runs_are_predicted_not_fitted():
    frame = isoflop_grid(noise=0.005)
    result = fit("joint", frame, hold_out="C > 1e21", bootstrap=200)
    held = result.held_out
    assert held["n"] == int((frame["C"] > 1e21).sum())
    assert result.n_points == len(frame) - held["n"]
    assert held["mean_absolute_relative_error"] < 0.02
    assert held["coverage_new"] > 0.8
    assert result.ranges()["N"][1] <= frame["N"].max()


def test_result_survives_a_trip_to_disk(tmp_path):
    frame = isoflop_grid(noise=0.01)
    result = fit("joint", frame, bootstrap=300, hold_out="C > 1e21")
    result.save(tmp_path / "fit.json")
    again = FitResult.load(tmp_path / "fit.json")
    assert again.to_dict() == result.to_dict()
    x = {"N": [1e9], "D": [2e10]}
    pd.testing.assert_frame_equal(again.predict(x), result.predict(x))
    stored = json.loads((tmp_path / "fit.json").read_text())
    for key in ("law", "parameters", "intervals", "standard_errors", "objective", "n_points",
                "dropped", "certificate", "warnings", "versions"):  # fmt: skip
        assert key in stored


def test_a_foreign_json_is_refused(tmp_path):
    (tmp_path / "x.json").write_text("{}")
    with pytest.raises(ValueError, match="schema"):
        FitResult.load(tmp_path / "x.json")
    (tmp_path / "y.json").write_text("not json")
    with pytest.raises(ValueError, match="not a fit"):
        FitResult.load(tmp_path / "y.json")


def test_hold_out_of_everything_is_refused():
    with pytest.raises(TableError, match="every row"):
        fit("joint", isoflop_grid(), hold_out="C > 0")


def test_units_that_look_wrong_are_counted():
    frame = isoflop_grid(budgets=4)
    frame["D"] /= 1e9
    result = fit("joint", frame, interval="none", strict=False)
    assert any("D < N/1000" in w for w in result.warnings)


@pytest.mark.parametrize("column", ["val_batch_size", "Eval Batch Size", "Tokenizer"])
def test_mixed_evaluation_batches_and_tokenizers_are_refused(column):
    frame = isoflop_grid(budgets=4).assign(objective="contrastive")
    frame[column] = [64, 128] * (len(frame) // 2)
    with pytest.raises(TableError, match=f"2 values of {column}"):
        fit("joint", frame)


def test_a_parameter_that_changes_nothing_is_named_and_has_no_interval():
    frame = isoflop_grid(budgets=5, points=6, noise=0.003)
    frame["U"] = frame["D"]  # nothing was ever repeated
    result = fit("data_constrained", frame, bootstrap=40, interval="rows")
    assert result.intervals["R_D"] == (None, None)
    assert any(w.startswith("R_D is not identified") for w in result.warnings)


def test_percent_are_no_share_of_a_link_and_the_remedy_is_named():
    loss = np.linspace(1.9, 3.2, 24)
    frame = pd.DataFrame({"L": loss, "metric": 100 / (1 + np.exp(3 * (loss - 2.5)))})
    with pytest.raises(TableError, match="metric / 100"):
        fit("sigmoid_link", frame)


def test_values_where_a_bounded_metric_levels_off_are_counted():
    x = np.geomspace(1e5, 1e9, 20)
    frame = pd.DataFrame({"x": x, "metric": np.minimum(0.89, 60 * x**-0.3)})
    result = fit("power", frame, bounds=(0.0, 0.9), interval="none")
    assert any("levels off" in w for w in result.warnings)


def test_a_joint_law_of_one_data_budget_is_refused():
    frame = isoflop_grid()
    one = frame.assign(D=1e9, metric=2.0 + 400 / frame["N"] ** 0.34)
    with pytest.raises(FitError, match="D takes one value only"):
        fit("joint", one)
    fixed = fit("joint", one, fix={"B": 410.7, "beta": 0.28}, interval="none")
    assert fixed.parameters["alpha"] == pytest.approx(0.34, abs=1e-3)


@pytest.mark.parametrize(
    ("column", "letter"),
    [("n_params_matmul", "N"), ("n_samples", "D"), ("flops_6nd", "C"), ("width", "x")],
)
def test_a_formula_calls_a_column_of_the_run_store_by_its_letter(column, letter):
    frame = pd.DataFrame({column: [1e3, 1e4, 1e5, 1e6], "loss": [5.0, 4.0, 3.3, 2.6]})
    found = fit("power", frame, "loss", columns={"x": column}, interval="none")
    assert re.fullmatch(rf"L = [\d.]+ {letter}\^-[\d.]+", found.formula())


@pytest.mark.parametrize("law", ["joint_outer", "kaplan_floor", "repeat_penalty", "exp_power"])
def test_laws_beyond_the_sum_are_recovered_from_exact_points(law):
    truth = NATURAL[law]
    n, d, u = (v.ravel() for v in np.meshgrid(
        np.geomspace(1e7, 1e9, 5), np.geomspace(1e9, 1e11, 5), [2e9, 3e10]))  # fmt: skip
    x = {"N": n, "D": d, "U": np.minimum(u, d), "x": np.geomspace(1e3, 1e9, n.size)}
    columns = {c: x[c] for c in LAWS[law]().columns}
    frame = pd.DataFrame({**columns, "loss": LAWS[law]().predict(columns, truth)})
    found = fit(law, frame, metric="loss", interval="none")
    assert found.predict(columns)["mean"].to_numpy() == pytest.approx(frame["loss"], rel=1e-6)
    for name in ("E", "k", "P", "rho", "a", "c", "alpha_N"):
        if name in truth:
            assert found.parameters[name] == pytest.approx(truth[name], rel=1e-2), name


def test_the_optimum_under_an_outer_exponent_equals_a_search():
    law, truth = LAWS["joint_outer"](), NATURAL["joint_outer"]
    n, d = optimum_closed(truth, "joint_outer", 1e21, ComputeRule())
    sizes = np.geomspace(n / 2, n * 2, 200_001)
    losses = law.predict({"N": sizes, "D": 1e21 / (6 * sizes)}, truth)
    assert sizes[np.argmin(losses)] == pytest.approx(n, rel=1e-4)
    assert 6 * n * d == pytest.approx(1e21)
