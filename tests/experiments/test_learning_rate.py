"""The tuning studies' arithmetic, on a planted optimum."""

import numpy as np
import pandas as pd
import pytest

from experiments.learning_rate import edge_warnings, main, power_rule, vertex
from fmscale.planning.rules import LearningRateRule, Setting, read_rule

RATES = np.array([1e-3, 2e-3, 4e-3, 8e-3, 1.6e-2])


def test_a_planted_parabola_is_found():
    losses = 2 + 0.3 * (np.log(RATES) - np.log(5e-3)) ** 2
    optimum, bracketed, _ = vertex(RATES, losses)
    assert bracketed
    assert optimum == pytest.approx(5e-3, rel=1e-9)


def test_an_optimum_at_the_end_of_the_grid_is_only_a_bound():
    assert vertex(RATES, -RATES)[:2] == (1.6e-2, False)


def test_a_planted_rule_is_recovered_without_the_bounds():
    n = np.array([1e3, 1e4, 1e5, 1e6])
    table = pd.DataFrame(
        {"n_params_non_embedding": n, "lr_best": 4e-3 * (n / 1e5) ** -0.3, "bracketed": True}
    )
    edge = pd.DataFrame({"n_params_non_embedding": [10], "lr_best": [1.0], "bracketed": [False]})
    rule = power_rule(pd.concat([table, edge]))
    assert rule["exponent"] == pytest.approx(0.3)
    assert rule["lr_ref"] == pytest.approx(4e-3)
    assert rule["n_at_the_edge"] == 1


def test_a_rule_in_size_and_data_is_recovered_with_its_errors():
    rows = [
        {"n_params_non_embedding": n, "n_tokens": d, "bracketed": True,
         "lr_best": 4e-3 * (n / 1e5) ** -0.3 * (d / 524_288) ** 0.2}
        for n in (1e3, 1e4, 1e5) for d in (262_144, 1_048_576)
    ]  # fmt: skip
    rule = power_rule(pd.DataFrame(rows), "n_tokens")
    assert rule["exponent"] == pytest.approx(0.3)
    assert rule["d_exponent"] == pytest.approx(0.2)
    assert rule["lr_ref"] == pytest.approx(4e-3)
    assert rule["d_exponent_standard_error"] < 1e-9


def test_the_interval_of_an_optimum_covers_the_truth_as_often_as_it_says():
    rng = np.random.default_rng(0)
    truth = 2 + 0.3 * (np.log(RATES) - np.log(5e-3)) ** 2
    hits = 0
    for _ in range(400):
        optimum, bracketed, error = vertex(RATES, truth + 0.01 * rng.standard_normal(5), noise=0.01)
        assert bracketed
        hits += abs(np.log(optimum / 5e-3)) < 1.96 * error
    assert 0.92 < hits / 400 < 0.98


def test_an_optimum_at_an_edge_is_warned_of():
    table = pd.DataFrame({"model": ["a", "b"], "n_tokens": [100, 100], "lr_best": [1e-3, 2e-3],
                          "bracketed": [True, False]})  # fmt: skip
    (line,) = edge_warnings(table, "n_tokens")
    assert "best rate of b at 100 tokens is 0.002" in line
    assert "widen the grid" in line


def test_a_rule_that_holds_predicts_a_size_it_never_saw():
    from experiments.gpt_lr_rule.analyze import held_out

    def runs(name: str, n: int) -> list[dict[str, object]]:
        best = 4e-3 * (n / 1e5) ** -0.3
        return [
            {"model": name, "n_params_non_embedding": n, "n_tokens": 262_144 * k, "lr_peak": lr,
             "val_loss": 2 + 0.1 * np.log(lr / (best * k**0.2)) ** 2}
            for lr in np.geomspace(1e-4, 1e-1, 9) for k in (1, 4)
        ]  # fmt: skip

    sizes = {"a": 3_000, "b": 30_000, "c": 100_000, "d": 300_000}
    tuned = pd.DataFrame([row for name, n in sizes.items() for row in runs(name, n)])
    check = held_out(tuned, pd.DataFrame(runs("e", 1_000_000)))
    kept = check[check["rule"] == "N and D"]
    assert set(kept["model"]) == {"d", "e"}
    assert kept["ratio"].to_numpy() == pytest.approx(1, rel=1e-6)


def test_a_study_of_ones_own_becomes_a_rule_that_a_ladder_reads(tmp_path, capsys):
    rows = [
        {"model": name, "n_params_non_embedding": n, "n_tokens": 1e6, "lr_peak": lr, "seed": seed,
         "val_loss": 2 + 0.1 * np.log(lr / (4e-3 * (n / 1e5) ** -0.3)) ** 2 + 0.01 * seed}
        for name, n in {"a": 3_000, "b": 30_000, "c": 300_000}.items()
        for lr in np.geomspace(1e-4, 1e-1, 9) for seed in (1, 2)
    ]  # fmt: skip
    path = tmp_path / "results.csv"
    pd.DataFrame(rows).to_csv(path, index=False)
    main([str(path)])
    assert f"optimizer.lr_rule={tmp_path / 'rule.json'}" in capsys.readouterr().out
    rule = read_rule(LearningRateRule, str(tmp_path / "rule.json"), "optimizer.lr_rule")
    assert rule(Setting(1e6, None)) == pytest.approx(4e-3 * 10**-0.3, rel=1e-3)  # four digits
    assert (tmp_path / "figure.png").stat().st_size > 0


def test_a_table_that_is_no_tuning_study_is_refused(tmp_path, capsys):
    path = tmp_path / "results.csv"
    pd.DataFrame({"model": ["a"], "val_loss": [2.0]}).to_csv(path, index=False)
    with pytest.raises(SystemExit) as refused:
        main([str(path)])
    assert refused.value.code == 1
    assert "lacks n_params_non_embedding, lr_peak, n_tokens: write it by `fmscale export" in (
        capsys.readouterr().err
    )
