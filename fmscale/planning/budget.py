"""How long to train: exactly one horizon, turned into optimizer steps.

A budget may be stated in four ways; each becomes D, the number of tokens (GPT) or samples
(CLIP) processed, and D becomes whole optimizer steps. Standard library only, so that a sweep
can be planned and priced without torch.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from fmscale.optim.batch_schedule import BatchSchedule
from fmscale.sizing import Shape, counted_as

HORIZONS = ("tokens", "samples", "units", "tokens_per_param", "flops")


@dataclass(frozen=True)
class Horizon:
    """One training length in whole steps."""

    n_units: int  # D: tokens or samples processed, a whole number of batches
    n_steps: int  # optimizer steps


@dataclass(frozen=True)
class Budget:
    """One or several horizons of the same kind; the others stay None.

    Raises:
        ValueError: if none or more than one kind is set, or a value is not positive.
    """

    tokens: float | Sequence[float] | None = None  # tokens processed
    samples: float | Sequence[float] | None = None  # image-text pairs processed
    units: float | Sequence[float] | None = None  # of a family with a unit of its own
    tokens_per_param: float | Sequence[float] | None = None  # D / N_total
    flops: float | Sequence[float] | None = None  # exact training FLOPs (column `flops`)
    max_epochs: float = 1.0  # passes over the unique data that are allowed

    def __post_init__(self) -> None:
        chosen = [name for name in HORIZONS if getattr(self, name) is not None]
        if len(chosen) != 1:
            got = ", ".join(f"budget.{name}={getattr(self, name)}" for name in chosen) or "none"
            raise ValueError(
                f"a budget needs exactly one horizon, got {got}; "
                f"set one of {', '.join('budget.' + name for name in HORIZONS)} and drop the rest"
            )
        values = self.values
        if not values:
            raise ValueError(f"budget.{self.kind} is an empty list; give at least one value")
        for value in values:
            if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
                raise ValueError(f"budget.{self.kind}={value!r} must be a positive number")
        if not self.max_epochs > 0:
            raise ValueError(f"budget.max_epochs={self.max_epochs} must be positive")

    @property
    def kind(self) -> str:
        """Name of the horizon that is set."""
        return next(name for name in HORIZONS if getattr(self, name) is not None)

    @property
    def values(self) -> list[float]:
        """The horizon's values, in the order given."""
        value = getattr(self, self.kind)
        return (
            list(value) if isinstance(value, Sequence) and not isinstance(value, str) else [value]
        )

    def single(self, shape: Shape, n_units: int) -> dict[str, Any]:
        """The budget of one run."""
        return {counted_as(shape.unit): n_units, "max_epochs": self.max_epochs}

    def horizons(self, shape: Shape, batches: BatchSchedule) -> list[Horizon]:
        """Training lengths, ascending, each rounded to whole steps.

        Args:
            shape: the model, for its parameter count and FLOPs per token or sample.
            batches: batch size by step.

        Raises:
            ValueError: if the unit does not fit the model, a budget is smaller than one batch,
                or two budgets round to the same number of steps.
        """
        per_step = batches.units_per_step
        horizons = []
        for value in self.values:
            n_units = self.length(value, shape, batches.batch_size)
            if n_units < per_step:
                raise ValueError(
                    f"budget.{self.kind}={value:g} is {n_units:,.0f} {shape.unit}, less than one "
                    f"batch of {per_step:,} {shape.unit}; raise the budget or lower batch_size"
                )
            n_steps = batches.nearest_steps(n_units)
            horizons.append(Horizon(n_units=batches.n_units(n_steps), n_steps=n_steps))
        horizons.sort(key=lambda horizon: horizon.n_steps)
        for shorter, longer in itertools.pairwise(horizons):
            if shorter.n_steps == longer.n_steps:
                raise ValueError(
                    f"budget.{self.kind}={self.values} holds two values that both round to "
                    f"{shorter.n_steps} steps of {per_step:,} {shape.unit}; remove one"
                )
        return horizons

    def length(self, value: float, shape: Shape, batch_size: int) -> float:
        """Tokens or samples of one value, unrounded; FLOPs may depend on `batch_size` in items."""
        own = counted_as(shape.unit)
        if self.kind in ("tokens", "samples", "units"):
            if self.kind != own:
                raise ValueError(
                    f"budget.{self.kind} does not fit this model, which counts {shape.unit}; "
                    f"use budget.{own}"
                )
            return value
        if self.kind == "tokens_per_param":
            if shape.unit != "tokens":
                raise ValueError(
                    f"budget.tokens_per_param does not fit a model that counts {shape.unit}; "
                    f"use budget.{own} or budget.flops"
                )
            return value * shape.n_params_total
        return value / shape.train_flops_per_unit(batch_size)["flops"]

    def check_unique(
        self, n_units: int, n_unique: int, unit: str, share: float = 1.0, source: str = "the data"
    ) -> None:
        """Refuse a length that repeats the data more often than `max_epochs` allows.

        Args:
            share: of the budget that is drawn from the source.
            source: name of what holds the unique units.

        Raises:
            ValueError: if its share of D exceeds `n_unique * max_epochs`.
        """
        drawn = n_units * share
        if drawn > n_unique * self.max_epochs:
            raise ValueError(
                f"the budget of {n_units:,} {unit} is {drawn / n_unique:.2f} "
                f"passes over the {n_unique:,} unique {unit} of {source}, more than "
                f"budget.max_epochs={self.max_epochs:g}; lower the budget, add data, or allow the "
                "repetition with a larger budget.max_epochs"
            )
