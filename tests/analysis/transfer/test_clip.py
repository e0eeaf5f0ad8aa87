"""Equivalence, agreement, order and forgetting on tables whose answers are known."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

from analysis.__main__ import main
from analysis.plot.adaptation import (
    plot_agreement,
    plot_errors,
    plot_few_shot,
    plot_interpolation,
    plot_learning_order,
)
from analysis.tables.table import TableError
from analysis.transfer.clip import (
    accuracies,
    agreement,
    equivalences,
    interpolation,
    learning_order,
    longest_runs,
    median_and_mean,
    power_line,
)

KS = (1, 2, 4, 8, 16)


def run_with(zero_shot: dict[str, float], slope: float = 0.1, start: float = 0.2) -> pd.Series:
    """Probes gain `slope` with every doubling of K, from `start` at one example."""
    row = {}
    for task, value in zero_shot.items():
        row[f"zero_shot_{task}_accuracy"] = value
        row[f"probe_{task}_accuracy"] = start + 5 * slope
        for i, k in enumerate(KS):
            row[f"few_shot_{k}_{task}_accuracy"] = start + i * slope
    return pd.Series(row)


def test_equivalence_is_log_linear_in_k():
    found = {e.task: e for e in equivalences(run_with({"a": 0.4, "b": 0.45, "c": 0.1, "d": 0.9}))}
    assert found["a"].k == pytest.approx(4)
    assert found["b"].k == pytest.approx(4 * 2**0.5)
    assert (found["c"].k, found["c"].censored) == (1, "below")
    assert (found["d"].k, found["d"].censored) == (16, "above")
    assert [e.task for e in equivalences(run_with({"d": 0.9, "a": 0.4, "c": 0.1}))] == list("cad")


def test_median_and_mean_are_bounds_where_tasks_are_censored():
    whole = equivalences(run_with({"a": 0.2, "b": 0.3, "c": 0.5}))
    assert median_and_mean(whole) == ("2", "3.7")
    censored = equivalences(run_with({"a": 0.2, "b": 0.3, "c": 0.9}))
    assert median_and_mean(censored) == ("2", "> 6.3")  # (1 + 2 + more than 16) / 3


def test_a_probe_that_was_not_measured_is_missing_and_not_zero():
    run = run_with({"a": 0.4, "b": 0.4}).drop(
        [f"few_shot_{k}_b_accuracy" for k in KS] + ["probe_b_accuracy"]
    )
    assert [e.task for e in equivalences(run)] == ["a"]
    assert agreement(run).tasks == ["a"]


def test_agreement_is_pearsons_r_and_a_count():
    rng = np.random.default_rng(0)
    zero_shot, probe = rng.uniform(size=(2, 20))
    row = {f"zero_shot_t{i}_accuracy": z for i, z in enumerate(zero_shot)}
    row |= {f"probe_t{i}_accuracy": p for i, p in enumerate(probe)}
    found = agreement(pd.Series(row))
    assert found.r == pytest.approx(np.corrcoef(zero_shot, probe)[0, 1])
    assert found.n_within == (abs(zero_shot - probe) <= 0.03).sum()
    edge = agreement(pd.Series({"zero_shot_a_accuracy": 0.50, "probe_a_accuracy": 0.53}))
    assert (edge.n_within, edge.r) == (1, None)


def ladder() -> pd.DataFrame:
    """Two sizes at four budgets; early is learned at once, late never, middle at 2,000 * 2**0.5."""
    rows = []
    for model, n, gain in (("small", 100, 0.1), ("large", 1000, 0.0)):
        for i, d in enumerate((1000, 2000, 4000, 8000)):
            middle = (0.0, 0.25, 0.75, 1.0)[i]
            row = {"run_id": f"{model}-{d}", "model": model, "n_params_total": n, "n_samples": d,
                   "flops": 6.0 * n * d}  # fmt: skip
            for task, skill, chance in (("early", 0.9, 0.5), ("middle", middle, 0.2),
                                        ("late", 0.1, 0.0)):  # fmt: skip
                row[f"zero_shot_{task}_accuracy"] = chance + skill * (1 - chance) * (1 - gain)
                row[f"zero_shot_{task}_chance"] = chance
            row |= run_with({}).to_dict()
            for task in ("early", "middle", "late"):
                few = run_with({task: row[f"zero_shot_{task}_accuracy"]}).to_dict()
                row |= {k: v for k, v in few.items() if not k.startswith("zero_shot")}
            for percent, own, others in ((0, 0.3, 0.6), (50, 0.5, 0.55), (100, 0.7, 0.4)):
                row[f"interpolated_early_{percent:03d}_accuracy"] = own
                row[f"interpolated_early_{percent:03d}_others_accuracy"] = others
            rows.append(row)
    return pd.DataFrame(rows)


def test_tasks_are_learned_in_their_order():
    order = learning_order(ladder())
    assert order["task"].tolist() == ["early", "middle", "late"]
    assert order["censored"].tolist() == ["below", "", "above"]
    assert order["n_samples"][1] == pytest.approx(2000 * 2**0.5)


def test_a_power_law_is_found_through_its_points():
    x = np.array([1e9, 1e10, 1e12])
    assert power_line(x, 3 * x**-0.2) == pytest.approx((3, -0.2))


def test_each_size_is_its_longest_run_with_seeds_averaged():
    runs = ladder()
    again = runs.assign(zero_shot_late_accuracy=0.3)
    found = longest_runs(pd.concat([runs, again]))
    assert found["model"].tolist() == ["small", "large"]
    assert (found["n_samples"] == 8000).all()
    assert found["zero_shot_late_accuracy"][1] == pytest.approx((0.1 + 0.3) / 2)


def test_curves_of_mixed_weights_are_read_by_alpha():
    curve = interpolation(ladder().iloc[0])["early"]
    assert curve["alpha"].tolist() == [0, 0.5, 1]
    assert curve["others"].tolist() == [0.6, 0.55, 0.4]


def test_way_of_a_column_is_told_from_its_task():
    frame = pd.DataFrame({"few_shot_1_count_accuracy": [0.1], "few_shot_16_count_accuracy": [0.2]})
    assert accuracies(frame, "few_shot_1")["count"].tolist() == [0.1]
    with pytest.raises(TableError, match="evaluation=adaptation"):
        accuracies(frame, "probe")


def test_figures_show_the_data_on_labelled_axes():
    runs = ladder()
    few = plot_few_shot(runs.iloc[-1])
    assert "median" in few.axes[1].get_title(loc="left")
    assert [t.get_text() for t in few.axes[1].get_yticklabels()] == ["late", "early", "middle"]
    agree = plot_agreement(runs.iloc[-1]).axes[0]
    assert "within 3 points" in agree.get_title(loc="left")
    errors = plot_errors(runs).axes[0]
    assert {t.get_text() for t in errors.texts} == {
        "small", "large", "early", "middle (no error)", "late"
    }  # fmt: skip
    assert errors.get_xscale() == errors.get_yscale() == "log"
    assert len(errors.lines) == 3 + 1  # each task and the mean's law
    order = plot_learning_order(runs).axes[0]
    assert order.get_legend().get_texts()[0].get_text() == "early  < 1k"
    mixed = plot_interpolation(runs).axes[0]
    assert len(mixed.lines) == 2
    for ax in (*few.axes, agree, errors, order, mixed):
        assert ax.get_xlabel()


def test_the_command_prints_and_draws(tmp_path, capsys):
    path = tmp_path / "runs.csv"
    ladder().to_csv(path, index=False)
    out = tmp_path / "figures"
    code = main(["adaptation", str(path), "--out", str(out), "--json", str(tmp_path / "a.json")])
    assert code == 0
    text = capsys.readouterr().out
    assert "fine-tuned on early 0.300 -> 0.700, others 0.600 -> 0.400" in text
    names = {p.name for p in out.iterdir()}
    assert names == {"errors.png", "learning_order.png", "few_shot.png", "agreement.png",
                     "interpolation.png"}  # fmt: skip
    found = json.loads((tmp_path / "a.json").read_text())
    assert found["run_id"] == "large-8000"
    assert main(["adaptation", str(path), "--run", "small"]) == 2  # several begin so
    assert main(["adaptation", str(path), "--run", "small-1000"]) == 0


def test_a_table_of_other_models_is_refused(tmp_path, capsys):
    path = tmp_path / "gpt.csv"
    path.write_text("run_id,model,flops\na,b,1\n")
    assert main(["adaptation", str(path)]) == 2
    assert "n_samples" in capsys.readouterr().err
