"""Sweeps beside each other, out of memory, on a full disk, on a store that can only be read."""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from fmscale.launching.backend import Event, Task
from fmscale.launching.driver import Options, SweepState
from fmscale.launching.job_process import train_job
from fmscale.launching.pool import STOP_SECONDS
from fmscale.launching.preflight import submit
from fmscale.planning.store_plan import study_of
from fmscale.planning.sweep import Sweep
from fmscale.training.distributed.world import World
from tests.helpers.sweeps import (
    HUNGRY,
    ROOT,
    check_whole,
    fmscale,
    results,
    statuses,
    sweep,
    workers_of,
)
from tests.helpers.training import assert_same_end, train

BUDGETS = "budget.tokens=[2560,5120]"
COUNTING = """
from pathlib import Path
from fmscale.evaluation.language.language import HeldOutText


class Counting(HeldOutText):
    def __call__(self, model, data, objective):
        with open("measured.txt", "a") as file:
            file.write(f"{model.shape.d_model} {id(model)}\\n")
        yield from super().__call__(model, data, objective)
"""


def start(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": f"{folder}{os.pathsep}{ROOT}"}
    command = [sys.executable, "-m", "fmscale.cli", *arguments]
    return subprocess.Popen(command, cwd=folder, env=environment, text=True,
                            stdout=subprocess.PIPE, stderr=subprocess.STDOUT)  # fmt: skip


def wait_for(path: Path, pattern: str, process: subprocess.Popen[str]) -> None:
    """Until a file of that kind has content: metrics are a step's, once there are any."""
    deadline = time.monotonic() + 120
    while not any(found.stat().st_size for found in path.glob(pattern)):
        assert time.monotonic() < deadline
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.02)


@pytest.mark.skipif(torch.cuda.is_available(), reason="a process that knows CUDA cannot fork")
def test_two_processes_on_one_store_train_each_run_once(tiny, plan_one, tmp_path, monkeypatch):
    """The same as two whole sweeps, below, but for the start of two sweeps."""
    (tmp_path / "counting.py").write_text(COUNTING)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    counting = "evaluation.evaluators.language._target_=counting.Counting"
    jobs = [plan_one([*tiny, counting, BUDGETS, f"seed={seed}"]) for seed in (1, 2)]

    def work() -> None:
        for job in jobs:
            train_job(job, World())

    both = [multiprocessing.get_context("fork").Process(target=work) for _ in range(2)]
    for process in both:
        process.start()
    for process in both:
        process.join(timeout=120)
    assert [process.exitcode for process in both] == [0, 0]
    assert list(statuses(tmp_path).values()) == ["completed"] * 4
    assert len((tmp_path / "measured.txt").read_text().splitlines()) == 4
    check_whole(tmp_path / "runs")
    for seed, job in zip((1, 2), jobs, strict=True):
        calm = plan_one([*tiny, counting, BUDGETS, f"seed={seed}",
                         f"paths.runs_dir={tmp_path / 'calm'}"])  # fmt: skip
        train(calm)
        assert_same_end(job, calm)


@pytest.mark.slow
def test_two_sweeps_on_one_store_share_the_work(tiny, tmp_path):
    (tmp_path / "counting.py").write_text(COUNTING)
    grid = [*tiny, "model=gpt/1x16,gpt/2x24", "seed=1,2,3", BUDGETS,
            "evaluation.evaluators.language._target_=counting.Counting"]  # fmt: skip
    pair = [start(tmp_path, "sweep", *grid) for _ in range(2)]
    outputs = [process.communicate(timeout=300)[0] for process in pair]
    assert [process.returncode for process in pair] == [0, 0], outputs
    assert list(statuses(tmp_path).values()) == ["completed"] * 12
    measured = (tmp_path / "measured.txt").read_text().splitlines()
    assert len(measured) == 12  # each run once, by one of the two
    check_whole(tmp_path / "runs")
    calm = tmp_path / "calm"
    shutil.copytree(tmp_path / "text", calm / "text")
    shutil.copy(tmp_path / "counting.py", calm)
    assert sweep([*grid, f"paths.runs_dir={calm / 'runs'}"], calm).returncode == 0
    assert results(tmp_path / "runs") == results(calm / "runs")


