"""A run with a bad learning rate is flagged at 20 % of its budget, while it trains."""

from __future__ import annotations

import json
from typing import ClassVar

import pytest

from fmscale.forecast.reference import FORECAST, finished_runs, off_course
from fmscale.runs.store import RunFolder, Study
from fmscale.tracking.tracker import NoTracker
from fmscale.training import run
from tests.helpers.training import train

# One budget, trained by itself: a reference run costs one short fit.
APART = ["budget.tokens=40960", "schedule=cosine", "batch_size=16"]
TOGETHER = ["budget.tokens=[40960,81920]", "batch_size=16"]


class Listener(NoTracker):
    """Keeps alerts."""

    alerts: ClassVar[list[tuple[str, str]]] = []

    def alert(self, title: str, text: str) -> None:
        self.alerts.append((title, text))


@pytest.fixture
def study(tiny, plan_one) -> Study:
    """Two sizes and four seeds at a good rate."""
    for model in ("gpt/1x8", "gpt/1x16"):
        for seed in (1, 2, 3, 4):
            train(plan_one([*tiny, *APART, f"model={model}", f"seed={seed}"]))
    return Study.open(plan_one([*tiny, *APART]).config["paths"]["runs_dir"], "default")


def looks(folder: RunFolder) -> dict:
    return json.loads((folder.path / FORECAST).read_text())


def test_a_planted_bad_rate_is_flagged_at_a_fifth_and_a_good_run_is_not(
    study, tiny, plan_one, monkeypatch, tmp_path
):
    alerts: list[tuple[str, str]] = []
    monkeypatch.setattr(Listener, "alerts", alerts)
    listened = [*tiny, f"logger._target_={__name__}.Listener"]
    good = plan_one([*listened, *APART, "seed=5"])
    train(good)
    assert off_course(study.run(good.branches[0].run_id)) is None
    assert alerts == []

    bad = plan_one([*listened, *TOGETHER, "seed=5", "optimizer.lr=1e-5"])
    run.train_trunk(bad)  # flagged before any of its runs is at its end
    short, long = (study.run(branch.run_id) for branch in bad.branches)
    found = looks(short)
    first = found["looks"][0]
    assert first["fraction"] == 0.2
    assert first["off_course"]
    assert first["loss"] > first["high"]
    assert first["end_by_curve"] > first["end_by_law"]
    assert [title for title, _ in alerts] == [f"{short.run_id} is off course"]  # once
    assert "lead one to expect" in found["sentence"]
    assert not (long.path / FORECAST).exists()  # the study knows no run of this budget

    # Flagged runs do not become the measure of others.
    run.train_branch(bad, bad.branches[0])
    objective = "fmscale.objectives.NextToken"
    ids = {reference.run_id for reference in finished_runs(study, objective, 16)}
    assert len(ids) == 9
    assert short.run_id not in ids
    assert not finished_runs(study, "fmscale.objectives.PairwiseSigmoid", 16)

    # Watching changed no number: alone in a store, with nothing to be judged by, the same result.
    apart = plan_one([*tiny, *APART, "seed=5", f"paths.runs_dir={tmp_path / 'apart'}"])
    train(apart)
    watched = study.run(good.branches[0].run_id)
    unwatched = Study.open(tmp_path / "apart", "default").run(good.branches[0].run_id)
    assert (watched.path / FORECAST).exists()
    assert not (unwatched.path / FORECAST).exists()
    assert watched.record().metrics == unwatched.record().metrics
