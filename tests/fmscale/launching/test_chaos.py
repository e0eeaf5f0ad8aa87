"""Kill -9 at random moments: nothing is lost, nothing is doubled, nothing is half-written."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from fmscale.runs.lock import is_alive
from tests.helpers.sweeps import ROOT, check_whole, results, workers_of

GRID = ["model=gpt/1x8,gpt/1x16", "seed=1,2,3", "budget.tokens=[20480,40960]",
        "budget.max_epochs=1e6", "trainer.checkpoint_every_seconds=0.2"]  # fmt: skip


def launch(overrides: list[str], folder: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "fmscale.cli", "sweep", *overrides]
    return subprocess.Popen(command, cwd=folder, start_new_session=True,
                            env={**os.environ, "PYTHONPATH": str(ROOT)},
                            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # fmt: skip


def kill_at_random(process: subprocess.Popen[bytes], chance: random.Random) -> None:
    """One SIGKILL: to a worker, to the parent alone, or to the parent with all its workers."""
    kind, workers = chance.randrange(3), workers_of(process.pid)
    if kind == 0 and workers:
        os.kill(chance.choice(workers), signal.SIGKILL)
    elif kind == 1:
        process.kill()  # the workers notice, save their step and leave
    else:
        os.killpg(process.pid, signal.SIGKILL)


def torment(overrides: list[str], folder: Path, n_kills: int, chance: random.Random) -> int:
    """Kill a sweep again and again, then let it finish; returns the kills that hit."""
    hits, process = 0, None
    for _ in range(n_kills):
        if process is None or process.poll() is not None:
            if process is not None and process.returncode == 0:
                return hits
            process = launch(overrides, folder)
            time.sleep(2.0)  # nobody trains before
        time.sleep(chance.uniform(0.5, 6.0))
        if process.poll() is None:
            kill_at_random(process, chance)
            hits += 1
        check_whole(folder / "runs")
    if process is not None:
        process.wait(timeout=300)
    for _ in range(3):  # a killed worker fails its run; the same command tries it again
        if launch(overrides, folder).wait(timeout=300) == 0:
            return hits
    raise AssertionError("the sweep did not finish")


def metrics(runs: Path) -> dict[str, list]:
    return {path.parent.name: path.read_text().splitlines()
            for path in sorted(runs.glob("default/gpt_*/metrics.jsonl"))}  # fmt: skip


def compare(tiny: list[str], tmp_path: Path, n_kills: int) -> None:
    calm = tmp_path / "calm"
    calm.mkdir()
    here = [o for o in tiny if not o.startswith("paths.runs_dir")]
    assert launch([*here, *GRID, f"paths.runs_dir={calm / 'runs'}"], calm).wait(timeout=300) == 0
    expected = results(calm / "runs")
    assert len(expected) == 12
    chance, hits, number = random.Random(1), 0, 0
    while hits < n_kills:  # a sweep that has come through starts again in a new store
        number += 1
        wild = tmp_path / f"wild_{number}"
        wild.mkdir()
        wild_grid = [*here, *GRID, f"paths.runs_dir={wild / 'runs'}"]
        hits += torment(wild_grid, wild, n_kills - hits, chance)
        assert results(wild / "runs") == expected
        assert metrics(wild / "runs") == metrics(calm / "runs")
        assert not any(is_alive(path.parent) for path in (wild / "runs").rglob("lock.json"))
    print(f"{hits} kills in {number} sweeps of 12 runs")


@pytest.mark.skipif(sys.platform != "linux", reason="kills by process group and pgrep")
def test_a_sweep_that_is_killed_ends_with_the_results_of_a_calm_one(tiny, tmp_path):
    compare(tiny, tmp_path, n_kills=3)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="kills by process group and pgrep")
def test_fifty_kills_lose_nothing(tiny, tmp_path):
    compare(tiny, tmp_path, n_kills=50)
