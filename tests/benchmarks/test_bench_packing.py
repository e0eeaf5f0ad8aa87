"""Runs of one shape packed, against the same runs one after another, in one process.

Both take the trunk's steps through the code that a sweep uses, checkpoints and metrics included;
measuring and recording at the end are the same for both and left out. Nothing is asserted about
time: the ratio depends on how much of a step is overhead, so it is printed for several batches.
"""

from __future__ import annotations

import statistics
import time

import pytest
import torch
from rich.console import Console
from rich.table import Table

from fmscale.training.packing import train_together
from fmscale.training.run import train_trunk

pytestmark = pytest.mark.bench

N_MEMBERS, N_STEPS, ROUNDS, N_THREADS = 8, 60, 3, 2
SETTINGS = [(64, 2, 64), (64, 4, 64), (64, 8, 64)]  # width, sequences, length


def test_packed_against_one_after_another(tiny, plan_one, tmp_path):
    before = torch.get_num_threads()
    torch.set_num_threads(N_THREADS)
    table = Table(title=f"{N_MEMBERS} runs of 2 layers, {N_STEPS} steps, {N_THREADS} threads")
    for name in ("width", "batch", "one by one, ms/step", "packed, ms/step", "packed is faster by"):
        table.add_column(name, justify="right")
    for width, batch, length in SETTINGS:
        lone, packed = [], []
        for turn in range(ROUNDS + 1):
            for seconds, together in ((lone, False), (packed, True)):
                folder = tmp_path / f"{width}-{batch}-{length}-{turn}-{together}"
                jobs = [
                    plan_one([
                        *tiny, f"model=gpt_2x{width}", f"data.seq_len={length}", f"seed={seed}",
                        f"batch_size={batch}", f"budget.tokens={N_STEPS * batch * length / 0.8}",
                        "trainer.precision=32-true", "budget.max_epochs=1e9",
                        f"paths.runs_dir={folder}",
                    ])
                    for seed in range(N_MEMBERS)
                ]  # fmt: skip
                seconds.append(_time(jobs, together))
        row = [1e3 * statistics.median(s[1:]) for s in (lone, packed)]  # the first turn warms up
        ratios = [a / b for a, b in zip(lone[1:], packed[1:], strict=True)]
        table.add_row(str(width), f"{batch} x {length}", f"{row[0]:.1f}", f"{row[1]:.1f}",
                      f"{statistics.median(ratios):.2f}x")  # fmt: skip
    torch.set_num_threads(before)
    Console(width=100).print(table)


def _time(jobs, together: bool) -> float:
    """Seconds of one step of all jobs, the trunk alone."""
    began = time.perf_counter()
    if together:
        train_together([(job, None) for job in jobs], lambda event: None)
    else:
        for job in jobs:
            train_trunk(job)
    return (time.perf_counter() - began) / jobs[0].trunk_steps
