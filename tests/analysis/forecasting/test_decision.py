"""What to train: the answer's words, and what a study's records add to it."""

import json

import numpy as np
import pytest

from analysis import load_runs
from analysis.__main__ import main
from analysis.forecasting.decision import decimals, duration, look_ahead, short
from analysis.forecasting.proposals import sweeps
from analysis.tables.files import map_columns
from analysis.tables.practice import choice, practice_of
from analysis.tables.table import RunTable
from tests.helpers.planted import GPT_LAW, joint_loss, write_study

UNIQUE = 2e7


def study_table(folder, **changes):
    """A planted study whose records say what real ones do, with columns N, D and C."""
    write_study(folder)
    for path in folder.glob("*/record.json"):
        record = json.loads(path.read_text())
        depth = 2 if record["n_params_total"] < 1e6 else 4
        width = round((record["n_params_total"] / (12 * depth)) ** 0.5)
        record |= {
            "model": f"gpt_{depth}x{width}",
            "n_params_total": 12 * depth * width**2 + 300 * width,
            "seconds_train": record["flops"] / 2e12,
            "data": {"name": "stdlib_text", "n_unique_tokens": int(UNIQUE)},
            "environment": {"cpu": "A Processor", "device": "cpu"},
            "hyperparameters": {"objective": {"_target_": "fmscale.objectives.NextToken"}},
            **changes,
        }
        path.write_text(json.dumps(record))
    table = load_runs(folder)
    return map_columns(table, {"N": "n_params_total", "D": "n_tokens", "C": "flops"})


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    return study_table(tmp_path_factory.mktemp("runs") / "own")


def test_a_study_knows_sizes_data_speed_and_command(table):
    practice = practice_of(table)
    assert practice.hours(7.2e15) == pytest.approx(1)
    assert practice.passes(3e7) == pytest.approx(1.5)
    # Sizes nobody trained: as large as layers and embeddings of those that were make them.
    assert practice.sizes["gpt_12x768"] == pytest.approx(12 * 12 * 768**2 + 300 * 768, rel=0.02)
    assert practice.nearest(8.5e7) == "gpt_12x768"
    assert practice.command("gpt_4x256", 3.14e7) == (
        "fmscale sweep data=stdlib_text study=own batch_size=64 model=gpt/4x256 "
        "budget.tokens=3.14e7 budget.max_epochs=2"
    )
    assert "max_epochs" not in practice.command("gpt_4x256", 1e7)
    assert practice.describe() == "own, 2026-01-01, data stdlib_text, on A Processor"


def test_what_records_do_not_say_is_missing(tmp_path):
    practice = practice_of(study_table(tmp_path / "bare", seconds_train=None, data={}))
    assert practice.hours(1e15) is None
    assert practice.passes(1e9) is None
    assert practice.command("gpt_4x256", 1e7) == (
        "fmscale sweep study=bare budget=tokens model=gpt/4x256 budget.tokens=1e7"
        "  # and what else the study's sweep was given"
    )
    table = study_table(tmp_path / "other").frame.drop(columns="study")
    assert practice_of(RunTable(table)) is None


def test_a_preset_of_the_studys_name_is_its_command(tmp_path):
    practice = practice_of(study_table(tmp_path / "gpt_demo"))
    command = practice.command("gpt_4x96", 2e6)
    assert command == "fmscale sweep experiment=gpt_demo model=gpt/4x96 budget.tokens=2e6"


def test_a_preset_of_one_compute_a_run_is_told_to_take_lengths(tmp_path):
    practice = practice_of(study_table(tmp_path / "gpt_isoflop"))
    command = practice.command("gpt_2x40", 2e6)
    assert " budget.flops=null model=gpt/2x40 budget.tokens=2e6" in command


def test_proposed_runs_are_commands_of_sizes_that_are_configured(table):
    practice = practice_of(table)
    plan = [{"N": practice.sizes["gpt_12x768"] * 1.01, "D": 3.2e7},
            {"N": float(table.frame["N"].min()), "D": 3.2e7},
            {"N": float(table.frame["N"].min()), "D": 6.4e7}, {"N": 1e12, "D": 1e7}]  # fmt: skip
    named, trained, unnamed = sweeps(table, plan)
    given = "fmscale sweep data=stdlib_text study=own batch_size=64 seed=1 model="
    assert named == f"{given}gpt/12x768 budget.tokens=[32000000] budget.max_epochs=2"
    smallest = choice(table.frame.sort_values("N")["model"].iloc[0])
    lengths = "budget.tokens=[1000000,32000000,64000000] budget.max_epochs=4"
    assert trained == f"{given}{smallest} {lengths}"
    assert unnamed.endswith("model=MODEL budget.tokens=[10000000]  "
                            "# MODEL: one of about 1e+12 parameters")  # fmt: skip


