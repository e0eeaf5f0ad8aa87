"""Approach 1 on whole curves recovers a planted frontier."""

import json
import tracemalloc

import numpy as np
import pandas as pd
import pytest

from analysis import FitError, RunTable, TableError, map_columns
from analysis.__main__ import main
from analysis.optima.training_curves import _smooth, approach_1_curves, smooth_curves
from analysis.plot.curves import plot_training_curves
from analysis.tables.run_store import load_curves
from analysis.tables.steps import MOST
from tests.helpers.planted import GPT_LAW, HOFFMANN, joint_loss, write_study

# Closed form of the planted law at C = 6 N D (Hoffmann et al. 2022, Eq. 4).
A_TRUE = HOFFMANN["beta"] / (HOFFMANN["alpha"] + HOFFMANN["beta"])


def planted_curves(sizes=24, noise=0.0, seed=0):
    rng = np.random.default_rng(seed)
    rows = []
    for n in np.geomspace(1e7, 1e10, sizes):
        d = np.geomspace(2e8, 4e11, 150)
        loss = (HOFFMANN["E"] + HOFFMANN["A"] / n ** HOFFMANN["alpha"]
                + HOFFMANN["B"] / d ** HOFFMANN["beta"])  # fmt: skip
        loss = loss * np.exp(noise * rng.standard_normal(len(d)))
        rows.append(pd.DataFrame({"N": n, "D": d, "C": 6 * n * d, "loss": loss, "run": f"{n:.3g}"}))
    return pd.concat(rows, ignore_index=True)


def test_the_exponent_of_the_planted_frontier_is_recovered():
    frame = planted_curves()
    # Ends of the grid are won by the smallest and largest size whatever the law says.
    found = approach_1_curves(RunTable(frame[frame["C"].between(1e18, 1e21)]), "loss", "run")
    assert found["a"].exponent == pytest.approx(A_TRUE, abs=0.03)
    assert found["b"].exponent == pytest.approx(1 - A_TRUE, abs=0.03)
    low, high = found["a"].interval
    assert low < found["a"].exponent < high


def test_smoothing_removes_the_noise_of_steps():
    frame = planted_curves(noise=0.01)
    table = RunTable(frame[frame["C"].between(1e18, 1e21)])
    found = approach_1_curves(table, "loss", "run")
    assert found["a"].exponent == pytest.approx(A_TRUE, abs=0.06)


def test_no_size_wins_where_it_runs_alone():
    curves = smooth_curves(RunTable(planted_curves(sizes=4)), "loss", "run")
    c, n, d, loss = curves.best()
    assert c.min() >= 6 * np.unique(curves.n)[1] * 2e8 / 1.1
    assert np.allclose(6 * n * d, c, rtol=0.02)
    assert (np.diff(loss) < 1e-3).all()


def test_one_size_is_refused_and_missing_columns_are_named():
    frame = planted_curves(sizes=2)
    with pytest.raises(FitError, match="fewer than three sizes"):
        approach_1_curves(RunTable(frame), "loss", "run")
    with pytest.raises(TableError, match="no such column"):
        approach_1_curves(RunTable(frame), "loss", "model")
    with pytest.raises(TableError, match="no curves"):
        approach_1_curves(RunTable(frame.groupby("run").head(5)), "loss", "run")


