"""Two processes train one run, started by torchrun as a user does: the numbers of a single one."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import torch.distributed as dist

from fmscale.config.jobs import expand
from fmscale.planning.store_plan import study_of
from fmscale.runs.record import TIMES
from fmscale.training import checkpoint, sharded_checkpoint
from fmscale.training.checkpoint import Checkpoint
from tests.helpers.slow_disk import assert_saving_was_rare
from tests.helpers.two_ranks import train

ROOT = Path(__file__).parents[4]
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
STRATEGIES = ("ddp", "fsdp")
SHORT = ["budget.tokens=[1280,2560]", "trainer.log_every_steps=1"]
# Some seconds, so that there is time to interrupt it.
LONG = ["study=long", "budget.tokens=[1920,3840]"]
EVERY = "trainer.checkpoint_every_seconds=0.01"


def torchrun(*arguments: str, folder: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*TORCHRUN, *arguments], cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        text=True, env={**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "200"},
    )  # fmt: skip


def finish(process: subprocess.Popen[str]) -> str:
    said, _ = process.communicate(timeout=150)
    return said


def strategy(name: str) -> list[str]:
    return [f"trainer={name}", "trainer.accelerator=cpu", "trainer.precision=32-true"]


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> dict[str, list[str]]:
    """Overrides of small jobs of each family, without a store."""
    folder = tmp_path_factory.mktemp("ranks")
    (folder / "text").mkdir()
    for number in range(100):
        text = "\n".join(f"def function_{i}(x):\n    return x + {i * number}" for i in range(8))
        (folder / "text" / f"file_{number:03d}.py").write_text(text)
    common = [f"paths.data_dir={folder / 'data'}", "logger=none"]
    gpt = ["model=gpt/1x16", f"data.root={folder / 'text'}", "data.name=tiny_text",
           "data.n_val_tokens=512", "data.seq_len=16", "batch_size=4"]  # fmt: skip
    clip = ["model=clip/1x16", "objective=contrastive", "data=scenes", "data.n_val_samples=64",
            "data.val_batch_size=32", "data.n_task_images=16", "evaluation=zero_shot",
            "budget=samples", "batch_size=16"]  # fmt: skip
    return {
        "gpt": [*common, *gpt, *SHORT, "optimizer.lr=1e-3"],
        "exact": [*common, *gpt, "study=exact", "budget.tokens=2560", "trainer.log_every_steps=1"],
        "clip": [*common, *clip, "budget.samples=320", "trainer.log_every_steps=1"],
        "slow": [*common, *gpt, "study=slow", "budget.tokens=5120", EVERY],
        "long": [*common, *gpt, *LONG],
    }


def begin(base, store: Path, name: str) -> subprocess.Popen[str]:
    """`fmscale train` in two processes, in the middle of the trunk, with two checkpoints."""
    store.mkdir()
    command = [*base["long"], *strategy(name), f"paths.runs_dir={store}"]
    process = torchrun("-m", "fmscale.train", *command, "trainer.checkpoint_every_seconds=0",
                       folder=store)  # fmt: skip
    deadline = time.monotonic() + 90
    suffix = "parts" if name == "fsdp" else "pt"
    while len(list(store.glob(f"long/trunks/*/checkpoints/step_*.{suffix}"))) < 2:
        assert time.monotonic() < deadline
        assert process.poll() is None, finish(process)
        time.sleep(0.02)
    return process


def interrupt(process: subprocess.Popen[str]) -> None:
    process.send_signal(signal.SIGTERM)
    said = finish(process)
    assert process.returncode != 0
    assert said.count("stopped; the same command resumes from the last checkpoints") == 1


def kill(process: subprocess.Popen[str], rank: int) -> None:
    """One of the two vanishes, as when the system wants its memory."""
    found = subprocess.run(["pgrep", "-P", str(process.pid)], capture_output=True, text=True)
    (victim,) = (
        int(pid)
        for pid in found.stdout.split()
        if f"\0RANK={rank}\0" in Path(f"/proc/{pid}/environ").read_text()
    )
    os.kill(victim, signal.SIGKILL)
    finish(process)
    assert process.returncode != 0


@pytest.fixture(scope="module")
def stores(base, tmp_path_factory) -> Path:
    """All jobs, trained by one process and by two, in a store of each way.

    In the store `fsdp_stopped` two processes resume runs in which they were told to stop, in
    `fsdp_killed` with those in which one of the two was killed; how these were left is in
    `fsdp_stopped_left` and `fsdp_killed_left`.
    """
    folder = tmp_path_factory.mktemp("stores")
    broken = ("fsdp_stopped", "fsdp_killed")
    interrupt(begin(base, folder / "fsdp_stopped", "fsdp"))
    for _ in range(3):
        kill(begin(base, folder / "fsdp_killed", "fsdp"), rank=1)
        (status,) = (folder / "fsdp_killed").glob("long/trunks/*/status.json")
        if json.loads(status.read_text())["state"] != "running":
            break  # else torchrun ended the other one before it could say why
        shutil.rmtree(folder / "fsdp_killed")
    for name in broken:
        shutil.copytree(folder / name, folder / f"{name}_left")
    together = [
        [*overrides, *strategy(name), f"paths.runs_dir={folder / name}"]
        for name in STRATEGIES
        for kind, overrides in base.items()
        if (name, kind) != ("ddp", "long")
    ]
    together += [
        [*base["long"], *strategy("fsdp"), f"paths.runs_dir={folder / name}"] for name in broken
    ]
    (folder / "jobs.json").write_text(json.dumps(together))
    process = torchrun("-m", "tests.helpers.two_ranks", str(folder / "jobs.json"), folder=folder)
    for kind in ("gpt", "exact", "clip"):
        train(*expand([*base[kind], *strategy("default"), f"paths.runs_dir={folder / 'default'}"]))
    said = finish(process)
    assert process.returncode == 0, said
    assert "Warning" not in said
    return folder


def runs(store: Path, pattern: str) -> dict[str, dict]:
    """Loss of each step, record and weights of each run."""
    found = {}
    for path in sorted(store.glob(f"{pattern}/record.json")):
        rows = [json.loads(line) for line in path.with_name("metrics.jsonl").open()]
        folder = path.parent / "checkpoints"
        end = checkpoint.load(checkpoint.path_of(folder, max(checkpoint.steps_saved(folder))))
        found[path.parent.name] = {
            "losses": [row["train/loss"] for row in rows if "train/loss" in row],
            "record": json.loads(path.read_text()),
            "model": end.model,
        }
    return found


@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", STRATEGIES)
@pytest.mark.parametrize("pattern", ["default/gpt_*", "default/clip_*"])
def test_two_processes_make_the_run_of_one(stores, name, pattern):
    one, two = runs(stores / "default", pattern), runs(stores / name, pattern)
    assert one
    assert two.keys() == one.keys()
    for run_id, run in two.items():
        assert len(run["losses"]) >= 20
        assert run["losses"] == pytest.approx(one[run_id]["losses"], rel=1e-6)
        record, alone = run["record"], one[run_id]["record"]
        assert record["metrics"]["val_loss"] == pytest.approx(
            alone["metrics"]["val_loss"], rel=1e-6
        )
        assert record["environment"]["n_processes"] == 2
        assert alone["environment"]["n_processes"] == 1
        d = "n_tokens" if "n_tokens" in record else "n_samples"
        for column in (d, f"{d}_unique", "flops", "n_steps", "batch_size", "trunk_id"):
            assert record[column] == alone[column], column


@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", STRATEGIES)
def test_at_a_high_rate_too_what_differs_is_rounding(stores, name):
    """In double precision the weights agree to ten digits.

    In single precision they part by 1e-2 here: where a gradient is next to nothing, Adam, which
    divides it by its own size, makes a whole step of its rounding error.
    """
    one, two = (runs(stores / way, "exact/gpt_*") for way in ("default", name))
    assert len(one) == 1
    for run_id, run in two.items():
        assert run["losses"] == pytest.approx(one[run_id]["losses"], rel=1e-6)
        for key, value in one[run_id]["model"].items():
            assert value.dtype is torch.float64
            torch.testing.assert_close(run["model"][key], value, rtol=0, atol=1e-9)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", STRATEGIES)
def test_two_processes_spend_little_of_the_time_on_a_slow_disk(stores, name):
    """Under FSDP it is the other rank's disk that is slow."""
    assert_saving_was_rare(stores / name / "saves.jsonl", 0.01)


