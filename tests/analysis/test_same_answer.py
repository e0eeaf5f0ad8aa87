"""One question has one answer: parameters, noise and intervals, whoever asks and however."""

import csv
import json

import numpy as np
import pandas as pd
import pytest

from analysis import RunTable, final_runs, fit, load_runs, map_columns, read_table
from analysis.__main__ import main
from analysis.report import analyze_study
from analysis.report.write import to_json
from analysis.tables.clusters import find_clusters
from analysis.tables.repeats import measure_noise
from fmscale.commands.export import rows, to_csv
from fmscale.runs.store import Study
from tests.helpers.planted import write_study

ANSWER = ("parameters", "intervals", "standard_errors", "noise", "n_clusters", "interval_method",
          "residual_sd", "samples")  # fmt: skip
COLUMNS = {"N": "n_params_total", "D": "n_tokens"}


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    # Shared error of a trunk, two seeds of each size: 5 sizes x 2 seeds x 3 budgets.
    root = tmp_path_factory.mktemp("same")
    return write_study(root / "runs" / "planted", seeds=(1, 2), budgets=(1e6, 4e6, 1.6e7))


@pytest.fixture(scope="module")
def asked(study):
    """The joint law of Python, mapped by the user, on the study as it lies."""
    table = map_columns(final_runs(load_runs(study)), {**COLUMNS, "metric": "val_loss"})
    return answer(fit("joint", table, bootstrap=60).to_dict())


def answer(found):
    return {key: found[key] for key in ANSWER}


def on_the_command_line(*arguments, out):
    flags = ["--law", "joint", "--bootstrap", "60", "--no-sensitivity", "--json", str(out)]
    assert main(["fit", *map(str, arguments), *flags]) == 0
    return answer(json.loads(out.read_text()))


def test_trunks_are_clusters_and_seeds_are_repeats(asked):
    assert asked["n_clusters"] == 10
    assert "between trunks" in asked["interval_method"]
    assert asked["noise"]["freedom"] == 15  # one for each of 5 x 3 places
    assert asked["noise"]["shared"] is not None


def test_columns_named_in_the_call_give_the_same_answer(study, asked):
    found = fit("joint", final_runs(load_runs(study)), "val_loss", COLUMNS, bootstrap=60)
    assert answer(found.to_dict()) == asked


def test_renamed_columns_give_the_same_answer(study, asked):
    frame = final_runs(load_runs(study)).frame
    names = {"n_params_total": "N", "n_tokens": "D", "val_loss": "metric", "trunk_id": "Trunk",
             "seed": "Random Seed"}  # fmt: skip
    kept = ["run_id", "model", "lr_peak", "flops", *names]
    found = fit("joint", frame[kept].rename(columns=names), bootstrap=60)
    assert answer(found.to_dict()) == asked
    assert found.cluster == "Trunk"


def test_a_header_with_a_unit_gives_the_same_answer(study):
    frame = final_runs(load_runs(study)).frame
    frame["Params (M)"] = frame["n_params_total"] / 1e6
    told = map_columns(frame, {"N": "Params (M)", "D": "n_tokens", "metric": "val_loss"})
    named = fit("joint", frame, "val_loss", {"N": "Params (M)", "D": "n_tokens"}, bootstrap=60)
    assert answer(named.to_dict()) == answer(fit("joint", told, bootstrap=60).to_dict())
    assert named.ranges()["N"] == pytest.approx((2e4, 2e6))


def test_the_command_line_gives_the_same_answer(study, asked, tmp_path):
    assert on_the_command_line(study, out=tmp_path / "store.json") == asked
    exported = tmp_path / "exported.csv"
    exported.write_text(to_csv(rows(Study(study))))
    assert on_the_command_line(exported, out=tmp_path / "exported.json") == asked
    plain = tmp_path / "plain.csv"
    names = {"n_params_total": "Model Size", "n_tokens": "D", "val_loss": "y", "trunk_id": "run",
             "seed": "seed"}  # fmt: skip
    with exported.open() as source, plain.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(names.values())
        writer.writerows([row[c] for c in names] for row in csv.DictReader(source))
    flags = ("--n", "Model Size", "--d", "D", "--metric", "y")
    assert on_the_command_line(plain, *flags, out=tmp_path / "plain.json") == asked


