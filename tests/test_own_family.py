"""A family from outside goes the whole way with no change to the library."""

from __future__ import annotations

import json

import pytest

import analysis
from analysis.__main__ import main
from analysis.report.study import analyze_study
from fmscale.commands import plan_tables
from fmscale.config.compose import with_config_dir
from fmscale.config.jobs import expand
from fmscale.errors import ConfigError
from fmscale.forecast.reference import FORECAST, FRACTIONS, finished_runs
from fmscale.planning.sweep import Sweep
from fmscale.runs.store import Study
from fmscale.tracking.panels import study_sections
from fmscale.training.run import check, train_branch, train_trunk
from tests.helpers.own_family import NOISE, Settling

OWN = "tests.helpers.own_family."
FILES = {
    "model/follower.yaml": f"_target_: {OWN}Follower\nshape: {{_target_: {OWN}FollowerShape}}\n",
    "data/signal.yaml": f"_target_: {OWN}Signal\n",
    "objective/follow.yaml": f"_target_: {OWN}SquaredError\n",
    "evaluation/following.yaml": f"evaluators: {{own: {{_target_: {OWN}Following}}}}\n",
}
CHOSEN = ["data=signal", "objective=follow", "evaluation=following", "model=follower", "study=own",
          "budget=units", "batch_size=4", "trainer=cpu", "trainer.log_every_steps=1",
          "optimizer.lr=0.02", "logger=none"]  # fmt: skip


@pytest.fixture(scope="module")
def overrides(tmp_path_factory):
    """What a user writes besides sizes and lengths."""
    folder = tmp_path_factory.mktemp("conf")
    for name, text in FILES.items():
        path = folder / name
        path.parent.mkdir()
        path.write_text(text)
    return with_config_dir([*CHOSEN, f"paths.runs_dir={folder / 'runs'}"], str(folder))


@pytest.fixture(scope="module")
def study(overrides):
    """Four sizes at three lengths with two seeds, trained."""
    grid = ["+model.shape.width=4,8,16,32", "seed=1,2", "budget.units=[1280,2560,5120]"]
    jobs = expand([*overrides, *grid])
    for job in jobs:
        check(job)
        train_trunk(job)
        for branch in job.branches:
            train_branch(job, branch)
    return Study.open(jobs[0].config["paths"]["runs_dir"], "own")


def test_records_hold_its_name_unit_and_measures(study):
    records = {folder.run_id: folder.record() for folder in study.runs()}
    record = records[max(records, key=lambda r: records[r].flops)]
    assert (record.family, record.model, record.unit) == ("follower", "follower_32", "frames")
    assert record.n_units == 5_120
    assert record.to_dict()["units"]["n_units"] == "frames"
    assert record.family_metrics == ["val_error", "sign_wrong"]
    assert record.flops == 6 * (6 * 32 + 32) * 5_120
    # Nobody passes the noise, and the largest net has come near it.
    assert NOISE**2 * 0.8 < record.metrics["val_error"] < NOISE**2 * 2
    logged = study.run(record.run_id).metrics()[-1]
    assert (logged["val/error"], logged["units"]) == (record.metrics["val_error"], 5_120)


def test_the_plan_prices_it_in_its_unit_and_names_the_budget_it_takes(overrides, capsys):
    jobs = expand([*overrides, "+model.shape.width=4,64", "budget.units=1280"])
    plan_tables.print_plan(Sweep(jobs), {}, None)
    shown = capsys.readouterr().out
    assert all(word in shown for word in ("follower_64", "/frame", "D (frames)", "2.69k", "1.28k"))
    with pytest.raises(ConfigError, match=r"which counts frames; use budget.units"):
        expand([*overrides, "+model.shape.width=4", "budget=samples", "budget.samples=1280"])


def test_the_workspace_shows_its_measures_against_its_unit(study):
    sections = study_sections([folder.record() for folder in study.runs()])
    panels = {panel.title: panel for section in sections for panel in section.panels}
    main_panel = panels["Validation loss against frames"]
    assert (main_panel.x, main_panel.y) == ("n_units", "val_error")
    assert main_panel.y_label == "loss (squared volts)"
    assert panels["Training loss against frames"].x == "units"
    assert panels["Sign wrong against compute"].y == "sign_wrong"


def test_its_finished_runs_are_what_a_live_forecast_is_made_from(study):
    found = finished_runs(study, f"{OWN}SquaredError", 4)
    assert len(found) == len(list(study.runs())) == 24
    longest = [reference for reference in found if reference.n_units == 5_120]
    assert len(longest) == 8
    records = {folder.run_id: folder.record() for folder in study.runs()}
    for reference in longest:
        assert reference.end_loss == records[reference.run_id].metrics["val_error"]
        assert set(reference.losses) == set(FRACTIONS)
    assert any((folder.path / FORECAST).exists() for folder in study.runs())


def test_its_report_is_drawn_with_its_measures_and_its_law(study, tmp_path):
    runs = analysis.load_runs(study.path)
    found = analyze_study(runs, bootstrap=20)
    assert found.family == "follower"
    metrics = list(dict.fromkeys(panel.metric for panel in found.panels))
    assert metrics == ["val_error", "sign_wrong"]
    assert "refused" not in found.optimal
    law = analysis.fit(Settling(), found.table, metric="val_error", bootstrap=0)
    assert 0 <= law.parameters["c"] < min(runs.frame["val_error"])
    main(
        [
            "report",
            str(study.path),
            "--out",
            str(tmp_path / "out"),
            "--bootstrap",
            "20",
            "--laws",
            f"{OWN[:-1]}:Settling",
        ]
    )
    page = (tmp_path / "out" / "report.html").read_text()
    assert all(word in page for word in ("follower", "val_error", "sign_wrong", "settling"))
    answer = json.loads(next((tmp_path / "out").glob("*.json")).read_text())
    assert answer