def assert_same_runs(one: dict[str, dict], two: dict[str, dict]) -> None:
    assert len(one) == 2
    assert one.keys() == two.keys()
    for run_id, run in one.items():
        assert run["losses"] == two[run_id]["losses"]
        for key, value in run["model"].items():
            assert torch.equal(value, two[run_id]["model"][key])
        records = [found[run_id]["record"] for found in (one, two)]
        numbers = [
            {k: v for k, v in r.items() if k not in (*TIMES, "checksum", "evaluations")}
            for r in records
        ]
        assert numbers[0] == numbers[1]


@pytest.mark.timeout(300)
def test_told_to_stop_they_save_and_go_on_bit_for_bit(stores):
    (status,) = (stores / "fsdp_stopped_left").glob("long/trunks/*/status.json")
    noted = json.loads(status.read_text())
    assert (noted["state"], noted["reason"]) == ("interrupted", "stopped by SIGTERM")
    # It resumed from the step that it was told to stop in: what came before is not there twice.
    (rows,) = (stores / "fsdp_stopped_left").glob("long/trunks/*/metrics.jsonl")
    (again,) = (stores / "fsdp_stopped").glob("long/trunks/*/metrics.jsonl")
    assert again.read_text().startswith(rows.read_text())
    assert_same_runs(*(runs(stores / s, "long/gpt_*") for s in ("fsdp", "fsdp_stopped")))
    assert list((stores / "fsdp_stopped").rglob("*.parts")) == []


