"""Model-FLOPs utilization: what of this machine's speed at matrix products a training run uses.

The ceiling is measured here, not taken from a data sheet: one large square product in the precision
trained at. Model FLOPs are those of the formula, forward and backward, recomputation left out
(Chowdhery et al. 2022, App. B).
"""

from __future__ import annotations

import functools
import time

import torch

from fmscale.planning.job import Job
from fmscale.planning.sections import TrainerSettings
from fmscale.sizing.pairs import PairShape
from fmscale.training.distributed.ranks import current_ranks
from fmscale.training.precision import MIXED

SIZES = {"cpu": 1024, "cuda": 8192}  # rows of the square matrices: long enough to be busy
REPEATS = 6  # the best counts: other load can only slow a product down


def matmul_rate(settings: TrainerSettings, precision: str) -> float:
    """FLOP/s of matrix products at a `precision`, on all devices of a run; measured once."""
    on_gpu = settings.accelerator in ("auto", "gpu") and torch.cuda.is_available()
    dtype = torch.bfloat16 if precision == MIXED else torch.float32
    one = measured_rate("cuda" if on_gpu else "cpu", dtype, torch.get_num_threads())
    ranks = current_ranks()
    return one * (ranks.world.size if ranks is not None else 1)


def utilization(job: Job, flops_per_second: float, ceiling: float) -> float | None:
    """Share of `ceiling` at which a job's `flops` are trained; None where it cannot be known.

    What `flops` counts as published counts do and nobody computes is left out. More than the whole
    says that the ceiling was measured while the machine did something else.
    """
    shape = job.shape
    if isinstance(shape, PairShape):
        counted = shape.train_flops_per_unit(job.config["batch_size"])["flops"]
        flops_per_second *= 1 - 3 * shape.unread_flops() / counted
    share = flops_per_second / ceiling
    return share if share <= 1 else None


@functools.cache
def measured_rate(device: str, dtype: torch.dtype, n_threads: int) -> float:
    """FLOP/s of one device at the product of two square matrices.

    Args:
        n_threads: of torch at the time; a part of the key alone.
    """
    size = SIZES[device]
    a = torch.ones(size, size, dtype=dtype, device=device)
    seconds = []
    for _ in range(1 + REPEATS):
        started = time.perf_counter()
        torch.mm(a, a)
        if device == "cuda":
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - started)
    return 2 * size**3 / min(seconds[1:])  # the first one allocates
