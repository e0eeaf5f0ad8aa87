"""Sections of the configuration that are plain numbers, checked before any compute is spent.

Standard library only: a sweep's parent checks every job of a grid without importing torch.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fmscale.errors import ConfigError
from fmscale.optim.batch_schedule import BatchSchedule
from fmscale.planning.budget import Horizon
from fmscale.sizing import Shape

MAX_WARMUP_SHARE = 0.2  # of the shortest budget; longer warm-ups bend the law (Porian et al. 2024)


def read_section(kind: type, config: Mapping[str, Any], name: str) -> Any:
    """A settings dataclass, whose fields are the schema; ConfigError for what it refuses."""
    try:
        return kind(**config[name])
    except TypeError as error:
        known = ", ".join(kind.__dataclass_fields__)  # type: ignore[attr-defined]
        raise ConfigError(f"section {name}: {error}; known keys: {known}") from error
    except ValueError as error:
        raise ConfigError(str(error)) from error


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
        """ConfigError, naming limit and cost, for a plan of more; `how` the hours are known."""
        costs = [("max_flops", flops, f"{flops:.3g} FLOPs"), ("max_hours", hours, f"{hours:.3g} h")]
        if self.dollars_per_hour is not None:
            price = hours * self.dollars_per_hour
            costs.append(("max_dollars", price, f"${price:.3g}"))
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
    decay_units: float | None = None  # tokens or samples after which the decay is over; None: end

    def __post_init__(self) -> None:
        if not 0.0 <= self.cooldown_fraction <= 1.0:
            raise ConfigError(
                f"schedule.cooldown_fraction={self.cooldown_fraction} must lie between 0 and 1"
            )
        if self.warmup_units is not None and self.warmup_units < 0:
            raise ConfigError(f"schedule.warmup_units={self.warmup_units} must not be negative")
        if self.decay_units is not None and self.cooldown_fraction != 1:
            raise ConfigError(
                f"schedule.decay_units={self.decay_units:g} needs a schedule that decays from the "
                "end of warm-up on; choose schedule=cosine or drop it"
            )

    @property
    def name(self) -> str:
        """Last part of the function's dotted path: "wsd", "cosine" or "constant"."""
        return str(self.multiplier["_target_"]).rsplit(".", 1)[-1]

    def warmup_steps(self, shape: Shape, horizons: list[Horizon], batches: BatchSchedule) -> int:
        """Warm-up of all budgets in full-batch steps; ConfigError beyond 20 % of the shortest."""
        shortest = horizons[0]
        units = self.warmup_units
        if units is None:
            units = min(shape.n_params_total, 0.1 * shortest.n_units)
        n_steps = math.ceil(units / batches.units_per_step)
        longest = MAX_WARMUP_SHARE * batches.full_steps(shortest.n_steps)
        if n_steps > longest:
            raise ConfigError(
                f"schedule.warmup_units={units:g} is {n_steps} full steps, "
                f"{MAX_WARMUP_SHARE * n_steps / longest:.1%} of the shortest budget of "
                f"{shortest.n_units:,} (at most {MAX_WARMUP_SHARE:.0%}, rounded up to steps); "
                "shorten the warm-up or raise the budget"
            )
        return n_steps

    def cooldown_steps(self, horizon: Horizon, warmup_steps: int) -> int:
        """Steps of decay at the end of a budget; what remains after warm-up at most."""
        return min(round(self.cooldown_fraction * horizon.n_steps), horizon.n_steps - warmup_steps)

    def check_decay(self, horizon: Horizon, cooldown_steps: int, batches: BatchSchedule) -> None:
        """Refuse with a ConfigError an end in mid-decay, or a cooldown before the batch is full."""
        if self.decay_units is not None and self.decay_units > horizon.n_units:
            raise ConfigError(
                f"schedule.decay_units={self.decay_units:g} exceeds the budget of "
                f"{horizon.n_units:,}, so the run would not be annealed; lower it"
            )
        cools_from = horizon.n_steps - (cooldown_steps if self.cooldown_fraction < 1 else 0)
        if batches.ramp is not None and batches.ramp_steps > cools_from:
            raise ConfigError(
                f"batch_ramp.units={batches.ramp.units:g} takes {batches.ramp_steps} steps, but "
                f"the budget of {horizon.n_units:,} has only {cools_from} before its cooldown; "
                "shorten the ramp"
            )


