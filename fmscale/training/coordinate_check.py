"""How far a few steps move the activations of each layer: the coordinate check of Yang et al. 2022.

In the maximal update parametrization the movement does not depend on the width (Tensor Programs V,
App. D.1); in the standard one it grows with it, which is why the best learning rate falls.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from fmscale.config.build import build_model, build_parts
from fmscale.models.layers import Attention, Block
from fmscale.planning.job import Job
from fmscale.sizing import GPTShape


@dataclass(frozen=True)
class Movement:
    """Of one layer's output, after some optimizer steps, averaged over seeds."""

    width: int  # d_model
    layer: str
    step: int
    size: float  # mean absolute activation
    change: float  # mean absolute difference from before the first step


def measure(job: Job, n_steps: int, seeds: Sequence[int]) -> list[Movement]:
    """Train a GPT for `n_steps` on one batch at its peak rate and watch the output of every layer.

    The same batch at every step, so that the difference is the model's alone.
    """
    parts = build_parts(job.config)
    batch = parts.data.train_batch(np.arange(job.config["batch_size"]))
    sums: dict[tuple[str, int], list[float]] = {}
    for seed in seeds:
        torch.manual_seed(seed)
        model = build_model(job.config)
        seen = watch(model)
        optimizer = parts.optimizer(model)
        first: dict[str, Tensor] = {}
        for step in range(n_steps + 1):
            loss = parts.objective(model, batch)["loss"]
            first = first or dict(seen)
            for layer, output in seen.items():
                total = sums.setdefault((layer, step), [0.0, 0.0])
                total[0] += output.abs().mean().item() / len(seeds)
                total[1] += (output - first[layer]).abs().mean().item() / len(seeds)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    assert isinstance(job.shape, GPTShape), job.shape
    width = job.shape.d_model
    return [Movement(width, layer, step, *total) for (layer, step), total in sums.items()]


def watch(model: nn.Module) -> dict[str, Tensor]:
    """The latest output of attention, of each block and of the model, filled at every forward."""
    seen: dict[str, Tensor] = {}

    def keep(name: str, module: nn.Module, inputs: object, output: Tensor) -> None:
        seen[name] = output.detach()

    layers = {
        name.removeprefix("blocks."): module  # "0.attention", "0"
        for name, module in model.named_modules()
        if isinstance(module, Attention | Block)
    }
    for name, module in {**layers, "logits": model}.items():
        module.register_forward_hook(functools.partial(keep, name))
    return seen


def spreads(movements: Sequence[Movement]) -> dict[str, float]:
    """Largest over smallest change across widths after the last step, by layer."""
    last = max(m.step for m in movements)
    changes: dict[str, list[float]] = {}
    for movement in movements:
        if movement.step == last:
            changes.setdefault(movement.layer, []).append(movement.change)
    return {layer: max(values) / min(values) for layer, values in changes.items()}
