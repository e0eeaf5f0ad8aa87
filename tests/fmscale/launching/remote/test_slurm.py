"""Sweeps on a real Slurm cluster of one node: preempted, cancelled, left alone, taken up again."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from fmscale.launching.job_process import train_job
from fmscale.launching.preflight import submit
from fmscale.launching.remote import slurm_queue
from fmscale.planning.sweep import Sweep
from fmscale.training.distributed.world import World
from tests.helpers import slurm_cluster
from tests.helpers.sweeps import (
    ROOT,
    check_every_feature,
    fmscale,
    in_folder,
    records_and_rows,
    statuses,
    sweep,
)

WHY_NOT = slurm_cluster.why_not()
LAUNCHER = [
    "launcher=slurm", "hydra.launcher.partition=low", "hydra.launcher.cpus_per_task=1",
    "hydra.launcher.mem_gb=0.5", "hydra.launcher.timeout_min=30",
    "hydra.launcher.signal_delay_s=20", "hydra.launcher.poll_seconds=0.3",
    "hydra.launcher.lost_after_seconds=2",
]  # fmt: skip
# Some seconds each, so that there is time to interrupt them, and no checkpoint but where a run
# branches off and where somebody interrupts.
RUNS = [
    "model=gpt/1x16", "budget.tokens=[96000,192000]", "budget.max_epochs=1e6",
    "trainer.checkpoint_every_seconds=1000",
]  # fmt: skip
GRID = [*RUNS, "seed=1,2,3"]

pytestmark = pytest.mark.skipif(WHY_NOT is not None, reason=f"no Slurm: {WHY_NOT}")


@pytest.fixture(scope="module")
def slurm(tmp_path_factory) -> Iterator[None]:
    """A cluster that every command of this module's tests finds."""
    with (
        slurm_cluster.cluster(tmp_path_factory.mktemp("slurm")) as variables,
        pytest.MonkeyPatch.context() as patch,
    ):
        for name, value in variables.items():
            patch.setenv(name, value)
        yield


def start(overrides: list[str], folder: Path) -> subprocess.Popen[str]:
    """`fmscale sweep` in the background, its output in `sweep.txt`."""
    with (folder / "sweep.txt").open("w") as out:
        return subprocess.Popen(
            [sys.executable, "-m", "fmscale.cli", "sweep", *overrides],
            cwd=folder, stdout=out, stderr=out, text=True,
            env={**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "200"},
        )  # fmt: skip


def wait_until(holds: Callable[[], bool], what: str, seconds: float = 240) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, f"{what}: not within {seconds} s"
        time.sleep(0.05)


def training(folder: Path, seed: int) -> bool:
    """Whether the trunk of a seed has made its first steps."""
    found = folder.glob(f"runs/default/trunks/gpt_1x16-s{seed}-*/metrics.jsonl")
    return any(path.stat().st_size > 0 for path in found)  # it is there, empty, before the first


def steps_saved(folder: Path, seed: int) -> list[int]:
    found = folder.glob(f"runs/default/trunks/gpt_1x16-s{seed}-*/checkpoints/step_*.pt")
    return sorted(int(path.stem.removeprefix("step_")) for path in found)


def slurm_ids(folder: Path) -> list[str]:
    tickets = json.loads((folder / "runs/.hydra/default/slurm/tickets.json").read_text())
    return sorted(tickets.values())


def preempt(folder: Path, job_id: str) -> str:
    """A job of the higher partition takes the whole node: what trains there is queued again."""
    pushing = subprocess.run(
        ["sbatch", "--parsable", "--partition=high", "--exclusive", "--mem=100",
         "--output=/dev/null", "--wrap", "sleep 600"],
        check=True, capture_output=True, text=True,
    ).stdout.strip()  # fmt: skip
    log = folder / f"runs/.hydra/default/slurm/{job_id}_0_log.out"
    wait_until(lambda: "Requeued job" in log.read_text(), "the job goes back into the queue")
    return pushing


def is_queued(job_id: str) -> bool:
    asked = ["squeue", "--noheader", "--format=%T", f"--jobs={job_id}"]
    return subprocess.run(asked, capture_output=True, text=True).stdout.strip() == "PENDING"


def cancel(*job_ids: str) -> None:
    subprocess.run(["scancel", *job_ids], check=True)