@dataclass(frozen=True)
class TrainerSettings:
    """How steps are executed."""

    accelerator: str = "auto"
    strategy: str = "single"  # process; "ddp" or "fsdp": several, started by torchrun or srun
    devices: int | None = 1  # processes of a run, one a device; None: as many as were started
    precision: str = "32-true"  # or "bf16-mixed"
    gradient_clip_val: float | None = 1.0
    accumulate: int = 1  # micro-batches in one optimizer step
    compile: bool = False
    threads: int | None = None  # CPU threads; None: the launcher's or torch's choice
    log_every_steps: int = 10
    evaluate_every_steps: int | None = None  # evaluators on the way; None: at the end alone
    checkpoint_every_seconds: float = 60.0
    keep_checkpoints: int = 2  # newest ones of a run at work; an older one replaces a broken newest
    keep_trunk_end: bool = True  # the trunk's last checkpoint, from which longer budgets resume
    keep_final_weights: bool = True  # of a finished run, to evaluate, sample and convert it
    loader_workers: int = 0  # processes that prepare batches ahead; 0: the training process itself

    def __post_init__(self) -> None:
        if self.precision not in ("32-true", "bf16-mixed"):
            raise ConfigError(
                f"trainer.precision={self.precision!r}; use 32-true, or bf16-mixed where "
                "`fmscale plan` finds it faster"
            )
        if self.strategy not in ("single", "ddp", "fsdp"):
            raise ConfigError(f"trainer.strategy={self.strategy!r}; use single, ddp or fsdp")
        if self.strategy == "single" and self.devices != 1:
            raise ConfigError(
                f"trainer.devices={self.devices} needs several processes: add trainer=ddp or "
                "trainer=fsdp and start them, e.g. torchrun --nproc-per-node "
                f"{self.devices or 2} -m fmscale.train trainer=ddp ..."
            )
        if self.devices is not None and self.devices < 1:
            raise ConfigError(f"trainer.devices={self.devices} must be at least 1, or null")
        least = {"accumulate": 1, "log_every_steps": 1, "keep_checkpoints": 1,
                 "checkpoint_every_seconds": 0, "loader_workers": 0}  # fmt: skip
        for name, lowest in least.items():
            if getattr(self, name) < lowest:
                raise ConfigError(f"trainer.{name}={getattr(self, name)} must be at least {lowest}")
        if self.gradient_clip_val is not None and not self.gradient_clip_val > 0:
            raise ConfigError(
                f"trainer.gradient_clip_val={self.gradient_clip_val} would scale every gradient to "
                "nothing; give a number above 0, or null for no limit"
            )
        if self.evaluate_every_steps is not None and self.strategy != "single":
            raise ConfigError(
                f"trainer.evaluate_every_steps={self.evaluate_every_steps} is for one process, not "
                f"trainer.strategy={self.strategy}; set it to null: runs are measured at their end"
            )
        if self.evaluate_every_steps is not None and self.evaluate_every_steps < 1:
            raise ConfigError(
                f"trainer.evaluate_every_steps={self.evaluate_every_steps} must be at least 1, or "
                "null to evaluate at the end alone"
            )

    def check_batch(self, batch_size: int, contrasts: bool) -> None:
        """ConfigError for a batch that micro-batches, or contrasts between items, do not allow."""
        if batch_size % self.accumulate:
            raise ConfigError(
                f"trainer.accumulate={self.accumulate} does not divide batch_size={batch_size}"
            )
        if contrasts and batch_size < 2:
            raise ConfigError(
                f"batch_size={batch_size}: a contrastive loss compares pairs with each other; "
                "give at least 2"
            )
        if self.accumulate > 1 and contrasts:
            raise ConfigError(
                f"trainer.accumulate={self.accumulate} would contrast only pairs of the same "
                "micro-batch and so change the loss; to save memory use trainer.accumulate=1 and "
                f"objective.chunk_size={batch_size // self.accumulate}, which gives the gradient "
                "of the whole batch"
            )
