"""A family that the library has never heard of: small nets that follow a noisy signal.

Its unit is a frame; its measures are the mean squared error and how often the sign is wrong.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from analysis import Law, Parameter
from fmscale.data.counter_random import random_bits
from fmscale.evaluation.metric import Metric, measuring
from fmscale.sizing import Shape

N_INPUTS, N_FRAMES = 6, 8  # of a frame; frames of an item
NOISE = 0.3  # standard deviation: its square is the error that no net can pass
_TRAIN, _VALIDATION = 71, 72


@dataclass(frozen=True)
class FollowerShape(Shape):
    """Two matrices, without biases."""

    width: int
    family = "follower"
    unit = "frames"
    metrics = ("val_error", "sign_wrong")
    units_per_item = N_FRAMES

    @property
    def label(self) -> str:
        return f"follower_{self.width}"

    def param_groups(self) -> dict[str, int]:
        return {"in_mlp": N_INPUTS * self.width, "out_mlp": self.width}

    def train_flops_per_unit(self, batch_size: int) -> dict[str, int]:
        names = ("flops", "flops_causal", "flops_6nd", "flops_6nd_non_embedding")
        return dict.fromkeys((*names, "flops_6nd_matmul"), 6 * self.n_params_total)


class Follower(nn.Module):
    def __init__(self, shape: FollowerShape) -> None:
        super().__init__()
        self.read = nn.Linear(N_INPUTS, shape.width, bias=False)
        self.write = nn.Linear(shape.width, 1, bias=False)

    def forward(self, frames: Tensor) -> Tensor:
        """(B, T, N_INPUTS) -> (B, T)."""
        return self.write(self.read(frames).relu()).squeeze(-1)

    def param_groups(self) -> dict[str, list[nn.Parameter]]:
        return {"in_mlp": [self.read.weight], "out_mlp": [self.write.weight]}


class Signal:
    """Frames of uniform noise, and a sum of their sizes, of either sign, with noise of its own."""

    unit = "frames"
    units_per_item = N_FRAMES
    val_batch_size = 64
    n_items = 1_000_000
    name = "signal"

    def prepare(self) -> None:
        pass

    def _batch(self, stream: int, indices: np.ndarray) -> dict[str, Tensor]:
        bits = random_bits(0, stream, indices, N_FRAMES * (N_INPUTS + 1))
        uniform = (bits >> np.uint64(11)) * 2.0**-53 * 2 - 1
        cells = uniform.reshape(len(indices), N_FRAMES, N_INPUTS + 1)
        frames, noise = cells[..., :N_INPUTS], cells[..., N_INPUTS] * NOISE * 3**0.5
        truth = np.abs(frames) @ np.resize([1.0, -1.0], N_INPUTS)
        pair = {"frames": frames, "signal": truth + noise}
        return {key: torch.tensor(value, dtype=torch.float32) for key, value in pair.items()}

    def train_batch(self, indices: np.ndarray) -> dict[str, Tensor]:
        return self._batch(_TRAIN, indices)

    def validation_batches(self, batch_size: int) -> Iterator[dict[str, Tensor]]:
        for first in range(0, 256, batch_size):
            yield self._batch(_VALIDATION, np.arange(first, first + batch_size))

    def describe(self) -> dict[str, object]:
        return {"name": self.name}


class SquaredError:
    families = ("follower",)

    def __call__(self, model: nn.Module, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        return {"loss": (model(batch["frames"]) - batch["signal"]).square().mean()}


class Following:
    """Held-out squared error, and how often the sign is wrong."""

    def __call__(self, model: nn.Module, data: Signal, objective: Any) -> Iterator[Metric]:
        with measuring(model):
            pairs = [(model(b["frames"]), b["signal"]) for b in data.validation_batches(64)]
        said, truth = (torch.cat(side).double() for side in zip(*pairs, strict=True))
        yield Metric("val/error", (said - truth).square().mean().item(), "squared volts")
        wrong = (said.sign() != truth.sign()).double().mean().item()
        yield Metric("sign/wrong", wrong, "fraction")


class Settling(Law):
    """What is left of the error falls as one power of all that was computed."""

    name, columns, formula = "settling", ("N", "D"), "a (N D)^-b + c"
    parameters = (Parameter("a"), Parameter("b"), Parameter("c"))

    def value(self, p: Any, x: Any) -> Any:
        return p["a"] * (x["N"] * x["D"]) ** -p["b"] + p["c"]