def test_workers_save_their_step_and_leave_when_their_sweep_is_killed(tiny, tmp_path):
    grid = [*tiny, "model=gpt/2x24", "budget.tokens=2e6", "budget.max_epochs=1e6"]
    process = start(tmp_path, "sweep", *grid)
    trunks = tmp_path / "runs" / "default" / "trunks"
    wait_for(trunks, "*/metrics.jsonl", process)
    (worker,) = workers_of(process.pid)
    process.kill()
    deadline = time.monotonic() + 60
    while Path(f"/proc/{worker}").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not Path(f"/proc/{worker}").exists()
    (status,) = trunks.glob("*/status.json")
    told = json.loads(status.read_text())
    assert (told["state"], told["reason"]) == ("interrupted", "stopped by SIGTERM")
    (saved,) = trunks.glob("*/checkpoints/step_*.pt")
    assert int(saved.stem.removeprefix("step_")) == told["step"] > 0


@pytest.mark.parametrize(
    ("command", "signum", "code"),
    [
        ("sweep", signal.SIGTERM, 143),
        pytest.param("sweep", signal.SIGINT, 130, marks=pytest.mark.slow),
        pytest.param("train", signal.SIGTERM, 143, marks=pytest.mark.slow),
        pytest.param("train", signal.SIGINT, 130, marks=pytest.mark.slow),
    ],
)
def test_a_stop_saves_the_step_and_tells_the_shell(tiny, tmp_path, command, signum, code):
    process = start(tmp_path, command, *tiny, "budget.tokens=2e6", "budget.max_epochs=1e6")
    trunks = tmp_path / "runs" / "default" / "trunks"
    wait_for(trunks, "*/metrics.jsonl", process)
    process.send_signal(signum)
    output = process.communicate(timeout=60)[0]
    assert process.returncode == code, output
    assert "the same command resumes from the last checkpoints" in output
    assert "Traceback" not in output
    assert len(list(trunks.glob("*/checkpoints/step_*.pt"))) == 1
    (status,) = trunks.glob("*/status.json")
    assert json.loads(status.read_text())["state"] == "interrupted"
    assert not list(trunks.glob("*/lock.json"))


def test_want_of_memory_halves_the_micro_batch_as_often_as_allowed(tiny, plan_one):
    job = plan_one([*tiny, BUDGETS])
    submit(Sweep([job]))
    state = SweepState(Sweep([job]), Options(max_halvings=1))
    (task,) = state.first_tasks()

    def starve(task: Task) -> list[Task]:
        return state.follow(Event(task, "failed", {"state": "oom", "reason": "out of memory"}))

    (again,) = starve(task)
    assert (task.halvings, again.halvings) == (0, 1)
    assert again.fields["halvings"] == 1
    assert starve(again) == []
    assert state.failed == dict.fromkeys((b.run_id for b in job.branches), "out of memory")
    told = {study_of(job).run(b.run_id).status()["state"] for b in job.branches}
    assert told == {"oom"}


@pytest.mark.slow
def test_want_of_memory_is_told_apart_and_halving_helps(tiny, tmp_path):
    (tmp_path / "hungry.py").write_text(HUNGRY)
    grid = [*tiny, "model=gpt/1x16,gpt/2x24", BUDGETS, "objective._target_=hungry.Hungry"]
    first = sweep(grid, tmp_path)
    assert first.returncode == 1
    states = statuses(tmp_path)
    assert {s for run, s in states.items() if "2x24" in run} == {"oom"}
    assert {s for run, s in states.items() if "1x16" in run} == {"completed"}
    told = fmscale("status", "--failed", folder=tmp_path).stdout
    assert "out of memory" in told
    second = sweep([*grid, "hydra.launcher.max_halvings=1"], tmp_path)
    assert second.returncode == 0, second.stdout
    assert statuses(tmp_path).keys() == states.keys()
    for path in tmp_path.glob("runs/default/gpt_2x24*/record.json"):
        assert json.loads(path.read_text())["environment"]["micro_batches"] == 2


