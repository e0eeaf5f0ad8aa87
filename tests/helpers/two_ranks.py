"""Trains jobs one after the other, as torchrun starts it; for tests that compare the numbers.

`torchrun --standalone --nproc-per-node 2 -m tests.helpers.two_ranks JOBS.json`, a file with a list
of overrides for each. Jobs of a study called "exact" are trained in double precision, those of
"slow" on a slow disk.
"""

from __future__ import annotations

import json
import sys
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import nn
from torch.nn.modules.module import register_module_forward_pre_hook

from fmscale.config.jobs import expand
from fmscale.planning.job import Job
from fmscale.training.distributed.ranks import FitRequest, follow, joined
from fmscale.training.distributed.world import World
from fmscale.training.fit import fit_along
from fmscale.training.run import train_branch, train_trunk
from tests.helpers.slow_disk import slow_disk


@contextmanager
def conditions_of(config: dict):
    if config["study"] == "slow":
        rank = World.here().rank
        with slow_disk(Path(config["paths"]["runs_dir"]) / "saves.jsonl", rank):
            yield
        return
    if config["study"] != "exact":
        yield
        return
    torch.set_default_dtype(torch.float64)
    handle = register_module_forward_pre_hook(in_double)
    try:
        yield
    finally:
        handle.remove()
        torch.set_default_dtype(torch.float32)


def in_double(module: nn.Module, inputs: tuple) -> tuple:
    """Images come in single precision."""
    return tuple(x.double() if torch.is_tensor(x) and x.is_floating_point() else x for x in inputs)


def train(job: Job) -> None:
    with conditions_of(job.config):
        train_trunk(job)
        for branch in job.branches:
            train_branch(job, branch)


def along(request: FitRequest) -> None:
    with conditions_of(request.config):
        fit_along(request)


if __name__ == "__main__":
    with joined(world := World.here()) as ranks:
        if world.leads:
            for overrides in json.loads(Path(sys.argv[1]).read_text()):
                train(*expand(overrides))
        else:
            follow(ranks, along)
