"""What holds for every launcher: taken over, vmapped, tried again, halved, stopped."""

from __future__ import annotations

from collections import Counter

import pytest

from fmscale.commands.retry import launcher_of
from fmscale.config.jobs import expand
from fmscale.errors import ConfigError
from fmscale.launching.driver import Options, run
from fmscale.launching.in_process import InProcess
from fmscale.launching.job_process import train_job
from fmscale.launching.tasks import do_task
from fmscale.planning.store_plan import study_of
from fmscale.planning.sweep import Sweep
from fmscale.runs.store import RunFolder
from fmscale.training.distributed.world import World
from tests.helpers.sweeps import (
    BUDGETS,
    EXPLODING,
    HUNGRY,
    check_every_feature,
    fmscale,
    needs_ray,
    statuses,
)

WARM = "schedule.warmup_units=256"  # the same trunk whatever the budgets


def test_the_store_is_asked_once_what_is_left(tiny, monkeypatch):
    asked: Counter[str] = Counter()
    plain = RunFolder.is_finished

    def is_finished(folder: RunFolder) -> bool:
        asked[folder.run_id] += 1
        return plain(folder)

    monkeypatch.setattr(RunFolder, "is_finished", is_finished)
    sweep = Sweep(expand([*tiny, WARM, "seed=1,2,3", "budget.tokens=[2560,5120,10240]"]))
    sweep.check_limits(n_workers=2)
    assert sweep.n_left == sweep.n_runs == 9
    assert sorted(asked.values()) == [1] * 9
    per_step = sweep.jobs[0].flops(sweep.jobs[0].units_per_step)["flops"]
    assert sweep.flops == pytest.approx(3 * (128 + 8 + 16 + 32) * per_step)


def test_limits_count_what_is_left_after_what_the_store_has(tiny):
    limited = [*tiny, WARM, "limits.max_flops=1"]
    per_step = 64 * expand([*tiny, WARM, "budget.tokens=2560"])[0].flops(1)["flops"]
    train_job(expand([*tiny, WARM, "budget.tokens=[2560,5120]"])[0], World())
    limited[-1] = f"limits.max_flops={97 * per_step}"  # 64 steps of the trunk and 32 of a cooldown
    Sweep(expand([*limited, "budget.tokens=[2560,5120,10240]"])).check_limits(1)
    limited[-1] = f"limits.max_flops={95 * per_step}"
    with pytest.raises(ConfigError, match="more than limits.max_flops"):
        Sweep(expand([*limited, "budget.tokens=[2560,5120,10240]"])).check_limits(1)


def test_one_process_takes_over_what_another_study_has(tiny, plan_one, capsys):
    first = plan_one([*tiny, WARM, "study=first", "budget.tokens=[2560,5120]"])
    assert not train_job(first, World())
    second = plan_one([*tiny, WARM, "study=second", "budget.tokens=[2560,5120]"])
    assert not train_job(second, World())
    said = capsys.readouterr().out
    assert "taken over from there: 2 of 2 runs" in said
    assert "Nothing to train: all 2 runs of second are complete" in said
    for branch in second.branches:
        here, there = (study_of(j).run(branch.run_id).path for j in (second, first))
        assert (here / "record.json").read_bytes() == (there / "record.json").read_bytes()


def test_one_process_halves_what_does_not_fit_and_stops_if_asked(tiny, plan_one, own_code):
    own_code(hungry=HUNGRY.replace("d_model == 24", "d_model == 16"))
    job = plan_one([*tiny, WARM, BUDGETS, "objective._target_=hungry.Hungry"])
    study = study_of(job)
    assert train_job(job, World())
    assert {study.run(b.run_id).status()["state"] for b in job.branches} == {"oom"}
    assert not train_job(job, World(), Options(max_halvings=1))
    records = [study.run(branch.run_id).record() for branch in job.branches]
    assert [record.environment["micro_batches"] for record in records] == [2, 2]


def test_one_process_tries_again_or_stops(tiny, plan_one, own_code, tmp_path):
    code = EXPLODING.replace("d_model == 24", "d_model == 16 and not os.path.exists('mended')")
    own_code(exploding=f"import os\n{code}")
    job = plan_one(
        [*tiny, WARM, BUDGETS, "evaluation.evaluators.language._target_=exploding.Exploding"]
    )
    study = study_of(job)
    assert train_job(job, World(), Options(on_error="stop"))
    states = Counter(study.run(branch.run_id).status()["state"] for branch in job.branches)
    assert states == {"failed": 1, "queued": 1}
    assert train_job(job, World(), Options())  # continues with the other
    states = Counter(study.run(branch.run_id).status()["state"] for branch in job.branches)
    assert states == {"failed": 2}
    tries: list[str] = []

    def mending(task, report):
        tries.append(task["kind"])
        if tries.count("branch") == 3:  # the longer run has failed twice by then
            (tmp_path / "mended").touch()
        return do_task(task, report)

    assert not run(Sweep([job]), InProcess(mending), Options(max_retries=2))
    assert tries.count("branch") == 4


