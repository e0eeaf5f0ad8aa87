"""Who started this process with how many others, and what is refused before torch is imported."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from fmscale.errors import ConfigError
from fmscale.training.distributed import world
from fmscale.training.distributed.world import World, check_world
from tests.helpers.sweeps import ROOT, fmscale

TORCHRUN = {
    "TORCHELASTIC_RUN_ID": "none", "RANK": "3", "WORLD_SIZE": "4", "LOCAL_RANK": "1",
    "LOCAL_WORLD_SIZE": "2",
}  # fmt: skip
SRUN = {
    "SLURM_JOB_ID": "70005", "SLURM_NTASKS": "4", "SLURM_STEP_NUM_TASKS": "4",
    "SLURM_STEP_TASKS_PER_NODE": "2(x2)", "SLURM_PROCID": "3", "SLURM_LOCALID": "1",
    "SLURM_STEP_NODELIST": "node7,node9",
}  # fmt: skip


def test_torchrun_and_srun_say_the_same_each_in_its_words():
    assert World.here(TORCHRUN) == World(3, 4, 1, 2, "torchrun")
    assert World.here(SRUN) == World(3, 4, 1, 2, "srun")
    assert World.here(SRUN).n_nodes == 2
    assert not World.here(SRUN).leads


def test_a_shell_inside_an_allocation_is_one_process():
    assert World.here({"SLURM_NTASKS": "4", "SLURM_JOB_ID": "7", "SLURM_PROCID": "0"}) == World()
    assert World.here({}) == World()


def test_a_step_of_srun_tells_torch_where_to_meet(monkeypatch):
    for name, value in SRUN.items():
        monkeypatch.setenv(name, value)
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "GROUP_RANK",
                 "MASTER_ADDR", "MASTER_PORT"):  # fmt: skip
        monkeypatch.setenv(name, "")  # so that it is taken back afterwards
        monkeypatch.delenv(name)
    World.here().export()
    assert os.environ["MASTER_ADDR"] == "node7"
    assert os.environ["MASTER_PORT"] == "30005"  # the same in every task of a job
    assert (os.environ["RANK"], os.environ["WORLD_SIZE"]) == ("3", "4")
    assert (os.environ["LOCAL_RANK"], os.environ["GROUP_RANK"]) == ("1", "1")


@pytest.mark.parametrize(
    ("overrides", "world", "message"),
    [
        (["trainer=ddp"], World(), "torchrun --nproc-per-node 2 -m fmscale.train trainer=ddp"),
        (["trainer=fsdp", "trainer.devices=4"], World(), "torchrun --nproc-per-node 4"),
        (["trainer=fsdp"], World(), "hydra.launcher.tasks_per_node=2"),
        (["trainer=cpu"], World(0, 2, 0, 2, "srun"), "srun started 2 processes.*trainer=ddp"),
        (
            ["trainer=ddp", "trainer.devices=4"],
            World(0, 2, 0, 2, "torchrun"),
            "started 2 processes",
        ),
        (["trainer=ddp"], World(0, 3, 0, 2, "srun"), "start as many on each"),
        (["trainer=ddp", "batch_size=6"], World(0, 4, 0, 4, "torchrun"), "multiple of 4"),
        (["trainer=ddp", "trainer.accumulate=2"], World(0, 4, 0, 4, "torchrun"), "multiple of 8"),
    ],
)
def test_a_wrong_start_is_an_error_that_names_the_right_one(
    tiny, plan_one, overrides, world, message
):
    job = plan_one([*tiny, "budget.tokens=2560", *overrides])
    with pytest.raises(ConfigError, match=message):
        check_world(job, world)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["trainer.devices=2"], "torchrun --nproc-per-node 2 -m fmscale.train trainer=ddp"),
        (["trainer.strategy=deepspeed"], "use single, ddp or fsdp"),
        (["trainer.devices=0"], "trainer.devices=0"),
        (["trainer=ddp", "trainer.evaluate_every_steps=10"], "is for one process, not"),
    ],
)
def test_devices_and_strategy_must_fit_together(tiny, plan_one, overrides, message):
    with pytest.raises(ConfigError, match=message):
        plan_one([*tiny, "budget.tokens=2560", *overrides])


def test_several_processes_are_another_way_to_the_same_run(tiny, plan_one):
    alone, *together = (
        plan_one([*tiny, "budget.tokens=2560", "trainer.precision=32-true", f"trainer={name}"])
        for name in ("default", "ddp", "fsdp")
    )
    assert [job.branches for job in together] == [alone.branches] * 2
    assert [job.trunk_id for job in together] == [alone.trunk_id] * 2


def test_the_command_says_how_to_start_and_trains_nothing(tiny, tmp_path):
    for command in ("train", "sweep"):
        result = fmscale(command, *tiny, "trainer=ddp", "budget.tokens=2560", folder=tmp_path)
        assert result.returncode == 1
        assert "torchrun --nproc-per-node 2 -m fmscale.train" in result.stderr
        assert "Traceback" not in result.stderr
    assert not (tmp_path / "runs" / "default").exists()


def test_a_sweep_is_not_started_by_each_of_several_processes(tiny, tmp_path):
    result = subprocess.run(
        [sys.executable, "-m", "fmscale.cli", "sweep", *tiny, "budget.tokens=2560"],
        capture_output=True, text=True, cwd=tmp_path,
        env={**os.environ, **TORCHRUN, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert result.returncode == 1
    assert "each of several processes would start this whole sweep" in result.stderr


def test_a_mistake_that_all_processes_see_is_reported_once(tiny, tmp_path):
    """As torchrun does it: when the first of them has failed, the others are told to end."""
    command = [sys.executable, "-m", "fmscale.cli", "train", *tiny, "trainer=ddp", "batch_size=3"]
    first, second = (
        subprocess.Popen(
            [*command, "budget.tokens=2560"], stderr=subprocess.PIPE, text=True, cwd=tmp_path,
            env={**os.environ, **TORCHRUN, "WORLD_SIZE": "2", "RANK": rank, "LOCAL_RANK": rank,
                 "PYTHONPATH": str(ROOT)},
        )
        for rank in "01"
    )  # fmt: skip
    said = first.communicate(timeout=120)[1]
    assert first.returncode == 1
    assert said.count("multiple of 2") == 1
    with pytest.raises(subprocess.TimeoutExpired):  # it sees the mistake, and waits
        second.wait(timeout=1)
    second.terminate()
    assert second.communicate(timeout=60)[1] == ""
    assert second.returncode in (1, 143)  # 143 if it was not there yet


def test_a_mistake_that_one_process_alone_sees_is_reported_by_it(monkeypatch):
    monkeypatch.setattr(world, "SILENT_SECONDS", 0.0)
    before = signal.getsignal(signal.SIGTERM)
    try:
        with (
            pytest.raises(ConfigError, match="only here"),
            world.error_on_rank_zero(World(1, 2, 1, 2)),
        ):
            raise ConfigError("only here")
    finally:
        signal.signal(signal.SIGTERM, before)
