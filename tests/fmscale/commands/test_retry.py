"""What is missing of a study, from the configurations stored with its runs."""

from __future__ import annotations

import pytest

from fmscale.commands.retry import unfinished_jobs
from fmscale.errors import ConfigError
from fmscale.launching.preflight import submit
from fmscale.planning.store_plan import study_of
from fmscale.planning.sweep import Sweep
from fmscale.training import run

WARM = "schedule.warmup_units=256"


@pytest.fixture
def job(tiny, plan_one):
    job = plan_one([*tiny, WARM, "budget.tokens=[2560,5120,10240]"])  # 40, 80, 160 steps
    submit(Sweep([job]))
    return job


def ids(jobs) -> list[list[str]]:
    return [[branch.run_id for branch in job.branches] for job in jobs]


def test_runs_of_one_trunk_are_one_job_with_the_ids_they_had(job):
    jobs = unfinished_jobs(study_of(job))
    assert ids(jobs) == ids([job])
    assert jobs[0].trunk_id == job.trunk_id
    assert [plan.steps for plan in Sweep(jobs).plans] == [128 + 8 + 16 + 32]


def test_finished_and_running_runs_are_left_alone(job):
    study, (first, second, third) = study_of(job), job.branches
    run.train_trunk(job)
    run.train_branch(job, first)
    with study.run(second.run_id).lock():
        assert ids(unfinished_jobs(study)) == [[third.run_id]]
    assert ids(unfinished_jobs(study)) == [[second.run_id, third.run_id]]
    for name in (third.run_id, third.run_id[:-6], f"{study.path.name}/{third.run_id}"):
        assert ids(unfinished_jobs(study, [name])) == [[third.run_id]]


def test_runs_that_differ_in_more_than_the_budget_stay_apart(job, tiny, plan_one):
    other = plan_one([*tiny, WARM, "budget.tokens=2560", "seed=2"])
    submit(Sweep([other]))
    found = sorted(unfinished_jobs(study_of(job)), key=lambda j: j.config["seed"])
    assert ids(found) == ids([job, other])


def test_mistakes_are_named(job):
    study = study_of(job)
    with pytest.raises(ConfigError, match="no run in .* begins with 'default/nope'"):
        unfinished_jobs(study, ["nope"])
    with pytest.raises(ConfigError, match="retry trains runs of default alone"):
        unfinished_jobs(study, [f"other/{job.branches[0].run_id}"])
    config = study.run(job.branches[0].run_id).path / "config.yaml"
    config.write_text(config.read_text().replace("seed: 1", "seed: 3"))
    with pytest.raises(ConfigError, match="another version of fmscale wrote it"):
        unfinished_jobs(study)