@pytest.mark.timeout(300)
def test_one_of_two_is_killed_and_the_other_ends_and_they_go_on_bit_for_bit(stores):
    left = stores / "fsdp_killed_left"
    (status,) = left.glob("long/trunks/*/status.json")
    noted = json.loads(status.read_text())
    assert noted["state"] == "failed"
    assert noted["reason"].startswith("RankLost: another process that trains this run is gone")
    assert len(list(left.glob("long/trunks/*/checkpoints/step_*.parts"))) >= 2
    assert list(left.rglob("record.json")) == []
    assert list(left.rglob("lock.json")) == []
    assert_same_runs(*(runs(stores / s, "long/gpt_*") for s in ("fsdp", "fsdp_killed")))
    for debris in ("*.parts", ".growing*"):
        assert list((stores / "fsdp_killed").rglob(debris)) == []


@pytest.mark.timeout(300)
def test_one_process_goes_on_where_two_were_and_without_a_torn_part(
    stores, base, tmp_path, plan_one, caplog
):
    store = shutil.copytree(stores / "fsdp_stopped_left", tmp_path / "torn")
    job = plan_one([*base["long"], *strategy("default"), f"paths.runs_dir={store}"])
    folder = study_of(job).trunk(job.trunk_id).checkpoints
    before, newest = sorted(folder.glob("*.parts"))
    torn = sorted(newest.glob("*.safetensors"))[-1]
    torn.write_bytes(torn.read_bytes()[:-7])
    train(job)
    (warning,) = [r.message for r in caplog.records if r.name.startswith("fmscale")]
    assert f"{newest} cannot be put together ({torn.name} is torn or altered)" in warning
    assert newest.with_suffix(".broken").exists()
    assert not before.exists()
    calm = runs(stores / "fsdp", "long/gpt_*")
    alone = runs(store, "long/gpt_*")
    assert len(alone) == 2
    for run_id, run in alone.items():
        assert run["losses"] == pytest.approx(calm[run_id]["losses"], rel=1e-3)
        assert run["record"]["environment"]["n_processes"] == 1


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_whole_models_too_are_saved_and_go_on_bit_for_bit(base, tmp_path):
    interrupt(begin(base, tmp_path / "stopped", "ddp"))
    kill(begin(base, tmp_path / "killed", "ddp"), rank=0)
    for name in ("stopped", "killed", "calm"):
        command = [*base["long"], *strategy("ddp"), f"paths.runs_dir={tmp_path / name}"]
        process = torchrun("-m", "fmscale.train", *command, folder=tmp_path)
        said = finish(process)
        assert process.returncode == 0, said
        assert said.count("completed") == 2  # the table is rank 0's alone
    calm = runs(tmp_path / "calm", "long/gpt_*")
    for name in ("stopped", "killed"):
        assert_same_runs(calm, runs(tmp_path / name, "long/gpt_*"))


def test_parts_hold_no_code(tmp_path):
    """What is not safetensors is not looked at, whatever its name."""
    folder = tmp_path / "step_000000003.parts"
    folder.mkdir()
    (folder / ".metadata").write_bytes(b"cos\nsystem\n(S'touch hacked'\ntR.")
    with pytest.raises(ValueError, match=r"step_000000003.parts cannot be put together"):
        sharded_checkpoint.load(folder)
    sharded_checkpoint.assemble(tmp_path)
    assert not folder.exists()
    assert not (tmp_path / "hacked").exists()


def test_checkpoints_of_earlier_starts_do_not_pile_up(tmp_path):
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    try:
        for step in range(1, 7):
            state = Checkpoint(step, {"w": torch.full((4,), 1.0)}, {"state": {}}, 0.0, "32-true")
            sharded_checkpoint.save(tmp_path, state, keep={2}, newest=2, group=dist.group.WORLD)
            if step < 5:
                sharded_checkpoint.assemble(tmp_path)  # as when training continues
    finally:
        dist.destroy_process_group()
    assert checkpoint.steps_saved(tmp_path) == [2, 3, 4]
    assert [int(p.stem.removeprefix("step_")) for p in sorted(tmp_path.glob("*.parts"))] == [5, 6]
