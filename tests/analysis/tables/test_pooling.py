"""Which rows may be one law: states of runs, what a loss depends on, what differs beside size."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from analysis import TableError, fit, load_runs, map_columns
from analysis.__main__ import main
from analysis.tables.filters import final_runs
from tests.helpers.planted import write_study

N = np.geomspace(1e6, 1e9, 8)


def power_rows(**columns):
    """Eight sizes on 20 N^-0.1."""
    return pd.DataFrame({"params": N, "loss": 20 * N**-0.1, **columns})


def fitted(frame, *options, capsys):
    frame.to_csv("t.csv", index=False)
    command = ["fit", "t.csv", "--law", "power", "--x", "params", "--loss", "loss"]
    code = main([*command, "--interval", "none", "--no-sensitivity", "--json", "f.json", *options])
    out = capsys.readouterr()
    return code, out.out + out.err


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("column", "finished", "other"),
    [("State", "finished", "crashed"), ("state", "FINISHED", "Running"), ("status", "done", "oom"),
     ("run_state", "Success", "preempted"), ("run.status", "completed", "Timed out"),
     ("Run Status", "COMPLETE", "PRUNED"), ("sys/state", "succeeded", "killed"),
     ("finished", True, False), ("Completed", "yes", "no"), ("crashed", False, True),
     ("status", "success", "something new"), ("State", "COMPLETED", "CANCELLED by 1000"),
     ("exit_code", 0, 137), ("ExitCode", "0:0", "0:15"), ("diverged", 0, 1), ("finished", 1, 0),
     ("result", "ok", "oom"), ("State", "F", "R"), ("JobState", "COMPLETED", "CANCELLED by 1000"),
     ("is_done", "yes", "no"), ("done", "yes", "no"), ("terminated_early", 0, 1)],
)  # fmt: skip
def test_runs_that_did_not_finish_are_left_out_and_counted(folder, capsys, column, finished, other):
    frame = power_rows()
    frame[column] = [finished] * 6 + [other] * 2
    frame.loc[6:, "loss"] *= 2
    code, text = fitted(frame, capsys=capsys)
    assert code == 0
    assert f"2 dropped: {column} is {other}" in text
    assert json.loads((folder / "f.json").read_text())["parameters"]["c"] == pytest.approx(0.1)
    code, text = fitted(frame, "--all-runs", capsys=capsys)
    assert code == 0
    assert f"{column}: fitted with runs that did not finish (2 {other})" in text
    assert json.loads((folder / "f.json").read_text())["parameters"]["c"] != pytest.approx(0.1)


@pytest.mark.parametrize(
    ("column", "cells"),
    [("state", ["CA", "TX"]), ("state", ["R", "TX"]), ("result", ["fail", "pass"]),
     ("success", [0, 1]), ("failed", [0, 3])],
)  # fmt: skip
def test_a_column_of_other_states_is_left_alone(folder, capsys, column, cells):
    frame = power_rows(seed=range(8))
    frame[column] = cells * 4
    code, text = fitted(frame, capsys=capsys)
    assert code == 0
    assert "dropped" not in text


@pytest.mark.parametrize("words", [("yes", "no"), ("True", "false"), (1, 0), (True, None)])
def test_annealed_is_read_as_words(words):
    frame = power_rows(annealed=[words[0]] * 6 + [words[1]] * 2)
    assert len(final_runs(map_columns(frame, {"x": "params"}))) == 6
    frame["annealed"] = "perhaps"
    with pytest.raises(TableError, match="'perhaps', neither yes nor no"):
        final_runs(map_columns(frame, {"x": "params"}))


def test_python_leaves_out_what_the_command_line_leaves_out(folder, capsys):
    frame = power_rows(State=["finished"] * 6 + ["crashed", "running"], annealed=[1] * 5 + [0] * 3)
    frame.loc[5:, "loss"] *= 2
    assert fitted(frame, capsys=capsys)[0] == 0
    told = json.loads((folder / "f.json").read_text())
    columns = {"x": "params", "metric": "loss"}
    found = fit("power", map_columns(frame, columns), interval="none")
    assert found.parameters == told["parameters"]
    assert [d.to_dict() for d in found.dropped] == told["dropped"]
    assert sum(d.count for d in found.dropped) == 3
    kept = fit("power", replace(map_columns(frame, columns), all_runs=True), interval="none")
    assert kept.n_points == 8
    assert any("1 crashed, 1 running" in warning for warning in kept.warnings)


@pytest.mark.parametrize("batch", ["eval_batch_size", "data.val_batch_size", "Eval Batch Size"])
def test_the_evaluation_batch_matters_to_contrastive_losses_alone(folder, capsys, batch):
    frame = power_rows()
    frame[batch] = [8, 16] * 4
    code, text = fitted(frame, capsys=capsys)
    assert code == 0
    assert f"one law for 2 values of {batch}" in text
    assert "one law" not in fitted(frame.assign(family="gpt"), capsys=capsys)[1]
    for known in ({"family": "clip"}, {"objective": "InfoNCE"}, {"model": "siglip-b"}):
        code, text = fitted(frame.assign(**known), capsys=capsys)
        assert code == 2
        assert f"--pool {batch}" in text
        code, text = fitted(frame.assign(**known), "--pool", batch, capsys=capsys)
        assert code == 0
        assert f"one law for 2 values of {batch}" in text


def test_the_error_of_a_contrastive_model_does_not_depend_on_the_evaluation_batch():
    frame = power_rows(family="clip", val_batch_size=[8, 16] * 4)
    columns = {"x": "params", "metric": "loss"}
    with pytest.raises(TableError, match="val_batch_size"):
        fit("power", map_columns(frame, columns), interval="none")
    frame = frame.rename(columns={"loss": "zero_shot_error"})
    fit("power", map_columns(frame, columns | {"metric": "zero_shot_error"}), interval="none")


def change(run, **changes):
    record = json.loads((run / "record.json").read_text())
    for name, value in changes.items():
        node = record
        *path, last = name.split("__")
        for key in path:
            node = node.setdefault(key, {})
        node[last] = value
    (run / "record.json").write_text(json.dumps(record))


@pytest.fixture
def study(tmp_path):
    return write_study(tmp_path / "planted", seeds=(1, 2))


@pytest.mark.parametrize(
    ("changes", "column"),
    [({"hyperparameters__model__dropout": 0.3}, "model.dropout"),
     ({"hyperparameters__optimizer__weight_decay": 0.3}, "optimizer.weight_decay"),
     ({"hyperparameters__optimizer___target_": "mine.Lion"}, "optimizer._target_"),
     ({"hyperparameters__objective__z_loss": None}, "objective.z_loss"),
     ({"hyperparameters__model__shape__recipe__norm": "rms"}, "model.shape.recipe.norm"),
     ({"hyperparameters__data__n_val_tokens": 9999}, "data.n_val_tokens"),
     ({"hyperparameters__data__n_unique_tokens": 50}, "data.n_unique_tokens"),
     ({"data__name": "stories"}, "data.name"),
     ({"environment__precision": "bf16-mixed"}, "precision"),
     ({"lr_peak": 3e-3}, "lr_peak"),
     ({"schedule": "cosine"}, "schedule")],
)  # fmt: skip
def test_whatever_differs_within_a_study_is_a_column_and_told(study, capsys, changes, column):
    usual = {"hyperparameters__model__dropout": 0.0, "hyperparameters__objective__z_loss": 1e-4,
             "hyperparameters__optimizer__weight_decay": 0.1, "data__name": "texts",
             "hyperparameters__optimizer___target_": "fmscale.AdamW",
             "hyperparameters__model__shape__recipe__norm": "layer",
             "hyperparameters__data__n_val_tokens": 65536,
             "hyperparameters__data__n_unique_tokens": 10**12,
             "environment__precision": "32-true"}  # fmt: skip
    for run in study.iterdir():
        change(run, **(usual | changes if run.name.endswith("s2") else usual))
    assert load_runs(study).frame[column].nunique() == 2
    command = ["fit", str(study), "--law", "joint", "--interval", "none", "--no-sensitivity"]
    assert main(command) == 0
    assert f"one law for 2 values of {column}" in capsys.readouterr().out
    assert main([*command, "--by", column]) == 0
    assert "one law for" not in capsys.readouterr().out
    assert main([*command, "--pool", column]) == 0
    assert "one law for" not in capsys.readouterr().out


def test_mixed_contents_of_the_data_are_refused(study, capsys):
    for place, run in enumerate(study.iterdir()):
        change(run, data__content_sha256="0a"[place % 2] * 64)
    command = ["fit", str(study), "--law", "joint", "--interval", "none", "--no-sensitivity"]
    assert main(command) == 2
    assert "mix 2 values of data.content_sha256" in capsys.readouterr().err
    assert main([*command, "--by", "content_sha256"]) == 0
    assert main([*command, "--pool", "data.content_sha256"]) == 0
    assert "one law for 2 values of data.content_sha256" in capsys.readouterr().out


def test_what_follows_size_or_data_by_rule_is_not_told(study, capsys):
    for run in study.iterdir():
        record = json.loads((run / "record.json").read_text())
        change(run, lr_peak=record["n_params_total"] ** -0.3,
               batch_size=8 * round(record["n_tokens"] / 1e6),
               hyperparameters__model__shape__d_model=record["n_params_total"] // 1000)  # fmt: skip
    assert (
        main(["fit", str(study), "--law", "joint", "--interval", "none", "--no-sensitivity"]) == 0
    )
    assert "one law for" not in capsys.readouterr().out


def test_a_column_that_marks_the_held_out_rows_is_not_pooled(folder, capsys):
    frame = power_rows(split=["train"] * 6 + ["test"] * 2)
    code, text = fitted(frame, "--hold-out", "split == 'test'", capsys=capsys)
    assert code == 0
    assert "one law for" not in text


@pytest.mark.parametrize("column", ["data", "corpus", "Dataset", "optimizer", "arch"])
def test_groups_in_a_table_of_ones_own_are_told(folder, capsys, column):
    frame = pd.concat([power_rows(), power_rows()]).assign(name=[f"r{i}" for i in range(16)])
    frame[column] = ["one"] * 8 + ["two"] * 8
    assert f"one law for 2 values of {column}" in fitted(frame, capsys=capsys)[1]
    assert "one law for" not in fitted(frame, "--by", column, capsys=capsys)[1]


@pytest.mark.parametrize(
    ("column", "cells"),
    [("vocab_size", [32000, 50257]), ("metric_name", ["val", "test"]), ("dataset_id", ["a", "b"]),
     ("shots", [0, 5]), ("version", [1, 2]), ("group", ["old", "new"]), ("tag", ["x", "y"]),
     ("path", ["/a", "/b"]), ("optimizer_id", [1, 2]), ("fp8", [0, 1]), ("model", ["gpt", "rnn"])],
)  # fmt: skip
def test_few_values_that_each_hold_the_same_sizes_are_told(folder, capsys, column, cells):
    frame = pd.concat([power_rows(), power_rows()])
    frame[column] = np.repeat(cells, 8)
    assert f"one law for 2 values of {column}" in fitted(frame, capsys=capsys)[1]


@pytest.mark.parametrize("column", ["seed", "rep", "run", "run_id", "trial", "checkpoint", "gpu"])
def test_repeats_of_a_run_are_no_groups(folder, capsys, column):
    frame = pd.concat([power_rows(), power_rows()])
    frame[column] = np.repeat([1, 2], 8)
    frame["loss"] *= np.linspace(1, 1.001, 16)
    assert "one law for" not in fitted(frame, capsys=capsys)[1]
