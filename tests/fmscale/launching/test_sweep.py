"""Sweeps as a user launches them: real processes, real worker failures."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.helpers.sweeps import BUDGETS, EXPLODING, KILLED, ROOT, fmscale, statuses, sweep


def test_a_sweep_trains_everything_once(tiny, tmp_path):
    grid = [*tiny, "model=gpt/1x16,gpt/2x24", "seed=1,2", BUDGETS]
    first = sweep(grid, tmp_path)
    assert first.returncode == 0, first.stderr
    assert list(statuses(tmp_path).values()) == ["completed"] * 8
    assert "8 done" in first.stdout
    before = {p: p.stat().st_mtime_ns for p in tmp_path.glob("runs/default/*/**/*.json*")}
    again = sweep(grid, tmp_path)
    assert again.returncode == 0
    assert "Nothing to train: all 8 runs of default are complete" in again.stdout
    assert {p: p.stat().st_mtime_ns for p in tmp_path.glob("runs/default/*/**/*.json*")} == before


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
    grid = [*tiny, "model=gpt/1x16,gpt/2x24", BUDGETS]
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
    result = sweep([*tiny, "model=gpt/1x16,gpt/2x24", "budget.tokens=[2560,1e9]"], tmp_path)
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
        "from fmscale.config.launchers import register_launchers\n"
        "register_launchers()\n"
        "import fmscale.train, fmscale.launching.driver\n"
        "import fmscale.commands.plan, fmscale.commands.status\n"
        "import hydra_plugins.fmscale_launchers\n"
        "assert 'torch' not in sys.modules, 'torch was imported'\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_retry_asks_for_trust_and_tells_code_that_was_mended(tiny, tmp_path, monkeypatch):
    (tmp_path / "exploding.py").write_text(EXPLODING)
    grid = [*tiny, "model=gpt/1x16,gpt/2x24", BUDGETS,
            "evaluation.evaluators.language._target_=exploding.Exploding"]  # fmt: skip
    assert sweep(grid, tmp_path).returncode == 1
    assert sorted(statuses(tmp_path).values()) == ["completed"] * 2 + ["failed"] * 2
    mended = EXPLODING.replace("d_model == 24", "d_model == 999")
    (tmp_path / "exploding.py").write_text(mended)
    refused = fmscale("retry", "default", folder=tmp_path)
    assert refused.returncode == 1
    assert "set FMSCALE_TRUST=exploding" in refused.stderr
    monkeypatch.setenv("FMSCALE_TRUST", "exploding")
    # Mended code makes other runs, whose ids know it: retry says so, and the sweep trains them.
    changed = fmscale("retry", "default", folder=tmp_path)
    assert changed.returncode == 1
    assert "launch the sweep again, which makes another run" in changed.stderr
    assert sweep(grid, tmp_path).returncode == 0
    assert sorted(statuses(tmp_path).values()) == ["completed"] * 6 + ["failed"] * 2


def test_retry_trains_what_failed_as_it_was_asked_for(tiny, tmp_path, monkeypatch):
    once = EXPLODING.replace("d_model == 24", "d_model == 24 and not os.path.exists('mended')")
    (tmp_path / "exploding.py").write_text(f"import os\n{once}")
    grid = [*tiny, "model=gpt/1x16,gpt/2x24", BUDGETS,
            "evaluation.evaluators.language._target_=exploding.Exploding"]  # fmt: skip
    assert sweep(grid, tmp_path).returncode == 1
    assert sorted(statuses(tmp_path).values()) == ["completed"] * 2 + ["failed"] * 2
    (tmp_path / "mended").touch()
    monkeypatch.setenv("FMSCALE_TRUST", "exploding")
    done = fmscale("retry", "default", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert list(statuses(tmp_path).values()) == ["completed"] * 4
    again = fmscale("retry", "default", folder=tmp_path)
    assert "Nothing to retry" in again.stdout


def test_a_failed_run_is_tried_again_as_often_as_asked(tiny, tmp_path):
    once = EXPLODING.replace(
        "        if model.shape.d_model == 24:\n",
        "        from pathlib import Path\n"
        "        tries = Path('tries.txt')\n"
        "        with tries.open('a') as file:\n"
        "            file.write('x')\n"
        "        if len(tries.read_text()) == 1:\n",
    )
    (tmp_path / "exploding.py").write_text(once)
    grid = [*tiny, "model=gpt/1x16", "budget.tokens=2560", "hydra.launcher.max_retries=1",
            "evaluation.evaluators.language._target_=exploding.Exploding"]  # fmt: skip
    assert sweep(grid, tmp_path).returncode == 0
    assert (tmp_path / "tries.txt").read_text() == "xx"
    assert list(statuses(tmp_path).values()) == ["completed"]


def test_a_sweep_stops_at_the_first_failure_if_asked(tiny, tmp_path):
    (tmp_path / "exploding.py").write_text(EXPLODING)
    grid = [*tiny, "model=gpt/2x24,gpt/1x16", "seed=1,2,3", "budget.tokens=2560",
            "hydra.launcher.on_error=stop", "hydra.launcher.n_workers=1",
            "evaluation.evaluators.language._target_=exploding.Exploding"]  # fmt: skip
    assert sweep(grid, tmp_path).returncode == 1
    found = list(statuses(tmp_path).values())
    assert found.count("failed") == 1
    assert found.count("queued") >= 3


def test_a_sweep_beyond_its_limits_is_refused_before_training(tiny, tmp_path):
    refused = sweep([*tiny, "budget.tokens=2560", "limits.max_flops=1e3"], tmp_path)
    assert refused.returncode == 1
    assert "more than limits.max_flops=1000" in refused.stderr
    assert not statuses(tmp_path)


def test_a_terminated_sweep_notes_it_and_goes_on_where_it_stopped(tiny, tmp_path):
    import signal
    import time

    grid = [
        *tiny,
        "model=gpt/2x24",
        "seed=1,2",
        "budget.tokens=[40960,81920]",
        "budget.max_epochs=1e6",
    ]
    command = [sys.executable, "-m", "fmscale.cli", "sweep", *grid]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.DEVNULL,
                               stderr=subprocess.DEVNULL, env=environment)  # fmt: skip
    deadline = time.monotonic() + 120
    trunks = tmp_path / "runs" / "default" / "trunks"
    while time.monotonic() < deadline and not list(trunks.glob("*/metrics.jsonl")):
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=60) == 143
    assert sweep(grid, tmp_path).returncode == 0
    assert list(statuses(tmp_path).values()) == ["completed"] * 4


def test_a_vmapped_sweep_trains_every_run(tiny, tmp_path):
    grid = [*tiny, "trainer.precision=32-true", "seed=1,2,3", BUDGETS, "hydra.launcher.vmap=3"]
    result = sweep(grid, tmp_path)
    assert result.returncode == 0, result.stderr
    assert "vmapped gpt_1x16 seed 1,2,3" in result.stdout
    assert list(statuses(tmp_path).values()) == ["completed"] * 6
    refused = sweep([*grid, "hydra.launcher.vmap=0", "seed=4,5"], tmp_path)
    assert refused.returncode == 1
    assert "hydra.launcher.vmap=0" in refused.stderr