def test_the_decision_holds_the_planted_truth(table):
    outlook = look_ahead(table, "val_loss")
    decision = outlook.decision
    assert decision.budget.flops == pytest.approx(10 * outlook.largest)
    assert decision.loss["distance"] == pytest.approx(10, rel=0.05)
    truth = joint_loss(GPT_LAW, decision.n, decision.d)
    assert decision.loss["low"] < truth < decision.loss["high"]
    near = decision.nearest
    assert abs(np.log(near["n"] / decision.n)) < np.log(2)
    assert f" model={near['model'].replace('_', '/')} " in near["command"]
    assert decision.lines()[0].startswith("train N* = ")
    assert "passes over the data" in decision.price()
    assert any("repeats the data" in caution for caution in decision.cautions)


def test_a_price_is_of_the_hours_at_the_speed_measured(tmp_path, capsys):
    study_table(tmp_path / "own")
    ask = ["forecast", str(tmp_path / "own"), "--flops", "2.16e16", "--price", "3"]
    assert main([*ask, "--json", str(tmp_path / "f.json")]) == 0
    answer = json.loads((tmp_path / "f.json").read_text())
    assert answer["gpu_hours"] == pytest.approx(3)
    assert answer["dollars"] == pytest.approx(9)
    assert "3 h of accelerator time, $9.00" in " ".join(capsys.readouterr().out.split())
    assert main([*ask, "--peak", "4e12", "--mfu", "1", "--json", str(tmp_path / "f.json")]) == 0
    assert json.loads((tmp_path / "f.json").read_text())["dollars"] == pytest.approx(4.5)


def test_the_band_widens_beyond_the_ladder(table):
    outlook = look_ahead(table, "val_loss")
    width = np.log(outlook.band["high"] / outlook.band["low"]).to_numpy()
    beyond = outlook.band["C"].to_numpy() > outlook.largest
    assert (np.diff(width[beyond]) > 0).all()
    assert width[beyond].min() >= width[~beyond].min()


def test_a_lost_forecast_says_so_first(table):
    rng = np.random.default_rng(5)
    noisy = table.frame.assign(val_loss=table.frame["val_loss"] * np.exp(0.5 * rng.normal(size=25)))
    target = 1e4 * noisy["C"].max()
    decision = look_ahead(table.with_frame(noisy), "val_loss", target).decision
    assert decision.verdict == "not determined"
    assert decision.lines()[0].startswith("not determined: at ")
    assert decision.lines()[1].startswith("at best a guess: train ")


def test_a_lost_forecast_names_the_runs_that_would_narrow_it(tmp_path, capsys):
    rng = np.random.default_rng(5)
    for path in sorted(write_study(tmp_path / "own").glob("*/record.json")):
        record = json.loads(path.read_text())
        record["metrics"]["val_loss"] *= float(np.exp(0.5 * rng.normal()))
        path.write_text(json.dumps(record))
    ask = ["forecast", str(tmp_path / "own"), "--json", str(tmp_path / "f.json")]
    assert main([*ask, "--flops", "2e18"]) == 0
    answer = json.loads((tmp_path / "f.json").read_text())
    assert answer["verdict"] != "determined"
    assert answer["next"]["budget"] == pytest.approx(2e17)
    out = capsys.readouterr().out
    assert "which runs would narrow it most:" in out
    assert all(command in out for command in answer["next"]["commands"])
    study_table(tmp_path / "clear")
    ask[1] = str(tmp_path / "clear")
    assert main([*ask, "--flops", "1e15"]) == 0
    answer = json.loads((tmp_path / "f.json").read_text())
    assert answer["verdict"] == "determined"
    assert "next" not in answer


@pytest.mark.parametrize(
    ("low", "high", "digits"),
    [(2.3, 2.32, 3), (2.3, 2.36, 3), (2.3, 2.4, 2), (2.0, 2.6, 2), (2.0, 3.0, 1), (10.0, 90.0, 0)],
)
def test_digits_follow_the_interval(low, high, digits):
    assert decimals(low, high) == digits


@pytest.mark.parametrize(("value", "text"), [(1.53, "1.5"), (58.2, "58"), (1804.0, "1,804")])
def test_passes_are_said_without_powers_of_ten(value, text):
    assert short(value) == text


def test_durations_are_said_in_units_that_fit():
    assert duration(0.01) == "36 s"
    assert duration(1.2) == "72 min"
    assert duration(5) == "5 h"
    assert duration(100) == "4.17 days"
