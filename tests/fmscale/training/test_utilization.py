"""Model-FLOPs utilization: its ceiling is measured once, and its rows go to the tracker alone."""

import dataclasses
from types import SimpleNamespace

import pytest
import torch

from fmscale.config.build import build_parts
from fmscale.planning.sections import TrainerSettings
from fmscale.runs.store import RunFolder
from fmscale.tracking.tracker import NoTracker
from fmscale.training import utilization
from fmscale.training.callbacks import MetricsRecorder
from fmscale.training.distributed.world import World
from fmscale.training.fit import fit_steps


def test_the_ceiling_is_what_one_product_takes_and_counts_devices(monkeypatch):
    clock = iter([0.0, 9.0, *(t for start in range(10, 16) for t in (start, start + 0.5))])
    monkeypatch.setattr(utilization.time, "perf_counter", lambda: next(clock))
    utilization.measured_rate.cache_clear()
    one = TrainerSettings(accelerator="cpu", precision="32-true")
    rate = utilization.matmul_rate(one, "32-true")
    assert rate == 2 * 1024**3 / 0.5  # the first product, of 9 seconds, does not count
    together = SimpleNamespace(world=World(size=2, starter="torchrun"))
    monkeypatch.setattr(utilization, "current_ranks", lambda: together)
    assert utilization.matmul_rate(one, "32-true") == 2 * rate  # and it is not measured again
    utilization.measured_rate.cache_clear()


def test_utilization_leaves_out_what_nobody_computes_and_never_exceeds_the_whole(
    tiny_clip, plan_one
):
    job = plan_one(
        [*tiny_clip, "budget.samples=160"]
    )  # one layer a tower, each read at one position
    counted = job.shape.train_flops_per_unit(job.config["batch_size"])["flops"]
    image, text = job.shape.image, job.shape.text
    unread = image.unread_flops(image.n_positions) + text.unread_flops(text.seq_len)
    assert 0.3 < 3 * unread / counted < 0.8
    found = utilization.utilization(job, 10.0, ceiling=100.0)
    assert found == pytest.approx(0.1 * (1 - 3 * unread / counted))
    assert utilization.utilization(job, 1e6, ceiling=100.0) is None  # measured beside other work


def test_a_large_product_runs_near_the_ceiling():
    rate = utilization.measured_rate("cpu", torch.float32, torch.get_num_threads())
    assert 1e9 < rate < 1e14


class Seen(NoTracker):
    """Keeps the rows that an tracker is given."""

    def __init__(self):
        self.rows = []

    def log(self, row):
        self.rows.append(row)


def test_rows_of_the_tracker_carry_it_and_those_of_the_store_do_not(tiny, plan_one, tmp_path):
    job = plan_one([*tiny, "budget.tokens=2560"])
    tracker = Seen()
    parts = dataclasses.replace(build_parts(job.config), tracker=tracker)
    folder = RunFolder(tmp_path / "run")
    folder.create("")
    fit_steps(job, parts, folder, start=None, stop_step=10, multiplier=lambda step: 1.0,
              precision="32-true", report=lambda event: None)  # fmt: skip
    key = "speed/flops_utilization"
    assert [key in row for row in tracker.rows] == [False, True, True, True, True]
    assert all(row[key] > 0 for row in tracker.rows[1:])
    assert [{k: v for k, v in row.items() if k != key} for row in tracker.rows] == folder.metrics()


def test_utilization_of_a_known_speed(monkeypatch, tmp_path):
    recorder = MetricsRecorder(None, RunFolder(tmp_path), NoTracker(), lambda rate: rate / 100.0)
    clock = iter([1.0, 3.0])
    monkeypatch.setattr("fmscale.training.callbacks.time.monotonic", lambda: next(clock))
    assert recorder._speed(0.0) == {}
    assert recorder._speed(50.0) == {"speed/flops_utilization": pytest.approx(0.25)}
