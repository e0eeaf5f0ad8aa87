"""What fmscale writes, analysis reads: the only place that knows both sides."""

from __future__ import annotations

import pytest

import analysis
from fmscale.runs.record import SCHEMA_VERSION, UNITS
from fmscale.runs.store import Study
from fmscale.training import run


@pytest.fixture
def trained(tiny, plan_one):
    job = plan_one([*tiny, "budget.tokens=[2560,5120]"])
    run.train_trunk(job)
    for branch in job.branches:
        run.train_branch(job, branch)
    return job, Study.open(job.config["paths"]["runs_dir"], job.config["study"])


def test_every_number_of_a_record_arrives_in_the_table(trained):
    job, study = trained
    table = analysis.load_runs(study.path)
    frame = table.frame.set_index("run_id")
    assert len(frame) == len(job.branches)
    for branch in job.branches:
        record = study.run(branch.run_id).record()
        row = frame.loc[branch.run_id]
        for column in UNITS:
            value = getattr(record, column)
            if value is not None:
                assert row[column] == value, column
        for name, value in record.metrics.items():
            assert row[name] == value
        assert bool(row["annealed"]) is True


def test_columns_of_the_other_family_are_absent_not_zero(trained):
    _, study = trained
    frame = analysis.load_runs(study.path).frame
    assert "n_samples" not in frame or frame["n_samples"].isna().all()


def test_both_sides_speak_of_the_same_schema():
    assert analysis.load.SCHEMA_VERSION == SCHEMA_VERSION


def test_runs_that_were_not_annealed_are_not_fitted(tiny, plan_one):
    job = plan_one([*tiny, "budget.tokens=[2560,5120]", "schedule=constant"])
    run.train_trunk(job)
    for branch in job.branches:
        run.train_branch(job, branch)
    study = Study.open(job.config["paths"]["runs_dir"], job.config["study"])
    kept = analysis.final_runs(analysis.load_runs(study.path))
    assert len(kept.frame) == 0
    assert sum(len(dropped.rows) for dropped in kept.dropped) == 2