def test_one_process_computes_alike_runs_at_once(tiny, tmp_path):
    grid = [*tiny, "trainer.precision=32-true", "seed=1,2", BUDGETS]
    kinds: list[str] = []

    def noting(task, report):
        kinds.append(task["kind"])
        return do_task(task, report)

    together, apart = Sweep(expand(grid)), Sweep(expand([*grid, f"paths.runs_dir={tmp_path}/b"]))
    assert not run(together, InProcess(noting), Options(vmap=2))
    assert kinds.count("group") == 1
    assert not run(apart, InProcess(do_task), Options())
    for one, other in zip(together.jobs, apart.jobs, strict=True):
        for branch in one.branches:
            vmapped, lone = (study_of(j).run(branch.run_id).record() for j in (one, other))
            assert vmapped.metrics["val_loss"] == pytest.approx(lone.metrics["val_loss"], rel=1e-4)


@pytest.mark.parametrize(
    "launcher",
    [
        pytest.param(["launcher=local", "hydra.launcher.n_workers=2"], id="local"),
        pytest.param(["launcher=joblib", "hydra.launcher.n_jobs=2",
                      "hydra.launcher.poll_seconds=0.3"], id="joblib"),
        pytest.param(["launcher=ray", "+hydra.launcher.ray.init.num_cpus=2",
                      "hydra.launcher.poll_seconds=0.3"], id="ray", marks=needs_ray),
    ],
)  # fmt: skip
def test_every_launcher_retries_halves_vmaps_and_takes_over(tiny, tmp_path, own_code, launcher):
    said = check_every_feature(tiny, tmp_path, own_code, *launcher)
    assert "again" in said
    assert "vmapped" in said


@pytest.mark.parametrize(
    "launcher",
    [
        pytest.param(["launcher=basic"], id="basic"),
        pytest.param(["launcher=joblib", "hydra.launcher.n_jobs=1",
                      "hydra.launcher.poll_seconds=0.3"], id="joblib"),
        pytest.param(["launcher=ray", "+hydra.launcher.ray.init.num_cpus=1",
                      "hydra.launcher.poll_seconds=0.3"], id="ray", marks=needs_ray),
    ],
)  # fmt: skip
def test_every_launcher_stops_at_a_failure_if_asked(tiny, tmp_path, launcher):
    (tmp_path / "exploding.py").write_text(EXPLODING.replace("d_model == 24", "d_model == 16"))
    grid = [*tiny, "seed=1,2,3,4,5,6", "budget.tokens=2560", *launcher,
            "hydra.launcher.on_error=stop",
            "evaluation.evaluators.language._target_=exploding.Exploding"]  # fmt: skip
    result = fmscale("sweep", *grid, folder=tmp_path)
    assert result.returncode == 1, result.stdout
    states = list(statuses(tmp_path).values())
    assert 1 <= states.count("failed") < 6
    assert "queued" in states


def test_retry_is_launched_as_a_sweep_is(tiny, plan_one):
    study = study_of(plan_one([*tiny, BUDGETS]))
    backend, asked = launcher_of(
        study, ["hydra.launcher.n_workers=3", "hydra.launcher.max_halvings=2"]
    )
    assert (type(backend).__name__, backend.n_slots, asked) == (
        "Workers", 3, Options(max_halvings=2),
    )  # fmt: skip
    backend, asked = launcher_of(study, ["launcher=joblib", "hydra.launcher.on_error=stop"])
    assert (type(backend).__name__, asked) == ("Joblib", Options(on_error="stop"))
    backend, asked = launcher_of(study, ["launcher=basic", "hydra.launcher.max_retries=1"])
    assert (type(backend).__name__, asked) == ("InProcess", Options(max_retries=1))
    for wrong, message in (
        ("seed=2", "seed=2: runs are trained as they were asked for"),
        ("launcher=nope", "nope"),
        ("hydra.launcher.n_jobs=2", "n_jobs"),
    ):
        with pytest.raises(ConfigError, match=message):
            launcher_of(study, [wrong])
