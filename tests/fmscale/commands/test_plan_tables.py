"""The tables of a plan: one row a model, whatever differs between models."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from fmscale.commands.plan_tables import Speed, dollars, runs_table, sizes_table, towers_table
from fmscale.config.jobs import expand
from fmscale.planning.sweep import Sweep

OBJECTIVES = "objective=contrastive,sigmoid,bag_of_words,caption"
LABELS = ["clip_2x48", "siglip_2x48", "word_predictor_2x48", "captioner_2x48"]


def cells(table, column: int) -> list[str]:
    return list(table.columns[column].cells)


@pytest.fixture
def jobs(tmp_path):
    return expand([
        "experiment=clip_objectives", OBJECTIVES, "seed=1", f"paths.runs_dir={tmp_path}",
    ])  # fmt: skip


def test_objectives_of_one_size_have_rows_and_runs_of_their_own(jobs):
    assert cells(sizes_table(jobs, {}), 0) == LABELS
    assert [job.branches[0].run_id.split("-")[0] for job in jobs] == LABELS


def test_the_work_of_image_and_caption_is_shown_apart(jobs):
    table = towers_table(jobs)
    assert cells(table, 0) == LABELS
    # 36 patches and a class token through two layers of width 48: 12 d^2 weights a position and
    # layer, 2 d for each key met, the patch matrix, and the projection.
    n, d = 37, 48
    image = 36 * (3 * 4 * 4 * d) + 2 * n * (12 * d * d + 2 * d * n) + d * jobs[0].shape.d_embed
    assert jobs[0].shape.forward_macs()["image"] == image
    assert cells(table, 1) == [f"{image / 1e6:.3g}M"] * 4
    assert cells(table, 2)[2] == f"{jobs[2].shape.forward_macs()['text'] / 1e3:.3g}k"


def test_a_priced_table_fits_a_terminal_and_adds_up_over_workers(tmp_path):
    jobs = expand(["experiment=gpt_demo", "model=gpt/2x24", f"paths.runs_dir={tmp_path}"])
    speed, n_workers, price = Speed(seconds_per_step=0.5, seconds_eval=0.0), 2, 3.0
    plans = Sweep(jobs).plans
    table = runs_table(plans, {job.trunk_id: speed for job in jobs}, price / n_workers)
    assert [column.header for column in table.columns][-3:] == ["time", "price", "work"]
    shown = sum(float(cell.removeprefix("$")) for cell in cells(table, 5))
    n_steps = sum(plan.steps for plan in plans)
    assert shown == pytest.approx(n_steps * 0.5 / n_workers / 3600 * price, rel=0.02)
    out = io.StringIO()
    Console(file=out, width=80).print(table)
    assert "gpt_2x24" in out.getvalue()
    assert "train" in out.getvalue()
    assert dollars(0.0) == "$0"
