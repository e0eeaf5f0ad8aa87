"""Runs of one shape vmapped, against the same runs one after another, in one process.

Both take the trunk's steps through the code that a sweep uses, checkpoints and metrics included;
measuring and recording at the end are the same for both and left out. Nothing is asserted about
time: the ratio depends on how much of a step is overhead, so it is printed for several batches.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import pytest
import torch
from rich.console import Console
from rich.table import Table

from fmscale.models.gpt import GPT
from fmscale.objectives.next_token import NextToken
from fmscale.optim.param_groups import adamw
from fmscale.sizing import GPTShape
from fmscale.training.run import train_trunk
from fmscale.training.vmapped.runs import train_stretch
from fmscale.training.vmapped.step import VmappedGroup

pytestmark = pytest.mark.bench

N_MEMBERS, N_STEPS, ROUNDS, N_THREADS = 8, 60, 3, 2
SETTINGS = [(64, 2, 64), (64, 4, 64), (64, 8, 64)]  # width, sequences, length


@pytest.mark.parametrize("n_threads", [1, N_THREADS])  # a sweep gives small models one each
def test_vmapped_against_one_after_another(tiny, plan_one, tmp_path, n_threads):
    before = torch.get_num_threads()
    torch.set_num_threads(n_threads)
    table = Table(title=f"{N_MEMBERS} runs of 2 layers, {N_STEPS} steps, {n_threads} threads")
    for name in (
        "width",
        "batch",
        "one by one, ms/step",
        "vmapped, ms/step",
        "vmap is faster by",
    ):
        table.add_column(name, justify="right")
    for width, batch, length in SETTINGS:
        lone, vmapped = [], []
        for turn in range(ROUNDS + 1):
            for seconds, together in ((lone, False), (vmapped, True)):
                folder = tmp_path / f"{width}-{batch}-{length}-{turn}-{together}"
                jobs = [
                    plan_one([
                        *tiny, f"model=gpt/2x{width}", f"data.seq_len={length}", f"seed={seed}",
                        f"batch_size={batch}", f"budget.tokens={N_STEPS * batch * length / 0.8}",
                        "trainer.precision=32-true", "budget.max_epochs=1e9",
                        f"paths.runs_dir={folder}",
                    ])
                    for seed in range(N_MEMBERS)
                ]  # fmt: skip
                seconds.append(_time(jobs, together))
        row = [1e3 * statistics.median(s[1:]) for s in (lone, vmapped)]  # the first turn warms up
        ratios = [a / b for a, b in zip(lone[1:], vmapped[1:], strict=True)]
        table.add_row(str(width), f"{batch} x {length}", f"{row[0]:.1f}", f"{row[1]:.1f}",
                      f"{statistics.median(ratios):.2f}x")  # fmt: skip
    torch.set_num_threads(before)
    Console(width=100).print(table)


def _time(jobs, together: bool) -> float:
    """Seconds of one step of all jobs, the trunk alone."""
    began = time.perf_counter()
    if together:
        train_stretch([(job, None) for job in jobs], lambda event: None)
    else:
        for job in jobs:
            train_trunk(job)
    return (time.perf_counter() - began) / jobs[0].trunk_steps


def test_the_step_of_a_group_alone_and_compiled():
    """What is left without Lightning: bare PyTorch loops over the members, and groups of them."""
    before = torch.get_num_threads()
    torch.set_num_threads(N_THREADS)
    table = Table(title=f"a step of {N_MEMBERS} models, without Lightning, {N_THREADS} threads")
    columns = ("batch", "bare loop, ms", "vmapped, ms", "compiled, ms", "vmap is faster by",
               "compiled is faster by", "compiling took, s")  # fmt: skip
    for name in columns:
        table.add_column(name, justify="right")
    for width, batch, length in SETTINGS:
        shape = GPTShape(n_layer=2, n_head=2, d_model=width, vocab_size=256, seq_len=length)
        tokens = [{"tokens": torch.randint(256, (batch, length + 1))} for _ in range(N_MEMBERS)]
        began = time.perf_counter()
        compiled = _group_step(shape, tokens, compile=True)
        compiled()
        took = time.perf_counter() - began
        ways = {"bare": _bare_loop(shape, tokens), "vmapped": _group_step(shape, tokens),
                "compiled": compiled}  # fmt: skip
        seconds: dict[str, list[float]] = {name: [] for name in ways}
        for _ in range(20):
            for name, way in ways.items():
                began = time.perf_counter()
                way()
                seconds[name].append(time.perf_counter() - began)
        median = {name: statistics.median(times[2:]) for name, times in seconds.items()}
        table.add_row(f"{batch} x {length}", *(f"{1e3 * t:.1f}" for t in median.values()),
                      *(f"{median['bare'] / median[n]:.2f}x" for n in ("vmapped", "compiled")),
                      f"{took:.0f}")  # fmt: skip
    torch.set_num_threads(before)
    Console(width=110).print(table)


def _group_step(shape: GPTShape, tokens, *, compile: bool = False) -> Callable[[], object]:
    models = [GPT(shape) for _ in tokens]
    optimizers = [adamw(model, 1e-3) for model in models]
    group = VmappedGroup(models, optimizers, NextToken(), clip=1.0, compile=compile)
    return lambda: group.step([tokens], 1.0)


def _bare_loop(shape: GPTShape, tokens) -> Callable[[], object]:
    models = [GPT(shape) for _ in tokens]
    optimizers = [adamw(model, 1e-3) for model in models]
    objective = NextToken()

    def step() -> None:
        for model, optimizer, batch in zip(models, optimizers, tokens, strict=True):
            optimizer.zero_grad()
            objective(model, batch)["loss"].backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()

    return step
