"""Sections of the configuration that are plain numbers, checked before any compute is spent.

Standard library only: a sweep's parent checks every job of a grid without importing torch.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from fmscale.budget import Horizon
from fmscale.sizing import Shape

MAX_WARMUP_SHARE = 0.2  # of the shortest budget; longer warm-ups bend the law (Porian et al. 2024)


class ConfigError(ValueError):
    """A mistake in the configuration; the message names field, value and remedy."""


@contextmanager
def config_errors_exit() -> Iterator[None]:
    """End the program with the message alone: a mistake in a configuration needs no traceback."""
    try:
        yield
    except ConfigError as error:
        sys.exit(f"error: {error}")


@dataclass(frozen=True)
class LearningRateRule:
    """Peak learning rate as a power of model size: lr_ref * (N / n_ref) ** -exponent.

    N is `n_params_non_embedding`. The rule is supported by the study in `experiments/gpt_lr` and
    `experiments/clip_lr`.
    """

    lr_ref: float  # peak learning rate at n_ref
    n_ref: float  # non-embedding parameters
    exponent: float

    def __call__(self, shape: Shape) -> float:
        rate = self.lr_ref * (shape.n_params_non_embedding / self.n_ref) ** -self.exponent
        return float(f"{rate:.4g}")  # four digits are plenty, and make a readable record


@dataclass(frozen=True)
class Limits:
    """What a sweep may cost at most; null: no limit."""

    max_flops: float | None = None
    max_hours: float | None = None  # on this machine, all workers together
    max_dollars: float | None = None
    dollars_per_hour: float | None = None  # of this machine

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if value is not None and not value > 0:
                raise ConfigError(f"limits.{name}={value!r} must be a positive number, or null")
        if self.max_dollars is not None and self.dollars_per_hour is None:
            raise ConfigError("limits.max_dollars needs limits.dollars_per_hour")

    def check(self, flops: float, hours: float, how: str) -> None:
        """Refuse a plan that costs more.

        Args:
            flops, hours: what is left to train.
            how: where the hours come from.

        Raises:
            ConfigError: naming the limit and the cost.
        """
        costs = [("max_flops", flops, f"{flops:.3g} FLOPs"), ("max_hours", hours, f"{hours:.3g} h")]
        if self.dollars_per_hour is not None:
            price = hours * self.dollars_per_hour
            costs.append(("max_dollars", price, f"${price:.2f}"))
        for name, cost, text in costs:
            limit = getattr(self, name)
            if limit is not None and cost > limit:
                hint = "" if name == "max_flops" else f" ({how})"
                raise ConfigError(
                    f"what is left to train costs {text}{hint}, more than limits.{name}={limit:g}; "
                    "drop sizes, seeds or budgets, or raise the limit"
                )


@dataclass(frozen=True)
class Schedule:
    """Warm-up and cooldown lengths of the learning-rate schedule."""

    multiplier: dict[str, Any]  # the function of step, built by Hydra
    warmup_units: float | None  # tokens or samples; None: min(N_total, 10 % of shortest budget)
    cooldown_fraction: float  # share of each budget, 0..1

    def __post_init__(self) -> None:
        if not 0.0 <= self.cooldown_fraction <= 1.0:
            raise ConfigError(
                f"schedule.cooldown_fraction={self.cooldown_fraction} must lie between 0 and 1"
            )
        if self.warmup_units is not None and self.warmup_units < 0:
            raise ConfigError(f"schedule.warmup_units={self.warmup_units} must not be negative")

    @property
    def name(self) -> str:
        """Last part of the function's dotted path: "wsd", "cosine" or "constant"."""
        return str(self.multiplier["_target_"]).rsplit(".", 1)[-1]

    @property
    def anneals(self) -> bool:
        """Whether runs end with a decayed learning rate, and so may be fitted."""
        return self.cooldown_fraction > 0

    def warmup_steps(self, shape: Shape, horizons: list[Horizon], units_per_step: int) -> int:
        """Warm-up shared by all budgets of a trunk.

        Raises:
            ConfigError: if it is longer than 20 % of any budget.
        """
        shortest = horizons[0]
        units = self.warmup_units
        if units is None:
            units = min(shape.n_params_total, 0.1 * shortest.n_units)
        n_steps = math.ceil(units / units_per_step)
        if n_steps > MAX_WARMUP_SHARE * shortest.n_steps:
            raise ConfigError(
                f"schedule.warmup_units={units:g} is {n_steps} steps, "
                f"{n_steps / shortest.n_steps:.0%} of the shortest budget of {shortest.n_steps} "
                f"steps (at most {MAX_WARMUP_SHARE:.0%}); shorten the warm-up or raise the budget"
            )
        return n_steps

    def cooldown_steps(self, horizon: Horizon, warmup_steps: int) -> int:
        """Steps of decay at the end of a budget; what remains after warm-up at most."""
        return min(round(self.cooldown_fraction * horizon.n_steps), horizon.n_steps - warmup_steps)


@dataclass(frozen=True)
class TrainerSettings:
    """How steps are executed."""

    accelerator: str = "auto"
    devices: int = 1
    precision: str = "auto"  # "auto", "32-true" or "bf16-mixed"
    gradient_clip_val: float | None = 1.0
    accumulate: int = 1  # micro-batches in one optimizer step
    compile: bool = False
    threads: int | None = None  # CPU threads; None: the launcher's or torch's choice
    log_every_steps: int = 10
    checkpoint_every_seconds: float = 60.0

    def __post_init__(self) -> None:
        if self.precision not in ("auto", "32-true", "bf16-mixed"):
            raise ConfigError(
                f"trainer.precision={self.precision!r}; use auto, 32-true or bf16-mixed"
            )
        for name in ("devices", "accumulate", "log_every_steps"):
            if getattr(self, name) < 1:
                raise ConfigError(f"trainer.{name}={getattr(self, name)} must be at least 1")

    def check_batch(self, batch_size: int, unit: str) -> None:
        """Micro-batches must divide the batch; a contrastive batch cannot be split.

        Raises:
            ConfigError: otherwise.
        """
        if batch_size % self.accumulate:
            raise ConfigError(
                f"trainer.accumulate={self.accumulate} does not divide batch_size={batch_size}"
            )
        if self.accumulate > 1 and unit == "samples":
            raise ConfigError(
                f"trainer.accumulate={self.accumulate} would contrast only pairs of the same "
                "micro-batch and so change the loss; use trainer.accumulate=1"
            )
