"""What a sweep costs beside training: per run, per checkpoint, in the parent, at 10,000 runs.

Seconds are of the processor where that says it all, since they hardly depend on what else a machine
does; where a disk takes part, of the clock.
"""

from __future__ import annotations

import json
import os
import re
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from rich.console import Console
from rich.table import Table

from fmscale.config.build import build_model, build_parts
from fmscale.planning.sections import TrainerSettings
from fmscale.planning.store_plan import study_of
from fmscale.runs.store import Study
from fmscale.training import checkpoint
from fmscale.training.run import train_branch, train_trunk
from fmscale.training.saving import SavePolicy

pytestmark = pytest.mark.bench

ROOT = Path(__file__).parents[2]
N_MANY = 10_000


@dataclass(frozen=True)
class Cost:
    """One command: its seconds, and the most memory its own process held."""

    wall: float
    processor: float  # its workers' included
    peak_mb: float
    output: str


def cost_of(*arguments: str, folder: Path, code: int = 0) -> Cost:
    """Run an `fmscale` command."""
    before, began = os.times(), time.monotonic()
    peak = 0.0
    with (folder / "output.txt").open("w+") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "fmscale.cli", *arguments], cwd=folder, text=True,
            stdout=file, stderr=subprocess.STDOUT,
            env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        )  # fmt: skip
        while process.poll() is None:
            peak = max(peak, peak_of(process.pid))
            time.sleep(0.01)
        file.seek(0)
        output = file.read()
    assert process.returncode == code, output
    after, wall = os.times(), time.monotonic() - began
    spent = sum(after[2:4]) - sum(before[2:4])
    return Cost(wall, spent, peak, output)


def peak_of(pid: int) -> float:
    """Megabytes of a process at its largest so far; 0 once it has gone."""
    try:
        found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    except OSError:
        return 0.0
    return int(found[1]) / 1e3 if found else 0.0


@pytest.mark.parametrize("logger", ["none", "wandb"])
def test_a_run_costs_a_third_of_a_second_beside_training(tiny, tmp_path, capsys, logger):
    """Seeds of one budget, each a trunk and a run of its own: the dearest way to use a sweep."""
    grid = [*tiny, f"logger={logger}", "budget.tokens=1280", "hydra.launcher.n_workers=1"]
    costs = {}
    for first, n_seeds in ((1, 2), (11, 12)):  # both start one worker, and differ in ten runs
        seeds = ",".join(str(first + i) for i in range(n_seeds))
        costs[n_seeds] = cost_of("sweep", *grid, f"seed={seeds}", folder=tmp_path)
    records = [json.loads(p.read_text()) for p in tmp_path.glob("runs/default/*/record.json")]
    assert len(records) == 14
    training = statistics.mean(r["seconds_train"] + r["seconds_eval"] for r in records)
    wall = (costs[12].wall - costs[2].wall) / 10 - training
    processor = (costs[12].processor - costs[2].processor) / 10
    with capsys.disabled():
        print(f"\na run, logger={logger}: {wall:.2f} s of the clock beside training and "
              f"evaluation; {processor:.2f} s of the processor, all told; the parent's peak "
              f"{costs[12].peak_mb:.0f} MB")  # fmt: skip
    assert processor < 3 * 0.3  # three times the goal: machines differ
    assert costs[12].peak_mb < 150


def test_the_parent_of_a_thousand_runs_stays_small(tiny, tmp_path, capsys):
    """It is refused for its cost after everything has been composed and planned."""
    grid = [*tiny, "seed=range(0,100)", "budget.tokens=" + str([1280 * i for i in range(1, 11)])]
    cost = cost_of("sweep", *grid, "limits.max_flops=1", folder=tmp_path, code=1)
    assert "more than limits.max_flops=1" in cost.output
    with capsys.disabled():
        print(f"\na parent of 1,000 runs in 100 jobs: {cost.peak_mb:.0f} MB at most; "
              f"{cost.wall:.1f} s until it can start")  # fmt: skip
    assert cost.peak_mb < 150


def test_saving_takes_three_hundredths_of_the_time_at_most(tiny, plan_one, tmp_path, capsys):
    """Of a run of ten minutes or more, whatever its size: large ones save less often."""
    table = Table(title="a checkpoint, fsync included")
    for name in ("model", "MB", "seconds", "saved every, s", "share of the time"):
        table.add_column(name, justify="right")
    every = TrainerSettings(**plan_one([*tiny, "budget.tokens=2560"]).config["trainer"])
    for model in ("gpt/2x64", "gpt/4x128", "gpt/8x512"):
        sizes = [o for o in tiny if not o.startswith("model=")]
        job = plan_one([*sizes, f"model={model}", "data.seq_len=16", "budget.tokens=2560"])
        net = build_model(job.config)
        optimizer = build_parts(job.config).optimizer(net)
        for parameter in net.parameters():
            parameter.grad = torch.zeros_like(parameter)
        optimizer.step()
        state = checkpoint.Checkpoint(1, net.state_dict(), optimizer.state_dict(), 0.0, "32-true")
        seconds = []
        for _ in range(5):
            began = time.monotonic()
            path = checkpoint.save(tmp_path / model, state)
            seconds.append(time.monotonic() - began)
        took = statistics.median(seconds)
        policy = SavePolicy((), every.checkpoint_every_seconds)
        policy.took = took
        pause = policy.pause
        table.add_row(model, f"{path.stat().st_size / 1e6:.1f}", f"{took:.3f}", f"{pause:.0f}",
                      f"{took / pause:.2%}")  # fmt: skip
        assert took / pause <= 0.03
    with capsys.disabled():
        Console(width=100).print(table)


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    """A store of ten thousand finished runs, made from one real one."""
    return tmp_path_factory.mktemp("many")


def test_ten_thousand_runs_are_shown_and_exported_in_seconds(tiny, plan_one, many, capsys):
    job = plan_one([*tiny, "budget.tokens=2560"])
    train_trunk(job)
    train_branch(job, job.branches[0])
    real = study_of(job).run(job.branches[0].run_id)
    study = Study.open(many / "runs", "many")
    record, status = real.record().to_dict(), (real.path / "status.json").read_text()
    planned = {}
    for number in range(N_MANY):
        folder = study.run(f"gpt_1x16-2560-s{number}-{number:010d}")
        folder.path.mkdir(parents=True)
        text = json.dumps({**record, "run_id": folder.run_id, "seed": number}, indent=2)
        (folder.path / "record.json").write_text(text)
        (folder.path / "status.json").write_text(status)
        planned[folder.run_id] = {"trunk_id": "none", "model": "gpt_1x16", "n_steps": 40}
    study.extend_manifest(planned)
    time.sleep(2.5)  # files that have just changed are not remembered
    table = Table(title=f"{N_MANY:,} runs")
    for name in ("command", "wall, s", "processor, s", "peak, MB"):
        table.add_column(name, justify="right")
    for words, told in (
        (("status", "many"), f"{N_MANY} done"),
        (("export", "many", "--out", "many.csv"), f"{N_MANY} runs written"),
    ):
        for name in ("first", "again"):
            cost = cost_of(*words, folder=many)
            assert told in cost.output.replace(",", "")
            table.add_row(f"{words[0]}, {name}", f"{cost.wall:.2f}", f"{cost.processor:.2f}",
                          f"{cost.peak_mb:.0f}")  # fmt: skip
            assert cost.processor < 3
    with capsys.disabled():
        Console(width=100).print(table)
