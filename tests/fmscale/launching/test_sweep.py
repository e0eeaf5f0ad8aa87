"""Sweeps as a user launches them: real processes, real worker failures."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

BUDGETS = "budget.tokens=[2560,5120]"

# An evaluator that fails for one size only, importable by the workers.
EXPLODING = """
from fmscale.evaluation.language import HeldOutText


class Exploding(HeldOutText):
    def __call__(self, model, data, objective):
        if model.shape.d_model == 24:
            raise RuntimeError("this size explodes")
        yield from super().__call__(model, data, objective)
"""

KILLED = """
import os
import signal
from fmscale.evaluation.language import HeldOutText


class Exploding(HeldOutText):
    def __call__(self, model, data, objective):
        if model.shape.d_model == 24:
            os.kill(os.getpid(), signal.SIGKILL)
        yield from super().__call__(model, data, objective)
"""


def sweep(overrides: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    """`fmscale sweep` in a process of its own, with `folder` importable."""
    environment = {**os.environ, "PYTHONPATH": str(folder), "COLUMNS": "200"}
    command = [sys.executable, "-m", "fmscale.cli", "sweep", *overrides]
    return subprocess.run(
        command, capture_output=True, text=True, env=environment, cwd=folder, timeout=300
    )


def statuses(folder: Path) -> dict[str, str]:
    found = {}
    for path in sorted(folder.glob("runs/default/gpt_*/status.json")):
        found[path.parent.name] = json.loads(path.read_text())["state"]
    return found


def test_a_sweep_trains_everything_once(tiny, tmp_path):
    grid = [*tiny, "model=gpt_1x16,gpt_2x24", "seed=1,2", BUDGETS]
    first = sweep(grid, tmp_path)
    assert first.returncode == 0, first.stderr
    assert list(statuses(tmp_path).values()) == ["completed"] * 8
    assert "8 done" in first.stdout
    before = {p: p.stat().st_mtime_ns for p in tmp_path.glob("runs/default/**/*.json*")}
    again = sweep(grid, tmp_path)
    assert again.returncode == 0
    assert "Nothing to train: all 8 runs of default are complete" in again.stdout
    assert {p: p.stat().st_mtime_ns for p in tmp_path.glob("runs/default/**/*.json*")} == before


def test_a_sweep_equals_runs_in_one_process(tiny, tmp_path, plan_one):
    from fmscale.runs.store import Study
    from fmscale.training import run

    assert sweep([*tiny, BUDGETS], tmp_path).returncode == 0
    job = plan_one([*tiny, BUDGETS, f"paths.runs_dir={tmp_path / 'here'}"])
    run.train_trunk(job)
    for branch in job.branches:
        run.train_branch(job, branch)
        here = Study.open(tmp_path / "here", "default").run(branch.run_id).record()
        swept = Study.open(tmp_path / "runs", "default").run(branch.run_id).record()
        assert swept.metrics == here.metrics


@pytest.mark.parametrize(
    ("code", "reason"),
    [(EXPLODING, "RuntimeError: this size explodes"), (KILLED, "ended with code -9")],
)
def test_one_failing_size_does_not_stop_the_others(tiny, tmp_path, code, reason):
    (tmp_path / "exploding.py").write_text(code)
    grid = [*tiny, "model=gpt_1x16,gpt_2x24", BUDGETS]
    result = sweep([*grid, "evaluation.evaluators.language._target_=exploding.Exploding"], tmp_path)
    assert result.returncode == 1
    states = statuses(tmp_path)
    assert {state for run, state in states.items() if "2x24" in run} == {"failed"}
    assert {state for run, state in states.items() if "1x16" in run} == {"completed"}
    assert reason in result.stdout
    failed = [run for run in states if "2x24" in run]
    for run in failed:
        assert run in result.stdout
    if code is EXPLODING:
        trace = (tmp_path / "runs" / "default" / failed[0] / "traceback.txt").read_text()
        assert "this size explodes" in trace


def test_a_diverging_run_does_not_fail_the_sweep(tiny, tmp_path):
    result = sweep([*tiny, "optimizer.lr=1e-3,1e30", "budget.tokens=2560"], tmp_path)
    assert result.returncode == 0, result.stderr
    assert sorted(statuses(tmp_path).values()) == ["completed", "diverged"]
    assert "diverged" in result.stdout


def test_a_mistake_in_one_job_stops_the_sweep_before_training(tiny, tmp_path):
    result = sweep([*tiny, "model=gpt_1x16,gpt_2x24", "budget.tokens=[2560,1e9]"], tmp_path)
    assert result.returncode == 1
    assert "nothing was trained" in result.stderr
    assert "passes over the" in result.stderr
    assert "Traceback" not in result.stderr
    assert not (tmp_path / "runs" / "default").exists()


def test_a_missing_data_path_is_named(tiny, tmp_path):
    result = sweep([*tiny, "data.root=/does/not/exist", "budget.tokens=2560"], tmp_path)
    assert result.returncode == 1
    assert "data.root" in result.stderr
    assert "/does/not/exist" in result.stderr
    assert "Traceback" not in result.stderr


def test_the_basic_launcher_works_too(tiny, tmp_path):
    result = sweep([*tiny, "launcher=basic", "seed=1,2", "budget.tokens=2560"], tmp_path)
    assert result.returncode == 0, result.stderr
    assert list(statuses(tmp_path).values()) == ["completed"] * 2


def test_the_parent_imports_no_torch():
    code = (
        "import sys\n"
        "from fmscale.launching import register_launchers\n"
        "register_launchers()\n"
        "import fmscale.train, fmscale.launching.sweep, fmscale.plan, fmscale.status\n"
        "import hydra_plugins.fmscale_local\n"
        "assert 'torch' not in sys.modules, 'torch was imported'\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
