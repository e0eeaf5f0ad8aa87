"""Jobs in other processes: the same results, the same repetitions, the same exit code."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from fmscale.runs.record import TIMES
from tests.fmscale.launching.test_sweep import BUDGETS, EXPLODING, KILLED, statuses, sweep

RAY = importlib.util.find_spec("ray") is not None


def results(folder: Path) -> dict[str, dict]:
    """Each run's record without times, and its metrics, learning rates and all."""
    found = {}
    for path in sorted(folder.glob("runs/default/gpt_*/record.json")):
        record = json.loads(path.read_text())
        record = {k: v for k, v in record.items() if k not in (*TIMES, "evaluations")}
        rows = path.with_name("metrics.jsonl").read_text()
        found[path.parent.name] = {"record": record, "metrics": rows}
    return found


def in_session(leader: int) -> list[str]:
    """Processes that a command has left behind."""
    found = subprocess.run(["pgrep", "-s", str(leader)], capture_output=True, text=True)
    return found.stdout.split()


def in_folder(overrides: list[str], folder: Path) -> list[str]:
    folder.mkdir(exist_ok=True)
    return [o for o in overrides if not o.startswith("paths.runs_dir")] + [
        f"paths.runs_dir={folder / 'runs'}"
    ]


@pytest.mark.parametrize(
    "launcher",
    [
        ["launcher=joblib", "hydra.launcher.n_jobs=2", "hydra.launcher.poll_seconds=0.3"],
        pytest.param(
            ["launcher=ray", "+hydra.launcher.ray.init.num_cpus=2"],
            marks=pytest.mark.skipif(not RAY, reason="ray is not installed (fmscale[ray])"),
        ),
    ],
    ids=lambda words: words[0],
)
def test_all_launchers_give_the_same_numbers(tiny, tmp_path, launcher):
    grid = ["model=gpt_1x16,gpt_2x24", BUDGETS]
    calm = sweep([*in_folder(tiny, tmp_path / "local"), *grid], tmp_path / "local")
    assert calm.returncode == 0, calm.stderr
    there = tmp_path / "there"
    other = sweep([*in_folder(tiny, there), *grid, *launcher], there)
    assert other.returncode == 0, other.stderr
    assert len(results(there)) == 4
    assert results(there) == results(tmp_path / "local")
    assert other.stdout.count("completed") == 4
    again = sweep([*in_folder(tiny, there), *grid, *launcher], there)
    assert "Nothing to train: all 4 runs of default are complete" in again.stdout


@pytest.mark.parametrize(
    ("code", "reason"),
    [(EXPLODING, "RuntimeError: this size explodes"), (KILLED, "joblib gave up")],
)
def test_a_failure_in_joblib_is_told_and_mended(tiny, tmp_path, code, reason):
    (tmp_path / "exploding.py").write_text(code)
    grid = [*tiny, "launcher=joblib", "hydra.launcher.n_jobs=1", "model=gpt_1x16,gpt_2x24", BUDGETS]
    grid += ["evaluation.evaluators.language._target_=exploding.Exploding"]
    result = sweep(grid, tmp_path)
    assert result.returncode == 1, result.stdout
    assert reason in result.stdout
    states = statuses(tmp_path)
    assert {state for run, state in states.items() if "1x16" in run} == {"completed"}
    assert "completed" not in {state for run, state in states.items() if "2x24" in run}
    if code is KILLED:
        (tmp_path / "exploding.py").write_text(code.replace("d_model == 24", "d_model == 999"))
        assert sweep(grid, tmp_path).returncode == 0
        assert set(statuses(tmp_path).values()) == {"completed"}


def test_a_mistake_stops_a_remote_sweep_before_training(tiny, tmp_path):
    result = sweep([*tiny, "launcher=joblib", "budget.tokens=[2560,1e9]"], tmp_path)
    assert result.returncode == 1
    assert "nothing was trained" in result.stderr
    assert not (tmp_path / "runs" / "default").exists()


@pytest.mark.parametrize(
    ("launcher", "package"), [("joblib", "joblib"), ("slurm", "submitit"), ("ray", "ray")]
)
def test_a_missing_package_is_named_with_the_command_that_installs_it(
    tiny, tmp_path, launcher, package
):
    # A package that cannot be imported, whether or not it is installed here.
    (tmp_path / f"{package}.py").write_text("raise ImportError('not here')")
    result = sweep([*tiny, f"launcher={launcher}", "budget.tokens=2560"], tmp_path)
    assert result.returncode == 1
    assert f"launcher={launcher} needs the package {package}" in result.stderr
    assert f"pip install 'fmscale[{launcher}]'" in result.stderr
    assert "Traceback" not in result.stderr


def test_slurm_where_there_is_none_is_an_error_that_says_so(tiny, tmp_path, monkeypatch):
    pytest.importorskip("submitit")
    monkeypatch.setenv("PATH", str(tmp_path))
    result = sweep([*tiny, "launcher=slurm", "budget.tokens=2560"], tmp_path)
    assert result.returncode == 1
    assert "finds no Slurm here" in result.stderr
    assert "Traceback" not in result.stderr


def test_a_parent_told_to_stop_takes_its_joblib_processes_along(tiny, tmp_path):
    root = Path(__file__).parents[3]
    grid = [*tiny, "launcher=joblib", "hydra.launcher.n_jobs=1", "model=gpt_2x24",
            "budget.tokens=[409600]", "budget.max_epochs=1e6"]  # fmt: skip
    process = subprocess.Popen(
        [sys.executable, "-m", "fmscale.cli", "sweep", *grid], cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(root)},
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    metrics = tmp_path / "runs" / "default" / "trunks"
    for _ in range(600):
        if list(metrics.glob("*/metrics.jsonl")):
            break
        try:
            process.wait(timeout=0.1)
        except subprocess.TimeoutExpired:
            continue
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=60) == 143
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline and in_session(process.pid):
        time.sleep(0.2)
    assert in_session(process.pid) == []
