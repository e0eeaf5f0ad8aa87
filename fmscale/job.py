"""One job: a trunk and the annealed runs that branch from it, worked out before any compute.

A trunk is trained once at constant learning rate; each budget branches from it and cools down
(Haegele et al. 2024). `Job.plan` turns a resolved configuration into step counts and run ids.
It needs no torch, so a sweep of thousands of runs can be checked and priced in its parent.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fmscale.budget import Budget
from fmscale.runs.identity import digest, identity, slug
from fmscale.settings import ConfigError, LearningRateRule, Limits, Schedule, TrainerSettings
from fmscale.sizing import Shape

SECTIONS = (
    "study", "seed", "batch_size", "model", "objective", "data", "budget", "optimizer",
    "schedule", "evaluation", "trainer", "logger", "paths",
)  # fmt: skip
OPTIONAL = ("limits",)  # of the sweep, not of a run


@dataclass(frozen=True)
class Branch:
    """One run: where it leaves the trunk and where it ends, in optimizer steps."""

    run_id: str
    n_units: int  # D: tokens or samples along the whole path
    n_steps: int
    branch_step: int  # the cooldown starts here; 0: trained by itself from the start
    cooldown_steps: int


@dataclass(frozen=True)
class Job:
    """A planned trunk with its branches, ascending in budget."""

    config: dict[str, Any]  # resolved; learning rate and warm-up are numbers
    shape: Shape
    schedule: Schedule
    trainer: TrainerSettings
    limits: Limits
    trunk_id: str
    warmup_steps: int
    branches: tuple[Branch, ...]

    @staticmethod
    def plan(config: Mapping[str, Any], shape: Shape) -> Job:
        """Work out steps and ids.

        Args:
            config: the composed configuration as plain containers, interpolations resolved.
            shape: the model's sizes, as built from `config["model"]["shape"]`.

        Raises:
            ConfigError: for an unknown key, a missing value or numbers that contradict each other.
        """
        _check_sections(config)
        schedule = _section(Schedule, config, "schedule")
        trainer = _section(TrainerSettings, config, "trainer")
        budget = _section(Budget, config, "budget")
        limits = _section(Limits, {"limits": {}, **config}, "limits")
        batch_size, seed = config["batch_size"], config["seed"]
        if not isinstance(batch_size, int) or batch_size < 1:
            raise ConfigError(f"batch_size={batch_size!r} must be a whole number, at least 1")
        if not isinstance(seed, int) or seed < 0:
            raise ConfigError(f"seed={seed!r} must be a whole number, at least 0")
        trainer.check_batch(batch_size, shape.unit)

        units_per_item = shape.seq_len if shape.unit == "tokens" else 1  # type: ignore[union-attr]
        try:
            horizons = budget.horizons(shape, batch_size, units_per_item)
        except ValueError as error:
            raise ConfigError(str(error)) from error
        warmup_steps = schedule.warmup_steps(shape, horizons, batch_size * units_per_item)

        resolved = {key: config[key] for key in SECTIONS}
        resolved["optimizer"] = _resolve_learning_rate(config["optimizer"], shape)
        resolved["schedule"] = {
            **config["schedule"], "warmup_units": warmup_steps * batch_size * units_per_item
        }  # fmt: skip
        branches = []
        for horizon in horizons:
            cooldown_steps = schedule.cooldown_steps(horizon, warmup_steps)
            own = {**resolved, "budget": _single_budget(shape.unit, horizon.n_units, budget)}
            # An epoch limit does not change the numbers of a run that respects it.
            id_config = {**own, "budget": {shape.unit: horizon.n_units}}
            branch_step = horizon.n_steps - cooldown_steps
            branches.append(
                Branch(
                    run_id=f"{slug(shape.label, horizon.n_units, seed)}-"
                    f"{digest(identity(id_config))}",
                    n_units=horizon.n_units,
                    n_steps=horizon.n_steps,
                    branch_step=branch_step if branch_step > warmup_steps else 0,
                    cooldown_steps=cooldown_steps,
                )
            )
        # The trunk knows nothing of budgets, cooldowns and what is measured at the end.
        trunk_identity = identity({**resolved, "budget": None, "evaluation": None})
        trunk_identity["schedule"] = {"warmup_units": resolved["schedule"]["warmup_units"]}
        return Job(
            config=resolved,
            shape=shape,
            schedule=schedule,
            trainer=trainer,
            limits=limits,
            trunk_id=f"{slug(shape.label, None, seed)}-{digest(trunk_identity)}",
            warmup_steps=warmup_steps,
            branches=tuple(branches),
        )

    def check_unique(self, n_unique: int) -> None:
        """Refuse budgets that repeat the data more often than `budget.max_epochs` allows.

        Raises:
            ConfigError: naming the budget, the unique data and the remedy.
        """
        budget = _section(Budget, self.config, "budget")
        for branch in self.branches:
            try:
                budget.check_unique(branch.n_units, n_unique, self.shape.unit)
            except ValueError as error:
                raise ConfigError(str(error)) from error

    @property
    def units_per_step(self) -> int:
        """Tokens or samples in one optimizer step."""
        per_item = self.shape.seq_len if self.shape.unit == "tokens" else 1  # type: ignore[union-attr]
        return int(self.config["batch_size"]) * per_item

    @property
    def lr_peak(self) -> float:
        return float(self.config["optimizer"]["lr"])

    @property
    def trunk_steps(self) -> int:
        """Steps of the shared part: up to the last branch; 0 where nothing is shared."""
        return max(branch.branch_step for branch in self.branches)

    def flops(self, n_units: int) -> dict[str, float]:
        """Training FLOPs of `n_units` tokens or samples, in each counting convention."""
        per_unit = self.shape.train_flops_per_unit(self.config["batch_size"])
        return {name: float(count) * n_units for name, count in per_unit.items()}

    def marginal_steps(self, branch: Branch) -> int:
        """Steps this run adds beyond what shorter budgets of the trunk have paid for."""
        earlier = [b.branch_step for b in self.branches if b.n_steps < branch.n_steps]
        shared = min(max(earlier, default=0), branch.branch_step)
        return branch.n_steps - shared

    def marginal_flops(self, branch: Branch) -> float:
        """FLOPs of `marginal_steps`; their sum over branches is what the job really costs."""
        return self.flops(self.marginal_steps(branch) * self.units_per_step)["flops"]

    def branch_config(self, branch: Branch) -> dict[str, Any]:
        """Configuration of one run: the job's, with this branch's budget alone."""
        budget = Budget(**self.config["budget"])
        return {
            **self.config, "budget": _single_budget(self.shape.unit, branch.n_units, budget)
        }  # fmt: skip


def _single_budget(unit: str, n_units: int, budget: Budget) -> dict[str, Any]:
    return {unit: n_units, "max_epochs": budget.max_epochs}


def _check_sections(config: Mapping[str, Any]) -> None:
    unknown = sorted(set(config) - {*SECTIONS, *OPTIONAL})
    if unknown:
        raise ConfigError(
            f"unknown configuration key(s) {', '.join(unknown)}; known: {', '.join(SECTIONS)}"
        )
    missing = sorted(set(SECTIONS) - set(config))
    if missing:
        raise ConfigError(f"the configuration lacks {', '.join(missing)}")


def _section(kind: type, config: Mapping[str, Any], name: str) -> Any:
    """Build a settings dataclass; its fields are the schema."""
    try:
        return kind(**config[name])
    except TypeError as error:
        known = ", ".join(kind.__dataclass_fields__)  # type: ignore[attr-defined]
        raise ConfigError(f"section {name}: {error}; known keys: {known}") from error
    except ValueError as error:
        raise ConfigError(str(error)) from error


def _resolve_learning_rate(optimizer: Mapping[str, Any], shape: Shape) -> dict[str, Any]:
    """Replace `lr: null` by the rule's value; the rule itself is not part of a run."""
    resolved = {key: value for key, value in optimizer.items() if key != "lr_rule"}
    if resolved.get("lr") is None:
        if not optimizer.get("lr_rule"):
            raise ConfigError("optimizer.lr is null and optimizer.lr_rule is not set; set one")
        resolved["lr"] = _section(LearningRateRule, optimizer, "lr_rule")(shape)
    if not isinstance(resolved["lr"], int | float) or not resolved["lr"] > 0:
        raise ConfigError(f"optimizer.lr={resolved['lr']!r} must be a positive number")
    return resolved
