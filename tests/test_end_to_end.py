"""From a preset to a report, as a user would: sweep, fit, draw; again, and nothing is trained."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest


def command(arguments: list[str], folder) -> subprocess.CompletedProcess[str]:
    """Run a module of the project in `folder`."""
    environment = {**os.environ, "COLUMNS": "160"}
    return subprocess.run(
        [sys.executable, "-m", *arguments],
        capture_output=True, text=True, cwd=folder, env=environment, timeout=300,
    )  # fmt: skip


@pytest.fixture(scope="module")
def smoke(tmp_path_factory):
    """A folder in which the smoke preset has been swept."""
    folder = tmp_path_factory.mktemp("smoke")
    result = command(["fmscale.cli", "sweep", "experiment=smoke"], folder)
    assert result.returncode == 0, result.stderr
    return folder


def test_the_smoke_sweep_leaves_six_records_and_six_wandb_runs(smoke):
    records = list(smoke.glob("runs/smoke/*/record.json"))
    assert len(records) == 6
    assert len(list(smoke.glob("runs/smoke/gpt_*/wandb/offline-run-*"))) == 6
    for path in records:
        row = json.loads(path.read_text())
        assert row["annealed"]
        assert len(row["data"]["sha256"] if "sha256" in row["data"] else str(row["data"])) > 10


def test_the_same_command_trains_nothing(smoke):
    result = command(["fmscale.cli", "sweep", "experiment=smoke"], smoke)
    assert "Nothing to train: all 6 runs of smoke are complete" in result.stdout


def test_status_counts_them(smoke):
    result = command(["fmscale.cli", "status", "smoke"], smoke)
    assert "6 done · 0 running · 0 failed · 0 missing" in result.stdout


def test_plan_prices_it(smoke):
    result = command(["fmscale.cli", "plan", "experiment=smoke", "--price", "2"], smoke)
    assert result.returncode == 0, result.stderr
    told = " ".join(result.stdout.split())
    for expected in (
        "6 runs from 3 trunks: 6 done, 0 left",
        "branching saves",
        "Price: $",
        "s/step",
    ):
        assert expected in told


def test_the_report_has_figures_fits_and_one_page(smoke):
    result = command(
        ["analysis", "report", "runs/smoke", "--out", "reports/smoke", "--bootstrap", "200"], smoke
    )
    assert result.returncode == 0, result.stderr
    fits = json.loads((smoke / "reports/smoke/fits.json").read_text())
    assert fits
    images = list(smoke.glob("reports/smoke/figures/*.png"))
    assert images
    assert all(path.stat().st_size > 5000 for path in images)
    assert len(list(smoke.glob("reports/smoke/figures/*.svg"))) == len(images)
    page = (smoke / "reports/smoke/report.html").read_text()
    assert "<html" in page
    assert 'src="http' not in page
