"""Jobs in other processes: the same results, the same repetitions, the same exit code."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from fmscale.config.jobs import expand
from fmscale.launching.job_process import train_job
from fmscale.launching.remote.ray import Ray
from fmscale.training.distributed.world import World
from tests.helpers.sweeps import (
    BUDGETS,
    EXPLODING,
    KILLED,
    in_folder,
    needs_ray,
    records_and_rows,
    statuses,
    sweep,
)


def in_session(leader: int) -> list[str]:
    """Processes that a command has left behind."""
    found = subprocess.run(["pgrep", "-s", str(leader)], capture_output=True, text=True)
    return found.stdout.split()


GRID = ["model=gpt/1x16,gpt/2x24", BUDGETS]


@pytest.fixture
def same_numbers(tiny, tmp_path) -> Callable[..., Path]:
    """Sweeps with a launcher's words, and compares with runs of this process."""

    def compare(*launcher: str) -> Path:
        there = tmp_path / "there"
        other = sweep([*in_folder(tiny, there), *GRID, *launcher], there)
        assert other.returncode == 0, other.stderr
        assert other.stdout.count("completed") == 4
        assert "Traceback" not in other.stderr
        here = in_folder(tiny, tmp_path / "here")
        for job in expand([*here, *GRID]):
            train_job(job, World())
        assert len(records_and_rows(there)) == 4
        assert records_and_rows(there) == records_and_rows(tmp_path / "here")
        return there

    return compare


def test_joblib_gives_the_same_numbers(tiny, tmp_path, same_numbers):
    launcher = ["launcher=joblib", "hydra.launcher.n_jobs=2", "hydra.launcher.poll_seconds=0.3"]
    there = same_numbers(*launcher)
    again = sweep([*in_folder(tiny, there), *GRID, *launcher], there)
    assert "Nothing to train: all 4 runs of default are complete" in again.stdout


@needs_ray
def test_ray_gives_the_same_numbers(same_numbers):
    same_numbers("launcher=ray", "+hydra.launcher.ray.init.num_cpus=2",
                 "hydra.launcher.poll_seconds=0.3")  # fmt: skip


@needs_ray
def test_what_no_machine_of_a_ray_cluster_has_is_named(monkeypatch, capsys):
    backend = Ray({"init": {}, "remote": {"num_cpus": 2, "num_gpus": 1}})
    nodes = [{"Alive": True, "Resources": {"CPU": 8.0}}, {"Alive": False, "Resources": {"GPU": 1}}]
    monkeypatch.setattr(backend.ray, "nodes", lambda: nodes)
    backend.name_what_is_lacking()
    said = capsys.readouterr().out
    assert "hydra.launcher.ray.remote.num_gpus=1, but no machine" in said
    assert "num_cpus" not in said


@pytest.mark.parametrize(
    ("code", "reason"),
    [(EXPLODING, "RuntimeError: this size explodes"), (KILLED, "joblib gave up")],
)
def test_a_failure_in_joblib_is_told_and_mended(tiny, tmp_path, code, reason):
    mended = f"d_model == 24 and not os.path.exists({str(tmp_path / 'mended')!r})"
    (tmp_path / "exploding.py").write_text(f"import os\n{code.replace('d_model == 24', mended)}")
    grid = [*tiny, "launcher=joblib", "hydra.launcher.n_jobs=1", "model=gpt/1x16,gpt/2x24", BUDGETS]
    grid += ["evaluation.evaluators.language._target_=exploding.Exploding"]
    result = sweep(grid, tmp_path)
    assert result.returncode == 1, result.stdout
    assert reason in result.stdout
    states = statuses(tmp_path)
    assert {state for run, state in states.items() if "1x16" in run} == {"completed"}
    assert "completed" not in {state for run, state in states.items() if "2x24" in run}
    if code is KILLED:
        (tmp_path / "mended").touch()
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


@pytest.mark.parametrize(
    ("launcher", "signum", "code"),
    [
        pytest.param(["launcher=joblib", "hydra.launcher.n_jobs=1"], signal.SIGTERM, 143,
                     id="joblib"),
        pytest.param(["launcher=ray", "+hydra.launcher.ray.init.num_cpus=1"], signal.SIGINT, 130,
                     id="ray", marks=[needs_ray, pytest.mark.slow]),
    ],
)  # fmt: skip
def test_a_parent_told_to_stop_has_its_processes_save_their_step_and_leave(
    tiny, tmp_path, launcher, signum, code
):
    root = Path(__file__).parents[4]
    grid = [*tiny, *launcher, "model=gpt/2x24", "seed=1,2,3",
            "budget.tokens=4e6", "budget.max_epochs=1e6"]  # fmt: skip
    with (tmp_path / "said.txt").open("w") as said:
        process = subprocess.Popen(
            [sys.executable, "-m", "fmscale.cli", "sweep", *grid], cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(root)},
            stdout=said, stderr=said, start_new_session=True,
        )  # fmt: skip
    trunks = tmp_path / "runs" / "default" / "trunks"
    deadline = time.monotonic() + 120
    while not any(path.stat().st_size for path in trunks.glob("*/metrics.jsonl")):
        assert time.monotonic() < deadline
        assert process.poll() is None, (tmp_path / "said.txt").read_text()
        time.sleep(0.05)
    os.killpg(process.pid, signum)  # as from a terminal, or a container that ends
    assert process.wait(timeout=60) == code
    told = (tmp_path / "said.txt").read_text()
    assert "Traceback" not in told
    assert "the same command resumes from the last checkpoints" in told
    (path,) = trunks.glob("*/status.json")  # the other jobs have not been begun
    status = json.loads(path.read_text())
    assert status["state"] == "interrupted"
    (saved,) = trunks.glob("*/checkpoints/step_*.pt")
    assert int(saved.stem.removeprefix("step_")) == status["step"] > 0
    assert not list(trunks.parent.rglob("lock.json"))
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline and in_session(process.pid):
        time.sleep(0.2)
    assert in_session(process.pid) == []
