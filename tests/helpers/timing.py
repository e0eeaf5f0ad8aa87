"""Programs timed in turns, so that a busy machine is slow for all of them."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import torch
from torch import nn

Step = Callable[[], float]  # one training step -> its loss


def training_step(
    model: nn.Module, optimizer: torch.optim.Optimizer, loss_of: Callable[[], torch.Tensor]
) -> Step:
    def step() -> float:
        loss = loss_of()
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        return loss.item()

    return step


def seconds_of(step: Step, repeats: int) -> float:
    started = time.perf_counter()
    for _ in range(repeats):
        step()
    return (time.perf_counter() - started) / repeats


def alternate(steps: dict[str, Step], seconds: float) -> dict[str, list[float]]:
    """Seconds per step of each program, measured in turns; at least 5 rounds."""
    for step in steps.values():
        step()  # allocation
    slowest = max(seconds_of(step, 1) for step in steps.values())
    repeats = max(1, round(0.05 / slowest))  # a turn of 50 ms at least
    measured: dict[str, list[float]] = {name: [] for name in steps}
    started, rounds = time.perf_counter(), 0
    while rounds < 5 or time.perf_counter() - started < seconds:
        for name, step in steps.items():
            measured[name].append(seconds_of(step, repeats))
        rounds += 1
    return measured


def ratio(slow: list[float], fast: list[float]) -> str:
    """How many times as fast, with the quartiles of the rounds."""
    per_round = [a / b for a, b in zip(slow, fast, strict=True)]
    low, middle, high = statistics.quantiles(per_round, n=4)
    return f"{middle:.2f} ({low:.2f}-{high:.2f})"