def test_the_report_gives_the_same_answer(study, asked):
    found = analyze_study(load_runs(study), bootstrap=60)
    (panel,) = [
        p for p in to_json([found])["studies"][0]["panels"] if p["name"] == "val_loss_joint"
    ]
    (whole,) = [f["all_runs"] for f in panel["fits"] if f["law"] == "joint"]
    assert answer(whole) == asked
    # a one-variable law of some of the runs: the same as of a table that holds no others
    (panel,) = [p for p in found.panels if p.name == "val_loss_vs_N"]
    (power,) = [f for f in panel.full if f.law == "power"]
    frame = final_runs(load_runs(study)).frame
    largest = frame[frame["n_tokens"] == frame["n_tokens"].max()]
    alone = fit("power", largest, "val_loss", {"x": "n_params_total"}, bootstrap=60)
    assert power.intervals == alone.intervals
    assert power.n_points == alone.n_points == 10


def test_runs_without_clusters_when_asked(study):
    table = final_runs(load_runs(study))
    found = fit("joint", table, "val_loss", COLUMNS, bootstrap=60, cluster="none")
    assert found.n_clusters == len(table) == 30
    assert found.cluster is None
    assert (
        "in 10 clusters (by trunk_id)"
        in fit("joint", table, "val_loss", COLUMNS, interval="none").summary()
    )


def test_another_study_is_no_obstacle_to_repeats(study, tmp_path):
    other = write_study(tmp_path / "runs" / "live", seeds=(3,), budgets=(1e6, 4e6, 1.6e7))
    table = final_runs(load_runs([study, other]))
    assert table.frame["study"].nunique() == 2
    noise = measure_noise(table, "val_loss", log=True, letters=COLUMNS.values())
    assert noise.freedom == 30  # three seeds at each of 15 places


def seeds_of(sizes=3, seeds=2, noise=0.01, rng_seed=0, **columns):
    rng = np.random.default_rng(rng_seed)
    x = np.repeat(np.geomspace(1e5, 1e7, sizes), seeds)
    y = 8 * x**-0.1 * np.exp(noise * rng.standard_normal(x.size))
    frame = pd.DataFrame({"x": x, "seed": np.tile(np.arange(seeds), sizes), "metric": y})
    return frame.assign(**columns)


def test_repeats_among_the_points_count_once():
    frame = seeds_of()
    found = fit("power", frame, bootstrap=100)
    assert "residuals (4 degrees of freedom)" in found.interval_method  # 6 points, 2 parameters
    assert found.noise.freedom == 3
    without = fit("power", frame.drop(columns="seed"), bootstrap=100)
    assert found.intervals == without.intervals
    assert without.noise is None


@pytest.mark.parametrize("interval", ["delta", "profile", "residual", "parametric"])
def test_a_column_of_seeds_changes_no_interval(interval):
    frame = seeds_of(4, 3)
    options = {"interval": interval, "bootstrap": 60}
    assert (fit("power", frame, **options).intervals
            == fit("power", frame.drop(columns="seed"), **options).intervals)  # fmt: skip


@pytest.mark.parametrize(
    ("columns", "freedom"),
    [
        ({}, 3),
        ({"seed": [1] * 6}, None),  # nothing says that the seeds differ
        ({"dropout": [0.0, 0.3] * 3}, None),  # differ in more than the seed
        ({"dropout": [0.0, 0.0, 0.0, 0.3, 0.3, 0.3]}, 2),
        ({"optimizer": ["adam", "lion"] * 3}, None),
        ({"study": ["old", "new"] * 3}, 3),
        ({"name": [f"run-{i}" for i in range(6)], "hostname": ["a", "b"] * 3}, 3),
        ({"val_accuracy": [0.5, 0.6, 0.5, 0.6, 0.5, 0.6]}, 3),  # comes out of a run
        ({"val_bpb": [0.1, 0.2, 0.3, 0.4, 0.5, 0.6]}, 3),
        ({"n_tokens": [1e6, 2e6, 3e6, 3e6, 5e6, 6e6]}, 1),  # other data
    ],
    ids=lambda v: ", ".join(v) if isinstance(v, dict) else None,
)
def test_repeats_differ_in_their_seed_alone(columns, freedom):
    noise = measure_noise(RunTable(seeds_of(**columns)), "metric", log=True, letters=["x"])
    assert (noise.freedom if noise else None) == freedom


def test_a_seed_that_occurs_twice_at_a_place_is_no_repeat():
    frame = pd.concat([seeds_of(), seeds_of().assign(metric=9.0).iloc[:1]], ignore_index=True)
    noise = measure_noise(RunTable(frame), "metric", log=True, letters=["x"])
    assert noise == measure_noise(RunTable(seeds_of().iloc[2:]), "metric", log=True, letters=["x"])


def test_held_out_repeats_say_nothing_about_the_fit():
    frame = seeds_of(5, 2)
    found = fit("power", frame, hold_out="x > 5e6", bootstrap=60)
    alone = fit("power", frame[frame["x"] <= 5e6], bootstrap=60)
    assert found.noise == alone.noise
    assert found.intervals == alone.intervals