def test_the_command_draws_and_writes(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    planted_curves().to_csv("curves.csv", index=False)
    code = main(["curves", "curves.csv", "--run", "run", "--n", "N", "--d", "D", "--c", "C",
                 "--loss", "loss", "--plot", "curves.png", "--json", "curves.json"])  # fmt: skip
    assert code == 0
    assert "N* ~ C^0.4" in capsys.readouterr().out
    answer = json.loads((tmp_path / "curves.json").read_text())
    assert len(answer["envelope"]["C"]) > 100
    assert (tmp_path / "curves.png").stat().st_size > 10_000
    assert main(["curves", "curves.csv", "--n", "N", "--loss", "loss"]) == 2
    assert "--run" in capsys.readouterr().err


def test_the_figure_has_the_envelope_and_every_size():
    ax = plot_training_curves(smooth_curves(RunTable(planted_curves(sizes=5)), "loss", "run"))
    texts = [t.get_text() for t in ax.get_legend().get_texts()]
    assert texts[-1] == "envelope"
    assert len(texts) == 6
    assert ax.get_xscale() == ax.get_yscale() == "log"


def test_long_curves_are_thinned_in_bounded_memory_to_the_same_answer(tmp_path):
    rng = np.random.default_rng(0)
    study = write_study(tmp_path / "long", budgets=(1.6e7,))
    steps = 20_000
    rows = []
    for run in sorted(study.iterdir()):
        record = json.loads((run / "record.json").read_text())
        seen = np.linspace(1.6e7 / steps, 1.6e7, steps)
        size = record["n_params_total"]
        loss = joint_loss(GPT_LAW, size, seen) * np.exp(0.02 * rng.standard_normal(steps))
        frame = pd.DataFrame({"tokens": seen, "flops": 6.0 * size * seen, "train/loss": loss})
        frame.to_json(run / "metrics.jsonl", orient="records", lines=True, double_precision=15)
        rows.append(frame.assign(run=run.name, n=float(size)))
    tracemalloc.start()
    curves = load_curves(study)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 0.3 * sum((run / "metrics.jsonl").stat().st_size for run in study.iterdir())
    assert curves.frame.groupby("trunk_id")["n_averaged"].sum().tolist() == [steps] * 5
    assert curves.frame.groupby("trunk_id").size().max() <= MOST
    every = pd.concat(rows, ignore_index=True)
    columns = {"N": "n_params_total", "D": "n_seen", "C": "flops"}
    short = smooth_curves(map_columns(curves, columns), "train_loss", "trunk_id")
    # The first steps of a curve are as far apart as before, so nothing of it is lost.
    assert curves.numbers("flops").min() == every["flops"].min()
    own = every[every["n"] == every["n"].max()].to_dict("list")
    log_c, loss = np.log10(own["flops"]), np.array(own["train/loss"])
    exact = _smooth(np.log10(short.c), log_c, loss, np.ones(steps))[0]
    drawn = short.loss[np.argmax(short.n)]
    there = np.isfinite(drawn)
    assert there.sum() > 100
    np.testing.assert_allclose(drawn[there], exact[there], rtol=1e-4)


def test_a_broken_curve_is_named_and_the_others_go_on(tmp_path):
    study = write_study(tmp_path / "s", budgets=(1e6,))
    runs = sorted(study.iterdir())
    for run in runs:
        rows = [{"tokens": i, "flops": 1e9 * i, "train/loss": 3.0} for i in range(1, 20)]
        (run / "metrics.jsonl").write_text("\n".join(map(json.dumps, rows)) + '\n{"tok')
    for run, line in zip(runs, (b'{"flops": 1', b"\xff\xfe", b"[" * 100_000, b"5"), strict=False):
        (run / "metrics.jsonl").write_bytes(line + b"\n" + (run / "metrics.jsonl").read_bytes())
    curves = load_curves(study)
    assert len(curves) == 19
    assert sum(d.count for d in curves.dropped) == 4
    assert all("broken: metrics.jsonl, line 1" in d.reason for d in curves.dropped)


def test_the_export_of_a_chart_is_read_as_curves(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    per_step = 1e6
    steps = np.arange(1, 401) * 10
    columns = {"Step": steps}
    sizes = {"gpt-s": 2e5, "my - gpt": 6e5, "gpt-m": 2e6, "gpt-l": 6e6, "gpt-xl": 2e7}
    for name, size in sizes.items():
        loss = (1.7 + 400 * size**-0.34 + 400 * (steps * per_step) ** -0.34).round(12)
        for end in ("", "__MIN", "__MAX"):
            columns[f"{name} - val/loss{end}"] = loss
    frame = pd.DataFrame(columns)
    frame.loc[5, "gpt-m - val/loss"] = np.nan
    frame.to_csv("chart.csv", index=False, quoting=1)
    command = ["curves", "chart.csv", "--loss", "val/loss", "--d", f"Step * {per_step:g}",
               "--c-from", "6nd", "--json", "c.json"]  # fmt: skip
    assert main(command) == 2
    assert "--sizes gpt-s=70M" in capsys.readouterr().err
    given = ",".join(f"{name}={size / 1e6:g}M" for name, size in sizes.items())
    assert main([*command, "--sizes", given]) == 0
    out = capsys.readouterr().out
    assert "5 curves of 5 sizes" in out
    assert "1 dropped: the run logged nothing at this step" in out
    exponent = json.loads((tmp_path / "c.json").read_text())["a"]
    long = [
        pd.DataFrame({"run": name, "n": size, "Step": steps, "loss": columns[f"{name} - val/loss"]})
        for name, size in sizes.items()
    ]
    pd.concat(long).drop(index=5).to_csv("long.csv", index=False)
    command[1:4] = ["long.csv", "--loss", "loss", "--run", "run", "--n", "n"]
    assert main(command) == 0
    again = json.loads((tmp_path / "c.json").read_text())["a"]
    assert exponent == pytest.approx(again, abs=0.01)  # but for one step of one run