@pytest.mark.timeout(600)
def test_an_array_survives_preemption_and_a_cancelled_job(slurm, tiny, tmp_path, plan_one):
    there, calm = tmp_path / "there", tmp_path / "calm"
    parent = start([*in_folder(tiny, there), *GRID, *LAUNCHER], there)
    wait_until(lambda: training(there, 1) and training(there, 2), "two jobs train")
    jobs = slurm_ids(there)
    assert len(jobs) == 3
    assert {job.partition("_")[0] for job in jobs} == {jobs[0].partition("_")[0]}  # one array

    pushing = preempt(there, jobs[1])
    # It was saved where it was told to go, and not only where runs branch off (1200, 2400).
    assert set(steps_saved(there, 2)) - {1200, 2400}

    # One job is cancelled: it is noticed, and nobody waits for it for ever. Slurm forgets to cancel
    # what it is just about to queue again.
    wait_until(lambda: is_queued(jobs[0]), "the other job goes back into the queue, too")
    cancel(jobs[0], pushing)
    for seed in (2, 3):  # meanwhile, the same runs by themselves
        train_job(plan_one([*in_folder(tiny, calm), *RUNS, f"seed={seed}"]), World())
    assert parent.wait(timeout=180) == 1, (there / "sweep.txt").read_text()
    said = " ".join((there / "sweep.txt").read_text().split())
    assert f"Slurm job {jobs[0]} is over (cancelled)" in said
    assert "the same command resumes it" in said
    states = statuses(there)
    assert {state for run, state in states.items() if "-s1-" in run} == {"interrupted"}
    assert {state for run, state in states.items() if "-s1-" not in run} == {"completed"}
    assert len(records_and_rows(there)) == 4
    assert records_and_rows(there) == records_and_rows(calm)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_jobs_whose_parent_has_left_are_found_by_the_same_command(slurm, tiny, tmp_path):
    there = tmp_path / "there"
    command = [*in_folder(tiny, there), *GRID, *LAUNCHER]
    parent = start(command, there)
    wait_until(lambda: training(there, 1), "the first job trains")
    parent.terminate()
    assert parent.wait(timeout=60) == 143
    assert "The same command watches them again" in (there / "sweep.txt").read_text()
    before = slurm_ids(there)
    cancel(before[2])
    parent = start(command, there)
    wait_until(lambda: "jobs are in Slurm's queue" in (there / "sweep.txt").read_text(), "watch")
    assert set(before[:2]) < set(slurm_ids(there))
    assert parent.wait(timeout=300) == 0, (there / "sweep.txt").read_text()
    assert len(records_and_rows(there)) == 6


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_the_tasks_of_a_job_train_one_run_and_are_preempted_together(
    slurm, tiny, tmp_path, strategy
):
    there, calm = tmp_path / "there", tmp_path / "calm"
    several = [f"trainer={strategy}", "trainer.accelerator=cpu", "trainer.precision=32-true",
               "model=gpt/1x16", "budget.tokens=[32000,64000]", "budget.max_epochs=1e6",
               "trainer.checkpoint_every_seconds=1000"]  # fmt: skip
    own = [o for o in tiny if not o.startswith("trainer=")]
    parent = start([*in_folder(own, there), *several, "seed=1", *LAUNCHER,
                    "hydra.launcher.tasks_per_node=2"], there)  # fmt: skip
    wait_until(lambda: training(there, 1), "the job trains")
    (job_id,) = slurm_ids(there)
    pushing = preempt(there, job_id)
    assert steps_saved(there, 1) or list(there.rglob("step_*.parts"))
    cancel(pushing)
    # Meanwhile, without a sweep: `srun` starts the processes of a run.
    own = in_folder(own, calm)
    alone = subprocess.run(
        ["srun", "--ntasks=2", "--partition=low", "--mem=1000", sys.executable, "-m",
         "fmscale.train", *own, *several, "seed=1"],
        capture_output=True, text=True, cwd=calm,
        env={**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "200"},
    )  # fmt: skip
    assert alone.returncode == 0, alone.stderr
    assert alone.stdout.count("completed") == 2  # the table is rank 0's alone
    assert parent.wait(timeout=300) == 0, (there / "sweep.txt").read_text()
    assert len(records_and_rows(there)) == 2
    for run_id, result in records_and_rows(there).items():
        assert result["metrics"] == records_and_rows(calm)[run_id]["metrics"]
        assert result["record"]["environment"]["n_processes"] == 2


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_job_on_a_node_does_what_every_launcher_does(slurm, tiny, tmp_path, own_code):
    said = check_every_feature(tiny, tmp_path, own_code, *LAUNCHER)
    jobs = slurm_ids(tmp_path)
    assert len(jobs) == 2  # two of a size at once, and one of the other
    # The killed job was lost, and another one took its place.
    assert len({job.partition("_")[0] for job in jobs}) == 2
    assert "again" in said


@pytest.mark.timeout(600)
def test_retry_queues_what_is_missing(slurm, tiny, tmp_path, plan_one):
    job = plan_one([*tiny, "budget.tokens=[2560,5120]"])
    submit(Sweep([job]))
    result = fmscale("retry", "default", *LAUNCHER, folder=tmp_path)
    assert result.returncode == 0, result.stderr
    (job_id,) = slurm_ids(tmp_path)
    assert f"Slurm jobs {job_id}; logs in" in result.stdout
    assert list(statuses(tmp_path).values()) == ["completed"] * 2
    assert list((tmp_path / "runs/.hydra/default/slurm").glob(f"{job_id}_*_log.out"))


def test_what_slurm_refuses_is_said_as_slurm_says_it(slurm, tiny, tmp_path):
    result = sweep([*tiny, *LAUNCHER, "budget.tokens=2560", "hydra.launcher.partition=none"],
                   tmp_path)  # fmt: skip
    assert result.returncode == 1
    assert "invalid partition specified: none" in result.stderr.lower()
    assert "Traceback" not in result.stderr


def test_the_queue_knows_what_waits_what_is_over_and_what_it_never_saw(slurm):
    sent = subprocess.run(
        ["sbatch", "--parsable", "--hold", "--array=0-1", "--mem=10", "--wrap", "true"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    number = sent.stdout.strip()
    found = slurm_queue.states([f"{number}_0", f"{number}_1"])
    assert found == {f"{number}_0": "PENDING", f"{number}_1": "PENDING"}
    subprocess.run(["scancel", number], check=True)
    wait_until(lambda: slurm_queue.states([f"{number}_1"])[f"{number}_1"] == "CANCELLED", "cancel")
    assert slurm_queue.states(["4000000"]) == {"4000000": slurm_queue.FORGOTTEN}
    assert not slurm_queue.is_over("REQUEUED")


def test_a_queue_that_does_not_answer_is_no_end_of_any_job(monkeypatch, tmp_path):
    silent = tmp_path / "squeue"
    silent.write_text("#!/bin/sh\necho 'Unable to contact slurm controller' >&2\nexit 1\n")
    silent.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(slurm_queue.QueueSilent, match="Unable to contact"):
        slurm_queue.states(["1"])