def test_editing_the_configuration_changes_nothing_of_a_queued_sweep(tiny, tmp_path):
    conf = tmp_path / "own" / "model"
    conf.mkdir(parents=True)
    text = "defaults: [gpt, _self_]\nshape:\n  n_layer: 1\n  d_model: {}\n  n_head: 1\n"
    (conf / "gpt_mine.yaml").write_text(text.format(16))
    grid = [o for o in tiny if not o.startswith("model=")]
    grid += ["model=gpt_mine", "seed=1,2", "budget.tokens=2560", "hydra.launcher.n_workers=1",
             f"hydra.searchpath=[file://{tmp_path / 'own'}]"]  # fmt: skip
    process = start(tmp_path, "sweep", *grid)
    wait_for(tmp_path / "runs" / "default", "manifest.json", process)
    (conf / "gpt_mine.yaml").write_text(text.format(24))
    output = process.communicate(timeout=120)[0]
    assert process.returncode == 0, output
    records = [json.loads(p.read_text()) for p in tmp_path.glob("runs/default/gpt_*/record.json")]
    widths = Counter(r["hyperparameters"]["model"]["shape"]["d_model"] for r in records)
    assert widths == {16: 2}


@pytest.fixture
def small_disk(tmp_path) -> Iterator[Path]:
    """A file system of two megabytes; skipped, aloud, where it cannot be mounted."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(folder)]
    try:
        done = subprocess.run(command, capture_output=True, text=True)
    except FileNotFoundError:
        pytest.skip("no mount command")
    if done.returncode:
        pytest.skip(f"mounting a small disk needs root: {done.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def test_a_full_disk_costs_no_row(tiny, plan_one, tmp_path, small_disk):
    """In this process: every kind of write, and then room again."""
    calm = plan_one([*tiny, BUDGETS, f"paths.runs_dir={tmp_path / 'calm'}"])
    train(calm)
    here = [*tiny, BUDGETS, f"paths.runs_dir={small_disk / 'runs'}"]
    job = plan_one([*here, "trainer.checkpoint_every_seconds=0"])
    filler = small_disk / "filler"
    room, failures = os.statvfs(small_disk).f_bavail * 4096, []
    for left in range(0, 400_000, 50_000):  # each attempt gets a little further
        filler.write_bytes(b"x" * (room - used(small_disk / "runs") - left))
        try:
            train(job)
        except OSError as error:
            failures.append(str(error))
        check_whole(small_disk / "runs")
    filler.unlink()
    assert len(failures) > 1
    assert all("No space left on device" in failure for failure in failures)
    train(job)
    assert_same_end(job, calm)


def test_a_stop_on_a_full_disk_ends_the_sweep_with_the_reason(tiny, tmp_path, small_disk):
    here = [o for o in tiny if not o.startswith("paths.runs_dir")]
    grid = [*here, f"paths.runs_dir={small_disk / 'runs'}", "model=gpt/2x24", "budget.tokens=2e6",
            "budget.max_epochs=1e6", "trainer.checkpoint_every_seconds=600"]  # fmt: skip
    process = start(tmp_path, "sweep", *grid)
    wait_for(small_disk / "runs" / "default" / "trunks", "*/metrics.jsonl", process)
    with contextlib.suppress(OSError), (small_disk / "filler").open("wb", buffering=0) as filler:
        while filler.write(b"x" * 4096):
            pass
    process.terminate()
    output = process.communicate(timeout=STOP_SECONDS + 60)[0]
    assert process.returncode == 143, output
    assert "stopped by SIGTERM; its last step is lost: [Errno 28] cannot write" in output
    assert "No space left on device" in output
    assert "workers did not end" not in output  # nor need it be waited for


@pytest.mark.parametrize("content", ["", "{", '{"schema_version": 1}', "[]"])
def test_a_record_that_cannot_be_read_is_measured_again(tiny, plan_one, capsys, content):
    job = plan_one([*tiny, BUDGETS])
    train_job(job, World())
    study = study_of(job)
    first, second = (study.run(branch.run_id) for branch in job.branches)
    before, kept = first.record(), (second.path / "record.json").read_bytes()
    (first.path / "record.json").write_text(content)
    study.manifest_path.write_text(content)
    capsys.readouterr()
    train_job(job, World())
    told = [line for line in capsys.readouterr().out.splitlines() if line.startswith("broken: ")]
    assert told[0].startswith(f"broken: {first.path}/record.json ")
    assert told[0].endswith("it is now record.json.broken, and the run is measured again")
    assert first.record().metrics == before.metrics
    assert (second.path / "record.json").read_bytes() == kept
    assert (first.path / "record.json.broken").read_text() == content
    assert set(study.manifest()) == {first.run_id, second.run_id}


def test_a_store_that_is_moved_away_is_not_made_anew(tiny, tmp_path):
    grid = [*tiny, "seed=1,2", "budget.tokens=2e6", "budget.max_epochs=1e6",
            "hydra.launcher.n_workers=1"]  # fmt: skip
    process = start(tmp_path, "sweep", *grid)
    wait_for(tmp_path / "runs" / "default" / "trunks", "*/metrics.jsonl", process)
    (tmp_path / "runs").rename(tmp_path / "moved")
    output = process.communicate(timeout=120)[0]
    assert process.returncode == 1
    assert "wasmovedordeleted" in "".join(output.split())  # lines are folded
    assert not (tmp_path / "runs").exists()
    check_whole(tmp_path / "moved")


def test_a_broken_manifest_is_written_again_from_the_configurations(tiny, plan_one, capsys):
    job, other = (plan_one([*tiny, BUDGETS, f"seed={seed}"]) for seed in (1, 2))
    submit(Sweep([job, other]))
    before = study_of(job).manifest()
    study_of(job).manifest_path.write_text("{")
    submit(Sweep([other]))
    assert study_of(job).manifest() == before
    assert "manifest.json does not hold valid JSON" in capsys.readouterr().out


def used(folder: Path) -> int:
    """Bytes that the files of a folder take, in whole blocks."""
    return sum(path.stat().st_blocks * 512 for path in folder.rglob("*") if path.is_file())


@pytest.mark.slow
def test_a_full_disk_fails_runs_and_breaks_none(tiny, tmp_path, small_disk):
    here = [o for o in tiny if not o.startswith("paths.runs_dir")]
    grid = [*here, "seed=1,2", BUDGETS, "trainer.checkpoint_every_seconds=0"]
    calm = tmp_path / "calm"
    calm.mkdir()
    assert sweep([*grid, f"paths.runs_dir={calm / 'runs'}"], calm).returncode == 0
    runs = small_disk / "runs"
    (small_disk / "filler").write_bytes(b"x" * 1_800_000)
    full = sweep([*grid, f"paths.runs_dir={runs}"], tmp_path)
    assert full.returncode == 1
    assert "No space left on device" in full.stdout + full.stderr
    check_whole(runs)
    (small_disk / "filler").unlink()
    again = sweep([*grid, f"paths.runs_dir={runs}"], tmp_path)
    assert again.returncode == 0, again.stdout
    assert results(runs) == results(calm / "runs")


def test_a_store_that_can_only_be_read_is_read(tiny, plan_one, tmp_path, small_disk):
    here = [o for o in tiny if not o.startswith("paths.runs_dir")]
    runs = f"paths.runs_dir={small_disk / 'runs'}"
    job = plan_one([*here, runs, "budget.tokens=2560"])
    submit(Sweep([job]))
    train(job)
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    refused = sweep([*here, runs, "budget.tokens=5120"], tmp_path)
    assert refused.returncode == 1
    assert "Read-only file system" in refused.stderr
    assert "paths.runs_dir must be a folder that can be written" in refused.stderr
    assert "Traceback" not in refused.stderr
    planned = fmscale("plan", *here, runs, "budget.tokens=5120", "--no-measure", folder=tmp_path)
    assert planned.returncode == 0, planned.stderr
    where = ("--runs-dir", str(small_disk / "runs"))
    assert "1 done" in fmscale("status", *where, folder=tmp_path).stdout
    exported = fmscale("export", "default", "--out", "t.csv", *where, folder=tmp_path)
    assert exported.returncode == 0, exported.stderr
