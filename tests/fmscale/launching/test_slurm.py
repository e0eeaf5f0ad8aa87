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

from fmscale.launching import slurm_queue
from tests import slurm_cluster
from tests.fmscale.launching.test_remote import in_folder, results
from tests.fmscale.launching.test_sweep import ROOT, statuses, sweep

WHY_NOT = slurm_cluster.why_not()
LAUNCHER = [
    "launcher=slurm", "hydra.launcher.partition=low", "hydra.launcher.cpus_per_task=1",
    "hydra.launcher.mem_gb=0.5", "hydra.launcher.timeout_min=30",
    "hydra.launcher.signal_delay_s=20", "hydra.launcher.poll_seconds=0.3",
    "hydra.launcher.lost_after_seconds=2",
]  # fmt: skip
# Some seconds each, so that there is time to interrupt them.
GRID = [
    "model=gpt_1x16", "seed=1,2,3", "budget.tokens=[96000,192000]", "budget.max_epochs=1e6",
    "trainer.checkpoint_every_seconds=0.3",
]  # fmt: skip

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


def wait_until(holds: Callable[[], bool], what: str, seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, f"{what}: not within {seconds} s"
        time.sleep(0.05)


def training(folder: Path, seed: int) -> bool:
    """Whether the trunk of a seed has come past its first checkpoint."""
    return bool(list(folder.glob(f"runs/default/trunks/gpt_1x16-s{seed}-*/checkpoints/step_*.pt")))


def slurm_ids(folder: Path) -> list[str]:
    tickets = json.loads((folder / "runs/.hydra/default/slurm/tickets.json").read_text())
    return sorted(tickets.values())


def squeue(*options: str) -> str:
    return subprocess.run(["squeue", *options], capture_output=True, text=True, check=True).stdout


def test_an_array_survives_preemption_a_lost_parent_and_a_cancelled_job(slurm, tiny, tmp_path):
    there, calm = tmp_path / "there", tmp_path / "calm"
    command = [*in_folder(tiny, there), *GRID, *LAUNCHER]
    parent = start(command, there)
    wait_until(lambda: training(there, 1), "the first job trains")
    assert len(slurm_ids(there)) == 3
    assert {i.partition("_")[0] for i in slurm_ids(there)} == {slurm_ids(there)[0].split("_")[0]}

    # A job of the higher partition takes the whole node: what trains there is queued again.
    pushing = subprocess.run(
        ["sbatch", "--parsable", "--partition=high", "--exclusive", "--mem=100",
         "--output=/dev/null", "--wrap", "sleep 600"],
        check=True, capture_output=True, text=True,
    ).stdout.strip()  # fmt: skip
    logs = there / "runs/.hydra/default/slurm"
    wait_until(
        lambda: "Requeued job" in (logs / f"{slurm_ids(there)[0]}_0_log.out").read_text(),
        "the preempted job goes back into the queue",
    )

    # The parent leaves; its jobs stay, and the same command finds them.
    parent.terminate()
    assert parent.wait(timeout=60) == 143
    assert "The same command watches them again" in (there / "sweep.txt").read_text()
    before = slurm_ids(there)
    parent = start(command, there)
    wait_until(lambda: "3 jobs are in Slurm's queue" in (there / "sweep.txt").read_text(), "watch")
    assert slurm_ids(there) == before

    # One job is cancelled: it is noticed, and nobody waits for it for ever.
    subprocess.run(["scancel", before[0], pushing], check=True)
    assert parent.wait(timeout=180) == 1, (there / "sweep.txt").read_text()
    said = " ".join((there / "sweep.txt").read_text().split())
    assert f"Slurm job {before[0]} is over (cancelled)" in said
    assert "the same command goes on with it" in said
    states = statuses(there)
    assert {state for run, state in states.items() if "-s1-" in run} == {"interrupted"}
    assert {state for run, state in states.items() if "-s1-" not in run} == {"completed"}

    # The same command again finishes the study, and nobody can tell from the numbers.
    finished = sweep(command, there)
    assert finished.returncode == 0, finished.stdout + finished.stderr
    unbroken = sweep([*in_folder(tiny, calm), *GRID], calm)
    assert unbroken.returncode == 0, unbroken.stderr
    assert len(results(there)) == 6
    assert results(there) == results(calm)


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
