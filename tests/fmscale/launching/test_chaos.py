"""Kill -9 at random moments: nothing is lost, nothing is doubled, nothing is half-written."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
GRID = ["model=gpt_1x8,gpt_1x16", "seed=1,2,3", "budget.tokens=[20480,40960]",
        "budget.max_epochs=1e6", "trainer.checkpoint_every_seconds=0.2"]  # fmt: skip
# Metrics that are measured times differ between any two runs.
TIMES = ("seconds_train", "seconds_train_marginal", "seconds_eval", "tokens_per_second",
         "started_at", "finished_at")  # fmt: skip


def launch(overrides: list[str], folder: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "fmscale.cli", "sweep", *overrides]
    return subprocess.Popen(command, cwd=folder, start_new_session=True,
                            env={**os.environ, "PYTHONPATH": str(ROOT)},
                            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # fmt: skip


def workers_of(parent: int) -> list[int]:
    found = subprocess.run(["pgrep", "-P", str(parent)], capture_output=True, text=True)
    return [int(pid) for pid in found.stdout.split()]


def kill_at_random(process: subprocess.Popen[bytes], chance: random.Random) -> None:
    """One SIGKILL, to a worker or to the parent with all its workers."""
    if chance.random() < 0.5 and (workers := workers_of(process.pid)):
        os.kill(chance.choice(workers), signal.SIGKILL)
    else:
        os.killpg(process.pid, signal.SIGKILL)


def results(runs: Path) -> dict[str, dict]:
    found = {}
    for path in sorted(runs.glob("default/gpt_*/record.json")):
        record = json.loads(path.read_text())
        kept = {k: v for k, v in record.items() if k not in (*TIMES, "environment", "git")}
        found[path.parent.name] = kept
    return found


def check_whole(runs: Path) -> None:
    """Every JSON file in the store can be read at this moment."""
    for path in runs.rglob("*.json"):
        if not path.name.startswith("."):
            json.loads(path.read_text())
    for path in runs.rglob("metrics.jsonl"):
        for line in path.read_bytes().split(b"\n")[:-1]:
            json.loads(line)


def torment(overrides: list[str], folder: Path, n_kills: int, seed: int) -> int:
    """Kill a sweep again and again, then let it finish; returns the kills that hit."""
    chance, hits = random.Random(seed), 0
    for _ in range(n_kills):
        process = launch(overrides, folder)
        time.sleep(chance.uniform(2.0, 9.0))
        if process.poll() is None:
            kill_at_random(process, chance)
            hits += 1
        process.wait(timeout=300)
        check_whole(folder / "runs")
    for _ in range(3):  # a killed worker fails its run; the same command tries it again
        if launch(overrides, folder).wait(timeout=300) == 0:
            return hits
    raise AssertionError("the sweep did not finish")


def compare(tiny: list[str], tmp_path: Path, n_kills: int) -> None:
    calm, wild = tmp_path / "calm", tmp_path / "wild"
    for folder in (calm, wild):
        folder.mkdir()
    here = [o for o in tiny if not o.startswith("paths.runs_dir")]
    assert launch([*here, *GRID, f"paths.runs_dir={calm / 'runs'}"], calm).wait(timeout=300) == 0
    wild_grid = [*here, *GRID, f"paths.runs_dir={wild / 'runs'}"]
    assert torment(wild_grid, wild, n_kills, seed=1) >= 1
    expected, found = results(calm / "runs"), results(wild / "runs")
    assert len(expected) == 12
    assert found == expected


@pytest.mark.skipif(sys.platform != "linux", reason="kills by process group and pgrep")
def test_a_sweep_that_is_killed_ends_with_the_results_of_a_calm_one(tiny, tmp_path):
    compare(tiny, tmp_path, n_kills=3)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="kills by process group and pgrep")
def test_fifty_kills_lose_nothing(tiny, tmp_path):
    compare(tiny, tmp_path, n_kills=50)
