"""The command line as scripts rely on it: fixed options, JSON, exit codes, messages."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from analysis import fit
from analysis.__main__ import COMMANDS, main
from tests.helpers.planted import HOFFMANN, isoflop_grid, write_study


@pytest.fixture
def points(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    frame = isoflop_grid(noise=0.003)
    frame["Model Size"], frame["Training FLOP"], frame["loss"] = (
        frame["N"], frame["C"], frame["metric"],
    )  # fmt: skip
    frame[["Model Size", "Training FLOP", "loss"]].to_csv("points.csv", index=False)
    return tmp_path


NAMES = {"N": "params", "D": "tokens", "C": "budget", "metric": "loss"}
FIT = [
    "fit", "points.csv", "--law", "joint", "--n", "Model Size", "--c", "Training FLOP",
    "--d-from", "6nd", "--loss", "loss", "--drop-highest-loss", "5", "--objective", "huber",
    "--delta", "1e-3", "--bootstrap", "200", "--seed", "42", "--json", "fit.json",
]  # fmt: skip


def test_fit_writes_what_scripts_rely_on(points, capsys):
    assert main(FIT) == 0
    answer = json.loads((points / "fit.json").read_text())
    assert answer["law"] == "joint"
    assert answer["parameters"]["alpha"] == pytest.approx(HOFFMANN["alpha"], rel=0.05)
    assert answer["n_points"] == 123
    assert answer["dropped"][0]["count"] == 5
    assert answer["sensitivity"][0]["group"] == "base"
    assert set(answer["intervals"]) == set(HOFFMANN)
    assert "held out" not in capsys.readouterr().out


def test_forecast_reads_the_fit(points, capsys):
    main(FIT)
    assert main(["forecast", "fit.json", "--flops", "1e24", "--json", "forecast.json"]) == 0
    answer = json.loads((points / "forecast.json").read_text())
    assert answer["n_opt"] > 1e9
    assert len(answer["fan"]) >= 6
    assert "decades beyond" in capsys.readouterr().out
    hours = ["forecast", "fit.json", "--gpu-hours", "1e5", "--price", "2", "--no-fan"]
    assert main([*hours, "--json", "-"]) == 0
    assert '"dollars": 200000.0' in capsys.readouterr().out
    assert main(["forecast", "fit.json", "--target-loss", "2.2", "--no-fan"]) == 0


def test_hold_out_predict_fix_and_start(points, capsys):
    (points / "other.csv").write_text("Model Size,Training FLOP\n1e9,1e21\n2e9,3e21\n")
    extra = ["--hold-out", "C > 1e21", "--predict", "other.csv", "--fix", "E=1.69",
             "--start", "alpha=0.3,beta=0.3", "--no-sensitivity", "--card", "card.md",
             "--plot", "fit.png"]  # fmt: skip
    assert main([*FIT, *extra]) == 0
    answer = json.loads((points / "fit.json").read_text())
    assert answer["parameters"]["E"] == 1.69
    assert answer["held_out"]["n"] > 0
    assert [p["D"] for p in answer["predictions"]] == pytest.approx([1e21 / 6e9, 3e21 / 12e9])
    assert answer["predictions"][0]["low"] < answer["predictions"][0]["high"]
    assert "certificate" in (points / "card.md").read_text()
    assert (points / "fit.png").stat().st_size > 10_000


def test_envelope_fit_with_where(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    x = 10 ** rng.uniform(1, 5, 120)
    frame = pd.DataFrame({"gmacs_total": x, "task": ["imagenet", "coco"] * 60,
                          "err1": 0.9 * x**-0.12 * np.exp(rng.exponential(0.2, 120))})  # fmt: skip
    frame.to_csv("zeroshot.csv", index=False)
    command = ["fit", "zeroshot.csv", "--law", "power", "--x", "gmacs_total", "--metric", "err1",
               "--envelope", "bins", "--bins", "5", "--pad", "0.1",
               "--where", 'task == "imagenet"', "--json", "fit.json"]  # fmt: skip
    assert main(command) == 0
    answer = json.loads((tmp_path / "fit.json").read_text())
    assert answer["n_points"] == 5
    assert answer["parameters"]["c"] == pytest.approx(0.12, abs=0.04)
    assert [d["count"] for d in answer["dropped"]] == [60, 55]


def test_isoflop_by_experiment(tmp_path, monkeypatch):
    from tests.helpers.planted import HOFFMANN_A, symmetric_grid

    monkeypatch.chdir(tmp_path)
    parts = [symmetric_grid(0.001, s).assign(experiment=f"e{s}") for s in range(2)]
    frame = pd.concat(parts).rename(columns=NAMES)
    frame.to_csv("points.csv", index=False)
    command = ["isoflop", "points.csv", "--n", "params", "--d", "tokens", "--c", "budget",
               "--loss", "loss", "--by", "experiment", "--method", "akima",
               "--json", "isoflop.json", "--three", "pareto", "--plot", "isoflop.png"]  # fmt: skip
    assert main(command) == 0
    answer = json.loads((tmp_path / "isoflop.json").read_text())
    assert set(answer["experiments"]) == {"e0", "e1"}
    one = answer["experiments"]["e0"]
    assert one["a"] == pytest.approx(HOFFMANN_A, abs=0.05)
    assert one["three"]["consistent"] in (True, False)
    assert len(one["minima"]) == 8
    assert (tmp_path / "isoflop_e0.png").exists()
    assert (tmp_path / "isoflop_e1.png").exists()


def test_compare_table_and_plot_commands(points, capsys):
    common = ["points.csv", "--n", "Model Size", "--c", "Training FLOP", "--d-from", "6nd",
              "--loss", "loss"]  # fmt: skip
    assert main(["compare", *common, "--laws", "joint,kaplan", "--json", "c.json"]) == 0
    laws = json.loads((points / "c.json").read_text())["laws"]
    assert [row["law"] for row in laws] == ["joint", "kaplan"]
    main([*FIT, "--no-sensitivity"])
    for kind in ("fit", "residuals", "tornado", "profiles"):
        assert main(["plot", "fit.json", "--kind", kind, "--out", f"{kind}.png"]) == 0
        assert (points / f"{kind}.png").stat().st_size > 5_000
    write_study(points / "study", sizes=(2e4, 2e5), budgets=(1e6, 4e6))
    for out in ("t.csv", "t.jsonl", "t.parquet"):
        assert main(["table", "study", "--out", out]) == 0
        assert (points / out).exists()
    assert "4 rows; nothing dropped" in capsys.readouterr().out


def test_fit_reads_a_study_folder_without_column_options(points):
    write_study(points / "study")
    assert main(["fit", "study", "--law", "joint", "--json", "f.json", "--bootstrap", "100",
                 "--cluster", "trunk_id", "--no-sensitivity"]) == 0  # fmt: skip
    answer = json.loads((points / "f.json").read_text())
    assert answer["columns"] == {"N": "n_params_total", "D": "n_tokens"}
    assert "n_params_matmul" in answer["alternatives"]["N"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (["--n", "no such"], "there are: Model Size"),
        (["--where", "loss >"], "example"),
        (["--fix", "E"], "expected name=number"),
        (["--fix", "zeta=1"], "law joint has E, A, B"),
        (["--hold-out", "C > 1"], "every row"),
        (["--drop-highest-loss", "1000"], "has 128 rows"),
        (["--delta", "0"], "must be positive"),
        (["--level", "1.5"], "between 0 and 1"),
        (["--interval", "rows", "--bootstrap", "-1"], "bootstrap"),
        (["--bounds", "1,0"], "LOW must be below HIGH"),
        (["--cluster", "nope"], "cluster column 'nope'"),
        (["--start", "zeta=1"], "law joint has E, A, B"),
        (["--fix", "A=-5"], "zero or positive"),
        (["--hold-out", "Z > 1"], "--hold-out 'Z > 1'"),
        (["--json", "absent/fit.json"], "no folder absent"),
        (["--by", "nope"], "no such column"),
    ],
)
def test_wrong_options_end_with_one_line_and_code_2(points, capsys, change, message):
    assert main([*FIT, *change]) == 2
    captured = capsys.readouterr()
    assert message in captured.err
    assert captured.err.count("\n") == 1
    assert "Traceback" not in captured.err


def test_bad_tables_end_with_one_line_and_a_code(points, capsys):
    (points / "bad.csv").write_text("Model Size,Training FLOP,loss\n1e6,1e15,x\n")
    assert main(["fit", "bad.csv", *FIT[2:]]) == 2
    assert "'loss', row 1" in capsys.readouterr().err
    (points / "two.csv").write_text("Model Size,Training FLOP,loss\n1e6,1e15,3\n2e6,1e16,2.5\n")
    short = [word for word in FIT[2:] if word not in ("--drop-highest-loss", "5")]
    assert main(["fit", "two.csv", *short]) == 1  # the table can be read, the law not be told
    assert "5 free parameters and there are 2 points" in capsys.readouterr().err
    assert main(["forecast", "missing.json", "--flops", "1e20"]) == 2


@pytest.mark.parametrize("command", [c.__name__.rsplit(".", 1)[1] for c in COMMANDS])
def test_every_command_has_help_with_an_example(command, capsys):
    with pytest.raises(SystemExit) as end:
        main([command, "--help"])
    assert end.value.code == 0
    assert "example: fmscale-analysis" in capsys.readouterr().out


def test_module_runs_as_a_program():
    done = subprocess.run(
        [sys.executable, "-m", "analysis", "--version"], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip()


def test_import_is_light_and_free_of_torch_and_plotting():
    code = (
        "import sys, analysis, analysis.__main__; "
        "print([m for m in ('torch','fmscale','matplotlib','plotly','wandb','rich','pyarrow')"
        " if m in sys.modules and m != 'pyarrow'])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_bounded_metric_is_predicted_through_the_loss(points, capsys):
    main(FIT)
    rng = np.random.default_rng(0)
    loss = np.linspace(1.9, 3.2, 24)
    error = 0.9 - 4.0 * np.exp(-1.1 * loss) + 0.002 * rng.standard_normal(24)
    pd.DataFrame({"loss": loss, "error": error}).to_csv("tasks.csv", index=False)
    assert main(["fit", "tasks.csv", "--law", "exp_link", "--l", "loss", "--metric", "error",
                 "--bounds", "0,1", "--no-sensitivity", "--json", "link.json"]) == 0  # fmt: skip
    capsys.readouterr()
    assert main(["chain", "fit.json", "link.json", "--at", "N=1e9,D=2e10", "--flops", "1e21",
                 "--json", "chain.json"]) == 0  # fmt: skip
    assert "error" in capsys.readouterr().out
    first, second = json.loads((points / "chain.json").read_text())["predictions"]
    planted = (HOFFMANN["E"] + HOFFMANN["A"] / 1e9 ** HOFFMANN["alpha"]
               + HOFFMANN["B"] / 2e10 ** HOFFMANN["beta"])  # fmt: skip
    assert first["low"] < 0.9 - 4.0 * np.exp(-1.1 * planted) < first["high"]
    assert second["mean"] < first["mean"]
    assert main(["chain", "fit.json", "link.json"]) == 2
    assert main(["chain", "fit.json", "link.json", "--at", "N=1e9"]) == 2
    assert "needs D" in capsys.readouterr().err


def test_influence_and_backtest_are_on_the_command_line(points, capsys):
    frame = pd.read_csv("points.csv")
    frame.loc[7, "loss"] *= 1.3
    frame.to_csv("points.csv", index=False)
    fit = ["fit", "points.csv", "--law", "joint", "--n", "Model Size", "--c", "Training FLOP",
           "--d-from", "6nd", "--loss", "loss", "--objective", "log_least_squares"]  # fmt: skip
    assert main([*fit, "--influence", "--plot", "fit.png", "--json", "fit.json"]) == 0
    answer = json.loads((points / "fit.json").read_text())
    assert answer["influence"][0]["id"] == "row 8"
    assert (points / "fit_tornado.png").exists()
    compare = ["compare", "points.csv", "--laws", "joint,joint_tied", "--n", "Model Size",
               "--c", "Training FLOP", "--d-from", "6nd", "--loss", "loss", "--backtest", "3",
               "--json", "compare.json"]  # fmt: skip
    assert main(compare) == 0
    backtest = json.loads((points / "compare.json").read_text())["backtest"]
    assert {row["law"] for row in backtest} == {"forecast", "joint", "joint_tied"}
    assert all(row["mean_error"] < 0.05 for row in backtest if row["n_beyond"])
    out = capsys.readouterr().out
    shown = out[out.index("backtest:") :]
    assert {"distance", "hits", "interval", "score"} <= set(shown.split())
    assert max(map(len, shown.splitlines())) <= 80


def test_one_fit_for_each_group_and_a_warning_when_groups_are_pooled(points, capsys):
    frame = pd.read_csv("points.csv")
    other = frame[::2].assign(task="other", loss=1.2 * frame["loss"][::2])
    few = frame.head(2).assign(task="few")
    pd.concat([frame.assign(task="one"), other, few]).to_csv("tasks.csv", index=False)
    command = ["fit", "tasks.csv", *FIT[2:], "--no-sensitivity"]
    command[command.index("--drop-highest-loss") + 1] = "0"
    assert main(command) == 0
    assert "one law for 3 values of task (few, one, other)" in capsys.readouterr().out
    assert main([*command, "--by", "task", "--plot", "fit.png", "--bootstrap", "50"]) == 0
    answer = json.loads((points / "fit.json").read_text())
    one, two = (answer["groups"][k]["parameters"] for k in ("one", "other"))
    assert two["E"] == pytest.approx(1.2 * one["E"], rel=0.02)
    assert two["alpha"] == pytest.approx(one["alpha"], rel=0.05)
    assert "there are 2 points" in answer["groups"]["few"]["refused"]
    assert not any("one law for" in w for w in answer["groups"]["one"]["warnings"])
    assert (points / "fit_other.png").exists()


def test_tables_fit_a_terminal(points, capsys):
    compare = ["compare", "points.csv", "--laws", "joint,joint_tied", "--n", "Model Size",
               "--c", "Training FLOP", "--d-from", "6nd", "--loss", "loss"]  # fmt: skip
    assert main(compare) == 0
    table = capsys.readouterr().out.split("2x, 4x, 10x:")[0]
    assert "dAICc" in table
    assert max(map(len, table.splitlines())) <= 80
    assert main([*FIT, "--influence"]) == 0
    text = capsys.readouterr().out.split("sensitivity:")[1].splitlines()
    assert max(map(len, (line for line in text if "refused" not in line))) <= 80


def test_ids_that_repeat_are_counted_where_their_column_is_not_named(tmp_path, capsys):
    path = tmp_path / "runs.csv"
    path.write_text("run_id,x,y\na,1,2\na,2,1\nb,30,0.9\nc,400,0.8\n")
    assert main(["fit", str(path), "--law", "power", "--x", "x", "--metric", "y"]) == 0
    assert "1 rows repeat an id (a)" in capsys.readouterr().out


def test_errors_may_be_a_formula_of_columns(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    x = np.geomspace(1e6, 1e9, 10)
    y = 9 * x**-0.1 * np.exp(np.random.default_rng(0).normal(0, 0.01, 10))
    frame = pd.DataFrame({"x": x, "acc": 1 - y / 10, "err": y, "n": np.arange(1, 11) * 100})
    frame["stderr"] = np.sqrt(frame["err"] / frame["n"])
    frame.to_csv("points.csv", index=False)
    command = ["fit", "points.csv", "--law", "power", "--x", "x", "--metric", "err",
               "--no-sensitivity", "--interval", "none"]  # fmt: skip
    for option, name in (("stderr", "column"), ("(err / n) ** 0.5", "formula")):
        assert main([*command, "--error", option, "--json", f"{name}.json"]) == 0
    column, formula = (json.loads((tmp_path / f"{n}.json").read_text()) for n in (
        "column", "formula"))  # fmt: skip
    assert formula["parameters"] == pytest.approx(column["parameters"], rel=1e-9)
    plain = fit("power", frame.rename(columns={"err": "metric"}), interval="none")
    assert plain.parameters["c"] != pytest.approx(column["parameters"]["c"], rel=1e-6)


def test_a_chain_says_why_it_has_no_interval_and_keeps_shares_between_0_and_1(
    tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    x = np.geomspace(1e18, 1e21, 10)
    loss = (1.5 + 1e3 * x**-0.16) * np.exp(rng.normal(0, 0.01, 10))
    error = 0.8 - 0.9 * np.exp(-0.8 * loss) + rng.normal(0, 0.02, 10)
    first = fit("power_floor", pd.DataFrame({"x": x, "metric": loss}), bootstrap=60)
    link = fit("exp_link", pd.DataFrame({"L": loss, "metric": error}), bootstrap=60)
    first.save("loss.json")
    link.save("link.json")
    command = ["chain", "loss.json", "link.json", "--flops", "1e30", "--json", "chain.json"]
    assert main(command) == 0
    assert "95% interval of the mean" in capsys.readouterr().out
    row = json.loads((tmp_path / "chain.json").read_text())["predictions"][0]
    assert 0 <= row["low"] <= row["mean"] <= row["high"] <= 1
    assert 0 <= row["low_new"] <= row["mean"] <= row["high_new"] <= 1
    link.replace(samples={}, interval_method="none asked for").save("link.json")
    assert main(command) == 0
    printed = capsys.readouterr().out
    assert "nan" not in printed
    assert "the fit of the link has no refits (none asked for)" in printed


@pytest.mark.parametrize(
    ("name", "symbol"), [("n_opt", "n_opt"), ("val_loss", "L"), ("top1_err", "error")]
)
def test_a_formula_is_of_what_was_predicted(name, symbol):
    frame = pd.DataFrame({"x": np.geomspace(1, 1e3, 8), name: np.geomspace(1, 50, 8)})
    formula = fit("power", frame, metric=name, interval="none").formula()
    assert formula.startswith(f"{symbol} = ")


@pytest.fixture
def held_out(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(8)
    n, d = (v.ravel() for v in np.meshgrid(np.geomspace(1e6, 1e8, 6), np.geomspace(1e8, 1e10, 5)))
    loss = 1.7 + 400 * n**-0.34 + 410 * d**-0.28
    loss *= np.exp(0.003 * rng.normal(size=n.size))
    loss[-1] *= 1.2  # one run that no band of this law holds
    frame = pd.DataFrame({"run": [f"run-{i}" for i in range(n.size)], "n": n, "d": d, "loss": loss})
    frame.to_csv("runs.csv", index=False)
    return frame


def test_held_out_runs_are_listed_with_band_distance_and_error(held_out, capsys):
    command = ["fit", "runs.csv", "--law", "joint", "--n", "n", "--d", "d", "--loss", "loss",
               "--run-id", "run", "--bootstrap", "200", "--no-sensitivity"]  # fmt: skip
    assert main([*command, "--hold-out", "n * d > 1e17", "--json", "f.json"]) == 0
    out = capsys.readouterr().out
    assert "intervals: 95% if this law is true" in out
    product = (held_out["n"] * held_out["d"]).to_numpy()
    rows = json.loads(Path("f.json").read_text())["held_out"]["rows"]
    beyond = product > 1e17
    assert [r["id"] for r in rows] == list(held_out["run"][beyond])
    times = product[beyond] / product[~beyond].max()
    assert [r["distance"] for r in rows] == pytest.approx(list(times))
    inside = sum(r["low_new"] <= r["value"] <= r["high_new"] for r in rows)
    assert f"{inside} of {len(rows)} lie in their 95% band for a new run, if this law is" in out
    assert not rows[-1]["covered"]
    line = next(x for x in out.splitlines() if x.split()[:1] == ["run-29"])
    assert line.split()[1:3] == [f"{times[-1]:.3g}", f"{held_out['loss'].iloc[-1]:.5g}"]
    assert line.split()[-1] == f"{rows[-1]['relative_error']:+.1%}"
    listed = [x for x in out.splitlines() if x.split()[:1] and x.split()[0].startswith("run-")]
    assert max(map(len, listed)) <= 80

    held_out[beyond].drop(columns="loss").to_csv("ahead.csv", index=False)
    seen = held_out[~beyond]
    seen.to_csv("runs.csv", index=False)
    assert main([*command, "--predict", "ahead.csv", "--json", "p.json"]) == 0
    out = capsys.readouterr().out
    predicted = json.loads(Path("p.json").read_text())["predictions"]
    assert [r["distance"] for r in predicted] == pytest.approx(list(times))
    assert "value" not in next(x for x in out.splitlines() if " distance " in x)
    assert " lie in their" not in out
