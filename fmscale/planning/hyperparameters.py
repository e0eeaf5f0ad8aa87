"""What a configuration leaves open, `lr: null` and its like, filled in by the rules it names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar

from fmscale.errors import ConfigError
from fmscale.planning.rules import (
    BatchRule,
    Beta2Rule,
    LearningRateRule,
    Setting,
    as_recorded,
    read_rule,
)

Value = TypeVar("Value")


@dataclass(frozen=True)
class Resolved(Generic[Value]):
    """A value, and the rules it came from by the name of what they chose."""

    value: Value
    rules: dict[str, dict[str, Any]]


def resolve_batch_size(
    config: Mapping[str, Any], setting: Setting, units_per_item: int, multiple_of: int
) -> Resolved[int]:
    """`batch_size`, or by `batch_rule` where it is null; ConfigError or ValueError if neither."""
    size, rules = config["batch_size"], {}
    if size is None:
        if not config.get("batch_rule"):
            raise ConfigError("batch_size is null and batch_rule is not set; set one of them")
        rule = read_rule(BatchRule, config["batch_rule"], "batch_rule")
        size = rule(setting, units_per_item, multiple_of)
        rules["batch_size"] = as_recorded(rule)
    if isinstance(size, bool) or not isinstance(size, int) or size < 1:
        raise ConfigError(f"batch_size={size!r} must be a whole number, at least 1")
    return Resolved(size, rules)


def resolve_optimizer(
    optimizer: Mapping[str, Any], setting: Setting, batch_units: int
) -> Resolved[dict[str, Any]]:
    """The section with numbers for a null lr or beta2; ConfigError or ValueError without a rule."""
    setting = replace(setting, batch_units=batch_units)
    resolved = {k: v for k, v in optimizer.items() if k not in ("lr_rule", "beta2_rule")}
    rules = {}
    if resolved.get("lr") is None:
        if not optimizer.get("lr_rule"):
            raise ConfigError("optimizer.lr is null and optimizer.lr_rule is not set; set one")
        lr_rule = read_rule(LearningRateRule, optimizer["lr_rule"], "optimizer.lr_rule")
        resolved["lr"] = lr_rule(setting)
        rules["lr"] = as_recorded(lr_rule)
    if not isinstance(resolved["lr"], int | float) or not resolved["lr"] > 0:
        raise ConfigError(f"optimizer.lr={resolved['lr']!r} must be a positive number")
    betas = resolved.get("betas")
    if betas is not None and len(betas) == 2 and betas[1] is None:
        if not optimizer.get("beta2_rule"):
            raise ConfigError(
                "optimizer.betas has no second value and optimizer.beta2_rule is not set; set one"
            )
        beta2_rule = read_rule(Beta2Rule, optimizer["beta2_rule"], "optimizer.beta2_rule")
        resolved["betas"] = [betas[0], beta2_rule(setting)]
        rules["beta2"] = as_recorded(beta2_rule)
    return Resolved(resolved, rules)