def checkpoints_of(runs=6, each=8, seeds=1):
    """Runs of rising size, each measured at a rising number of steps."""
    n = np.repeat(np.geomspace(1e6, 3e7, runs), each * seeds)
    step = np.tile(np.arange(1, each + 1) * 500, runs * seeds)
    names = np.repeat([f"grid-{i}" for i in range(runs * seeds)], each)
    rng = np.random.default_rng(1)
    common = 0.01 * np.repeat(rng.standard_normal(runs * seeds), each)
    tokens = step * 65536.0
    loss = (1.5 + 200 * n**-0.35 + 400 * tokens**-0.36) * np.exp(common)
    return pd.DataFrame({"run": names, "params": n, "step": step, "tokens": tokens, "loss": loss})


def clusters_of(frame, **columns):
    codes, told = find_clusters(RunTable(frame.assign(**columns)))
    return len(np.unique(codes)), told


@pytest.mark.parametrize(
    "name", ["run", "run_id", "Run ID", "runId", "run_name", "name", "Name", "trunk", "trunk_id",
             "wandb.run.name", "ID", "experiment", "series", "label"]
)  # fmt: skip
def test_checkpoints_of_a_run_are_known_by_any_name(name):
    assert clusters_of(checkpoints_of().rename(columns={"run": name})) == (6, name)
    without = checkpoints_of().rename(columns={"run": name}).drop(columns="step")
    assert clusters_of(without) == (6, name)  # tokens rise as steps do


def test_checkpoints_without_a_name_are_known_by_their_steps():
    frame = checkpoints_of(seeds=2).drop(columns="run")
    frame["seed"] = np.tile(np.repeat([1, 2], 8), 6)
    assert clusters_of(frame) == (12, "params and seed")
    frame["model"] = [f"{n:.0f}M" for n in frame["params"] / 1e6]
    assert clusters_of(frame) == (12, "model and seed")


def test_runs_of_their_own_are_no_checkpoints():
    grid = checkpoints_of().drop(columns=["run", "step"])
    assert clusters_of(grid) == (48, None)
    assert clusters_of(grid, model=[f"{n:.0f}M" for n in grid["params"] / 1e6]) == (48, None)
    assert clusters_of(grid, run=np.tile(np.arange(8), 6)) == (48, None)  # number of a repeat
    assert clusters_of(grid, optimizer=["adam", "lion"] * 24) == (48, None)
    assert clusters_of(grid, run_id=np.arange(48), exp=checkpoints_of()["run"]) == (48, None)
    several = grid.assign(seed=np.tile([1, 2], 24))
    assert clusters_of(several, name=checkpoints_of()["run"]) == (48, None)  # a size's name


def test_checkpoints_widen_the_interval_by_default(tmp_path, capsys):
    path = tmp_path / "steps.csv"
    checkpoints_of().to_csv(path, index=False)
    flags = ["--law", "power", "--x", "params", "--metric", "loss", "--no-sensitivity"]
    assert main(["fit", str(path), *flags, "--json", str(tmp_path / "a.json")]) == 0
    assert "48 points in 6 clusters (by run)" in capsys.readouterr().out
    assert (
        main(["fit", str(path), *flags, "--cluster", "none", "--json", str(tmp_path / "b.json")])
        == 0
    )
    together, apart = (json.loads((tmp_path / f"{k}.json").read_text()) for k in "ab")
    assert together["parameters"] == apart["parameters"]
    assert (together["n_clusters"], apart["n_clusters"]) == (6, 48)
    wide, narrow = (np.subtract(*r["intervals"]["c"][::-1]) for r in (together, apart))
    assert wide > narrow


def test_rows_without_a_run_are_clusters_of_their_own():
    frame = checkpoints_of()
    frame.loc[:3, "run"] = None
    assert clusters_of(frame) == (10, "run")
    with pytest.raises(ValueError, match="cluster column 'run' has missing values"):
        fit("power", frame, "loss", {"x": "params"}, cluster="run", interval="none")


def test_an_exported_table_reads_as_its_store(study, tmp_path):
    path = tmp_path / "e.csv"
    path.write_text(to_csv(rows(Study(study))))
    store, table = load_runs(study), read_table(path)
    assert find_clusters(store)[1] == find_clusters(table)[1] == "trunk_id"
    given = {"log": True, "letters": list(COLUMNS.values())}
    assert measure_noise(store, "val_loss", **given) == measure_noise(table, "val_loss", **given)
