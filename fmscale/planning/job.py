"""One job: a trunk and the annealed runs that branch from it, worked out before any compute.

A trunk is trained once at constant learning rate; each budget branches from it and cools down
(Haegele et al. 2024). `Job.plan` turns a resolved configuration into step counts and run ids.
It needs no torch, so a sweep of thousands of runs can be checked and priced in its parent.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from fmscale.errors import ConfigError
from fmscale.optim.batch_schedule import BatchRamp, BatchSchedule
from fmscale.planning.budget import Budget
from fmscale.planning.earlier import earlier_identity
from fmscale.planning.hyperparameters import Resolved, resolve_batch_size, resolve_optimizer
from fmscale.planning.rules import Setting
from fmscale.planning.sections import Limits, Schedule, TrainerSettings, read_section
from fmscale.runs.identity import digest, identity, slug
from fmscale.runs.store import check_name
from fmscale.sizing import GPTShape, Shape, counted_as

SECTIONS = (
    "study", "seed", "batch_size", "model", "objective", "data", "budget", "optimizer",
    "schedule", "evaluation", "trainer", "logger", "paths",
)  # fmt: skip
# Of the sweep and not of a run; absent where they would change nothing; or added by planning.
OPTIONAL = ("limits", "batch_rule", "batch_ramp", "rules", "content", "earlier")


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
    batches: BatchSchedule  # batch size by step
    trunk_id: str
    warmup_steps: int
    branches: tuple[Branch, ...]
    chunk_size: int | None = None  # in place of the objective's, where memory was short

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
        _check_finite({key: config[key] for key in SECTIONS})
        check_names(config)
        schedule = read_section(Schedule, config, "schedule")
        trainer = read_section(TrainerSettings, config, "trainer")
        budget = read_section(Budget, config, "budget")
        limits = read_section(Limits, {"limits": {}, **config}, "limits")
        seed = config["seed"]
        if not isinstance(seed, int) or seed < 0:
            raise ConfigError(f"seed={seed!r} must be a whole number, at least 0")
        units_per_item = shape.units_per_item
        _check_parametrization(config["model"], shape)
        _check_data(config["data"], shape)
        chosen = dict(config.get("rules") or {})  # by an earlier planning of the same job
        try:
            setting = Setting(shape.n_params_non_embedding, _only_length(budget, shape, config))
            batch = resolve_batch_size(config, setting, units_per_item, trainer.accumulate)
            trainer.check_batch(batch.value, shape.contrasts)
            batches = _batches(config, batch, shape, units_per_item, trainer)
            horizons = budget.horizons(shape, batches)
            optimizer = resolve_optimizer(config["optimizer"], setting, batches.units_per_step)
        except ValueError as error:
            raise ConfigError(str(error)) from error
        warmup_steps = schedule.warmup_steps(shape, horizons, batches)

        resolved = {key: config[key] for key in SECTIONS}
        resolved["batch_size"] = batch.value
        resolved["optimizer"] = optimizer.value
        resolved["schedule"] = {
            **{key: value for key, value in config["schedule"].items() if value is not None},
            "warmup_units": warmup_steps * batches.units_per_step,
        }
        if batches.ramp is not None:
            resolved["batch_ramp"] = dict(config["batch_ramp"])
        if rules := {**chosen, **batch.rules, **optimizer.rules}:
            resolved["rules"] = rules
        resolved |= {key: config[key] for key in ("content", "earlier") if key in config}
        counted = earlier_identity if "earlier" in config else identity
        branches = []
        for horizon in horizons:
            cooldown_steps = schedule.cooldown_steps(horizon, warmup_steps)
            schedule.check_decay(horizon, cooldown_steps, batches)
            own = {**resolved, "budget": budget.single(shape, horizon.n_units)}
            # An epoch limit does not change the numbers of a run that respects it.
            id_config = {**own, "budget": {counted_as(shape.unit): horizon.n_units}}
            branch_step = horizon.n_steps - cooldown_steps
            branches.append(
                Branch(
                    run_id=f"{slug(shape.label, horizon.n_units, seed)}-"
                    f"{digest(counted(id_config))}",
                    n_units=horizon.n_units,
                    n_steps=horizon.n_steps,
                    branch_step=branch_step if branch_step > warmup_steps else 0,
                    cooldown_steps=cooldown_steps,
                )
            )
        # The trunk knows nothing of budgets, cooldowns and what is measured at the end.
        trunk_identity = counted({**resolved, "budget": None, "evaluation": None})
        trunk_identity["schedule"] = {"warmup_units": resolved["schedule"]["warmup_units"]}
        return Job(
            config=resolved,
            shape=shape,
            schedule=schedule,
            trainer=trainer,
            limits=limits,
            batches=batches,
            trunk_id=f"{slug(shape.label, None, seed)}-{digest(trunk_identity)}",
            warmup_steps=warmup_steps,
            branches=tuple(branches),
        )

    def in_parts(self, accumulate: int, chunk_size: int | None) -> Job:
        """The same job with these parts of a batch, as `halved` has made them elsewhere."""
        trainer = dataclasses.replace(self.trainer, accumulate=accumulate)
        return dataclasses.replace(self, trainer=trainer, chunk_size=chunk_size)

    def halved(self, times: int) -> Job:
        """The same job in smaller parts of a batch: the same numbers to rounding (with dropout:
        other masks), the same ids, less memory.

        Micro-batches are halved and accumulated; where the items of a batch meet in the loss, the
        pairs that are encoded at once are halved instead.

        Raises:
            ConfigError: if the batch cannot be divided further.
        """
        if times == 0:
            return self
        batch_size = self.config["batch_size"]
        if self.shape.contrasts:
            whole = self.config["objective"].get("chunk_size") or batch_size
            if whole % 2**times:
                raise ConfigError(f"{whole} pairs at once cannot be halved {times} times")
            return dataclasses.replace(self, chunk_size=whole // 2**times)
        accumulate = self.trainer.accumulate * 2**times
        trainer = dataclasses.replace(self.trainer, accumulate=accumulate)
        trainer.check_batch(batch_size, contrasts=False)
        if self.batches.ramp is not None:
            raise ConfigError(
                "batch_ramp grows the batch by multiples of trainer.accumulate, so smaller "
                "micro-batches would change it; ask for a larger trainer.accumulate"
            )
        return dataclasses.replace(self, trainer=trainer)

    def check_unique(self, n_unique: int, share: float = 1.0, source: str = "the data") -> None:
        """ConfigError for budgets that repeat the unique units of a source, drawn by `share`."""
        budget = read_section(Budget, self.config, "budget")
        for branch in self.branches:
            try:
                budget.check_unique(branch.n_units, n_unique, self.shape.unit, share, source)
            except ValueError as error:
                raise ConfigError(str(error)) from error

    @property
    def units_per_step(self) -> int:
        """Tokens or samples in one optimizer step, at the full batch."""
        return self.batches.units_per_step

    def multiplier(
        self, function: Callable[..., float], branch: Branch | None = None
    ) -> Callable[[int], float]:
        """The factor on the peak learning rate as a function of the step alone.

        Under a batch ramp, warm-up and decay are measured in tokens: the schedule is asked at the
        number of full batches that would have read as much.

        Args:
            function: (step, *, warmup_steps, n_steps, cooldown_steps) -> factor.
            branch: the run; None for a trunk, which never cools down.
        """
        batches = self.batches
        n_steps: float | None = None
        cooldown_steps: float = 0
        if branch is not None:
            n_steps, cooldown_steps = batches.full_steps(branch.n_steps), branch.cooldown_steps
            if self.schedule.decay_units is not None:
                n_steps = self.schedule.decay_units / batches.units_per_step
                cooldown_steps = n_steps - self.warmup_steps
        scheduled = functools.partial(
            function,
            warmup_steps=self.warmup_steps, n_steps=n_steps, cooldown_steps=cooldown_steps,
        )  # fmt: skip
        if batches.ramp is None:
            return scheduled
        return lambda step: scheduled(batches.full_steps(step + 1) - 1)

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
        shared = branch.n_steps - self.marginal_steps(branch)
        return self.flops(branch.n_units - self.batches.n_units(shared))["flops"]

    def branch_config(self, branch: Branch) -> dict[str, Any]:
        """Configuration of one run: the job's, with this branch's budget alone."""
        budget = Budget(**self.config["budget"]).single(self.shape, branch.n_units)
        return {**self.config, "budget": budget}


def check_names(config: Mapping[str, Any]) -> None:
    """Refuse names that, as parts of a path, would leave the store or the folder of the data."""
    try:
        check_name(str(config["study"]), "study")
    except ValueError as error:
        raise ConfigError(str(error)) from error
    sections = [config["data"]]
    while sections:
        section = sections.pop()
        name = str(section.get("name", ""))
        if name.startswith(".") or {"/", "\\", "\0"} & set(name):
            raise ConfigError(
                f"data.name={name!r} is not the name of a folder; leave out slashes and a dot at "
                "its beginning"
            )
        sections += [source["data"] for source in (section.get("sources") or {}).values()]


def _check_sections(config: Mapping[str, Any]) -> None:
    unknown = sorted(set(config) - {*SECTIONS, *OPTIONAL})
    if unknown:
        raise ConfigError(
            f"unknown configuration key(s) {', '.join(unknown)}; known: {', '.join(SECTIONS)}"
        )
    missing = sorted(set(SECTIONS) - set(config))
    if missing:
        raise ConfigError(f"the configuration lacks {', '.join(missing)}")


def _check_finite(node: Any, path: str = "") -> None:
    """Refuse numbers that no id can be made of."""
    if isinstance(node, float) and not math.isfinite(node):
        raise ConfigError(
            f"{path}={node} is not a finite number; give one, or null where no limit is meant"
        )
    items: Any = node.items() if isinstance(node, Mapping) else ()
    if isinstance(node, list | tuple):
        items = enumerate(node)
    for key, value in items:
        _check_finite(value, f"{path}.{key}" if path else str(key))


def _check_parametrization(model: Mapping[str, Any], shape: Shape) -> None:
    """Refuse rates that follow the width where no rule for this model is written."""
    if not isinstance(shape, GPTShape) and model.get("parametrization") is not None:
        raise ConfigError(
            f"model.parametrization is written for GPT alone, not for {shape.label}; leave "
            "parametrization=mup out, and tune the rate by size (optimizer.lr_rule)"
        )


def _check_data(data: Mapping[str, Any], shape: Shape) -> None:
    """Refuse a language model with sizes of its own that do not fit the data."""
    if shape.unit != "tokens":
        return
    seq_len, vocab_size = data.get("seq_len"), data.get("vocab_size")
    if seq_len is not None and seq_len != shape.units_per_item:
        raise ConfigError(
            f"model.shape.seq_len={shape.units_per_item} differs from data.seq_len={seq_len}; "
            f"set data.seq_len={shape.units_per_item}"
        )
    known = shape.vocabulary
    if vocab_size is not None and known is not None and vocab_size > known:
        raise ConfigError(
            f"data.vocab_size={vocab_size} exceeds model.shape.vocab_size={known}; "
            "choose a model with the data's vocabulary"
        )


def _only_length(budget: Budget, shape: Shape, config: Mapping[str, Any]) -> float | None:
    """D of a job with one budget, for rules that depend on it; None for several."""
    if len(budget.values) > 1:
        return None
    # Where FLOPs per sample depend on the batch, a rule for the batch cannot know D.
    batch_size = config["batch_size"] if isinstance(config["batch_size"], int) else 1
    if budget.kind == "flops" and config["batch_size"] is None and shape.contrasts:
        return None
    return budget.length(budget.values[0], shape, batch_size)


def _batches(
    config: Mapping[str, Any],
    batch: Resolved[int],
    shape: Shape,
    units_per_item: int,
    trainer: TrainerSettings,
) -> BatchSchedule:
    if not config.get("batch_ramp"):
        return BatchSchedule(batch.value, units_per_item)
    if shape.contrasts:
        raise ConfigError(
            "batch_ramp would change a contrastive loss, which depends on the batch; "
            "use batch_ramp=null"
        )
    return BatchSchedule(
        batch.value, units_per_item, read_section(BatchRamp, config, "batch_ramp"),
        multiple_of=trainer.accumulate,
    )  # fmt: skip
