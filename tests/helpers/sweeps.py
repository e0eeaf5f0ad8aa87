"""Sweeps in processes of their own, parts that fail when they should, and what is left."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from fmscale.config.jobs import expand
from fmscale.launching.driver import Options, run
from fmscale.launching.in_process import InProcess
from fmscale.launching.tasks import do_task
from fmscale.planning.sweep import Sweep
from fmscale.runs.record import TIMES

ROOT = Path(__file__).parents[2]
BUDGETS = "budget.tokens=[2560,5120]"

needs_ray = pytest.mark.skipif(
    importlib.util.find_spec("ray") is None, reason="ray is not installed (fmscale[ray])"
)

# An evaluator that fails for one size only, importable by the workers.
EXPLODING = """
from fmscale.evaluation.language.language import HeldOutText


class Exploding(HeldOutText):
    def __call__(self, model, data, objective):
        if model.shape.d_model == 24:
            raise RuntimeError("this size explodes")
        yield from super().__call__(model, data, objective)
"""

KILLED = """
import os
import signal
from fmscale.evaluation.language.language import HeldOutText


class Exploding(HeldOutText):
    def __call__(self, model, data, objective):
        if model.shape.d_model == 24:
            os.kill(os.getpid(), signal.SIGKILL)
        yield from super().__call__(model, data, objective)
"""

# The first evaluation of all ends its process.
KILLED_ONCE = """
import os
import signal
from fmscale.evaluation.language.language import HeldOutText


class KilledOnce(HeldOutText):
    def __call__(self, model, data, objective):
        try:
            open("killed", "x").close()
        except FileExistsError:
            yield from super().__call__(model, data, objective)
        else:
            os.kill(os.getpid(), signal.SIGKILL)
"""

HUNGRY = """
import torch
from fmscale.objectives.next_token import NextToken


class Hungry(NextToken):
    def __call__(self, model, batch):
        if model.shape.d_model == 24 and model.training and len(batch["tokens"]) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 3 GB")
        return super().__call__(model, batch)
"""


def fmscale(*arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """An `fmscale` command in a process of its own, with `folder` importable."""
    environment = {**os.environ, "PYTHONPATH": f"{folder}{os.pathsep}{ROOT}", "COLUMNS": "200"}
    command = [sys.executable, "-m", "fmscale.cli", *arguments]
    return subprocess.run(
        command, capture_output=True, text=True, env=environment, cwd=folder, timeout=300
    )


def sweep(overrides: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    return fmscale("sweep", *overrides, folder=folder)


def statuses(folder: Path) -> dict[str, str]:
    found = {}
    for path in sorted(folder.glob("runs/default/gpt_*/status.json")):
        found[path.parent.name] = json.loads(path.read_text())["state"]
    return found


def in_folder(overrides: list[str], folder: Path) -> list[str]:
    folder.mkdir(exist_ok=True)
    return [o for o in overrides if not o.startswith("paths.runs_dir")] + [
        f"paths.runs_dir={folder / 'runs'}"
    ]


def workers_of(parent: int) -> list[int]:
    found = subprocess.run(["pgrep", "-P", str(parent)], capture_output=True, text=True)
    return [int(pid) for pid in found.stdout.split()]


def check_whole(runs: Path) -> None:
    """Every JSON file in the store can be read at this moment."""
    for path in runs.rglob("*.json"):
        if not path.name.startswith("."):
            json.loads(path.read_text())
    for path in runs.rglob("metrics.jsonl"):
        for line in path.read_bytes().split(b"\n")[:-1]:
            json.loads(line)


def check_every_feature(tiny: list[str], folder: Path, own_code, *launcher: str) -> str:
    """One sweep in which a size is short of memory, a process is killed, two runs are vmapped, and
    two are known from another study; returns what it says.
    """
    own_code(starving=HUNGRY, killed_once=KILLED_ONCE)  # by names that no other test has
    own = [*tiny, "trainer.precision=32-true", BUDGETS, "objective._target_=starving.Hungry",
           "evaluation.evaluators.language._target_=killed_once.KilledOnce"]  # fmt: skip
    (folder / "killed").touch()
    known = expand([*own, "study=known", "model=gpt/2x24", "seed=1"])
    assert not run(Sweep(known), InProcess(do_task), Options(max_halvings=1))
    (folder / "killed").unlink()
    grid = [*own, "model=gpt/1x16,gpt/2x24", "seed=1,2", *launcher, "hydra.launcher.vmap=2",
            "hydra.launcher.max_retries=1", "hydra.launcher.max_halvings=1"]  # fmt: skip
    result = fmscale("sweep", *grid, folder=folder)
    assert result.returncode == 0, result.stdout + result.stderr
    assert list(statuses(folder).values()) == ["completed"] * 8
    assert "taken over from there: 2 of 8 runs" in result.stdout
    assert (folder / "killed").exists()
    micro_batches = Counter(
        (path.parent.name[:8], json.loads(path.read_text())["environment"]["micro_batches"])
        for path in folder.glob("runs/default/gpt_*/record.json")
    )
    assert micro_batches == {("gpt_1x16", 1): 4, ("gpt_2x24", 2): 4}
    return result.stdout


def records_and_rows(folder: Path) -> dict[str, dict]:
    """Each run's record without times, and its metrics, learning rates and all."""
    found = {}
    for path in sorted(folder.glob("runs/default/gpt_*/record.json")):
        record = json.loads(path.read_text())
        record = {k: v for k, v in record.items() if k not in (*TIMES, "checksum", "evaluations")}
        rows = path.with_name("metrics.jsonl").read_text()
        found[path.parent.name] = {"record": record, "metrics": rows}
    return found


def results(runs: Path) -> dict[str, dict]:
    found = {}
    for path in sorted(runs.glob("default/gpt_*/record.json")):
        record = json.loads(path.read_text())
        kept = {
            k: v for k, v in record.items() if k not in (*TIMES, "checksum", "environment", "git")
        }
        for evaluation in kept["evaluations"]:
            del evaluation["finished_at"]
        found[path.parent.name] = kept
    return found
