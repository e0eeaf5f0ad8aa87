"""What bfloat16 gains here: a short measurement instead of a guess, for whoever plans a sweep.

bfloat16 autocast triples the speed of matrix products on processors with matrix units, helps little
where the model is so small that element-wise work rules, and can halve the speed where bfloat16 is
only emulated by vector instructions. So a few training steps of the very model and batch tell.

Precision changes the numbers (in the noise of a seed), and what is measured depends on what else
the machine does: so a person chooses, by `trainer.precision`, and the choice is in a run's id.
"""

import copy
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn

from fmscale.optim.param_groups import adamw

FULL, MIXED = "32-true", "bf16-mixed"  # Lightning's names

Objective = Callable[[nn.Module, dict[str, Tensor]], dict[str, Tensor]]


def bf16_speedup(
    model: nn.Module,
    objective: Objective,
    batch: dict[str, Tensor],
    *,
    max_seconds: float = 0.5,
    max_pairs: int = 7,
) -> float:
    """Seconds of a training step at `FULL`, divided by those at `MIXED`.

    Steps alternate, so that other load on the machine slows both alike. The model is copied and the
    random state restored: what follows is the same with and without a measurement.

    Args:
        model: on the device to train on, with `shape` and `param_groups` as the models here have.
        objective: (model, batch) -> dict with "loss".
        batch: one training batch on the same device.
        max_seconds: no new pair of steps starts after this; one pair is always measured.
        max_pairs: pairs of steps at most.
    """
    device = next(model.parameters()).device
    model = copy.deepcopy(model).train()
    optimizer = adamw(model, lr=0.0)  # type: ignore[arg-type]

    def seconds_of_step(precision: str) -> float:
        started = time.perf_counter()
        with torch.autocast(device.type, torch.bfloat16, enabled=precision == MIXED):
            loss = objective(model, batch)["loss"]
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return time.perf_counter() - started

    seconds: dict[str, list[float]] = {FULL: [], MIXED: []}
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        for precision in seconds:  # warm-up: allocation, kernel selection
            seconds_of_step(precision)
        started = time.perf_counter()
        while not seconds[FULL] or (
            len(seconds[FULL]) < max_pairs and time.perf_counter() - started < max_seconds
        ):
            for precision, measured in seconds.items():
                measured.append(seconds_of_step(precision))
    full, mixed = (statistics.median(measured) for measured in seconds.values())
    # A burst of other load can hit one side more; the fastest steps have to agree with the median.
    return min(full / mixed, min(seconds[FULL]) / min(seconds[MIXED]))
