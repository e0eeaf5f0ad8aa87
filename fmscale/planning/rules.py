"""Hyper-parameters by rule: learning rate, batch size and beta2 as functions of N and D.

A rule is chosen in the configuration, worked out before any compute is spent, and stored with the
run beside the number it gave. Standard library only.

N is `n_params_non_embedding`, D the budget, and a batch is measured in tokens (samples for CLIP).
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeVar

Rule = TypeVar("Rule", bound="LearningRateRule | BatchRule | Beta2Rule")
MAX_OUTSIDE = 2.0  # a table is read this far beyond its ends, and no further


@dataclass(frozen=True)
class Setting:
    """What a rule may look at."""

    n_params: float  # non-embedding
    n_units: float | None = None  # D; None where budgets of several lengths share a trunk
    batch_units: float | None = None  # tokens or samples in a step

    def known(self, name: str, rule: str) -> float:
        """A value the rule needs; ValueError if it is not fixed."""
        value: float | None = getattr(self, name)
        if value is None:
            raise ValueError(
                f"{rule} depends on the length of training, but this job trains several lengths "
                "from one trunk; give each its own job (budget.tokens=1e6,2e6 instead of "
                "budget.tokens=[1e6,2e6]) or choose a rule without a D exponent"
            )
        return value


@dataclass(frozen=True)
class LearningRateRule:
    """lr_ref * (N / n_ref)^-exponent * (D / d_ref)^d_exponent * (B / b_ref)^b_exponent.

    Or a table: `points` of (N, rate), read with straight lines between logarithms.
    """

    lr_ref: float | None = None  # peak learning rate at the reference
    n_ref: float | None = None  # non-embedding parameters
    exponent: float = 0.0
    d_ref: float | None = None  # tokens or samples of training
    d_exponent: float = 0.0
    b_ref: float | None = None  # tokens or samples in a batch
    b_exponent: float = 0.0
    points: Sequence[Sequence[float]] | None = None

    def __post_init__(self) -> None:
        name = "optimizer.lr_rule"
        _check_form(self, name, "lr_ref", self.lr_ref)
        _check_powers(
            name,
            (("n_ref", self.n_ref, self.exponent), ("d_ref", self.d_ref, self.d_exponent),
             ("b_ref", self.b_ref, self.b_exponent)),
        )  # fmt: skip

    def __call__(self, setting: Setting) -> float:
        if self.points is not None:
            rate = _read_table(self.points, setting.n_params, "optimizer.lr_rule")
        else:
            assert self.lr_ref is not None
            rate = self.lr_ref * _power(setting.n_params, self.n_ref, -self.exponent)
            if self.d_exponent:
                n_units = setting.known("n_units", "optimizer.lr_rule")
                rate *= _power(n_units, self.d_ref, self.d_exponent)
            if self.b_exponent:
                assert setting.batch_units is not None
                rate *= _power(setting.batch_units, self.b_ref, self.b_exponent)
        return float(f"{rate:.4g}")  # four digits are plenty, and make a readable record


@dataclass(frozen=True)
class BatchRule:
    """Batch of batch_ref * (N / n_ref)^n_exponent * (D / d_ref)^d_exponent tokens or samples.

    Or a table: `points` of (N, tokens). The batch is rounded to a whole number of items, at least
    `multiple_of` and a multiple of it.
    """

    batch_ref: float | None = None  # tokens or samples at the reference
    n_ref: float | None = None
    n_exponent: float = 0.0
    d_ref: float | None = None
    d_exponent: float = 0.0
    points: Sequence[Sequence[float]] | None = None
    multiple_of: int = 1  # items

    def __post_init__(self) -> None:
        _check_form(self, "batch_rule", "batch_ref", self.batch_ref)
        _check_powers(
            "batch_rule",
            (("n_ref", self.n_ref, self.n_exponent), ("d_ref", self.d_ref, self.d_exponent)),
        )
        if self.multiple_of < 1:
            raise ValueError(f"batch_rule.multiple_of={self.multiple_of} must be at least 1")

    def __call__(self, setting: Setting, units_per_item: int, multiple_of: int = 1) -> int:
        """Items in a batch, of `units_per_item` units each and a multiple of `multiple_of`."""
        if self.points is not None:
            units = _read_table(self.points, setting.n_params, "batch_rule")
        else:
            assert self.batch_ref is not None
            units = self.batch_ref * _power(setting.n_params, self.n_ref, self.n_exponent)
            if self.d_exponent:
                n_units = setting.known("n_units", "batch_rule")
                units *= _power(n_units, self.d_ref, self.d_exponent)
        step = math.lcm(self.multiple_of, multiple_of)
        return max(1, round(units / units_per_item / step)) * step


@dataclass(frozen=True)
class Beta2Rule:
    """beta2_ref^(B / b_ref): the second moment forgets over the same number of tokens.

    So small batches get a larger beta2, which Porian et al. 2024 find essential (Marek et al. 2025
    give this form). Kept between `low` and `high`.
    """

    beta2_ref: float
    b_ref: float  # tokens or samples in a batch
    low: float = 0.9
    high: float = 0.999

    def __post_init__(self) -> None:
        if not 0 < self.low <= self.high < 1 or not 0 < self.beta2_ref < 1 or not self.b_ref > 0:
            raise ValueError(
                f"optimizer.beta2_rule {asdict(self)}: needs 0 < low <= high < 1, "
                "0 < beta2_ref < 1 and b_ref > 0"
            )

    def __call__(self, setting: Setting) -> float:
        assert setting.batch_units is not None
        value = self.beta2_ref ** (setting.batch_units / self.b_ref)
        return float(f"{min(self.high, max(self.low, value)):.5g}")


def read_rule(kind: type[Rule], source: Any, name: str) -> Rule:
    """A rule from its section of the configuration, or from a JSON file a study wrote.

    Args:
        source: a mapping, or the path of a file whose further keys (standard errors, ...) are
            passed over.
        name: of the section, for messages.

    Raises:
        ValueError: naming the section or the file, and the key.
    """
    known = [field.name for field in fields(kind)]
    if isinstance(source, str):
        try:
            content = json.loads(Path(source).read_text())
        except (OSError, ValueError) as error:
            raise ValueError(f"{name}={source}: cannot be read as JSON ({error})") from error
        if not isinstance(content, dict) or not set(content) & set(known):
            raise ValueError(f"{name}={source}: holds none of {', '.join(known)}")
        source = {key: value for key, value in content.items() if key in known}
    if not isinstance(source, Mapping):
        raise ValueError(f"{name}={source!r}: give a mapping or the path of a JSON file")
    try:
        return kind(**source)
    except TypeError as error:
        raise ValueError(f"{name}: {error}; known keys: {', '.join(known)}") from error


def as_recorded(rule: LearningRateRule | BatchRule | Beta2Rule) -> dict[str, Any]:
    """The keys of a rule that are set, as they are stored with a run."""
    defaults = {field.name: field.default for field in fields(rule)}
    return {key: value for key, value in asdict(rule).items() if value != defaults[key]}


def _power(value: float, reference: float | None, exponent: float) -> float:
    return 1.0 if not exponent or reference is None else (value / reference) ** exponent


def _check_form(rule: Any, name: str, key: str, reference: float | None) -> None:
    if (reference is None) == (rule.points is None):
        raise ValueError(f"{name} needs either {key} or points, not both and not neither")
    if reference is not None and not reference > 0:
        raise ValueError(f"{name}.{key}={reference!r} must be a positive number")
    if rule.points is not None:
        sizes = [point[0] for point in rule.points]
        if len(sizes) < 2 or any(a >= b for a, b in pairwise(sizes)):
            raise ValueError(f"{name}.points must be at least two pairs of ascending N")


def _check_powers(name: str, terms: Sequence[tuple[str, float | None, float]]) -> None:
    for key, reference, exponent in terms:
        if exponent and (reference is None or not reference > 0):
            raise ValueError(f"{name}.{key}={reference!r} must be a positive number: its exponent "
                             f"is {exponent}")  # fmt: skip


def _read_table(points: Sequence[Sequence[float]], n_params: float, name: str) -> float:
    """Piecewise power law through the points; little beyond the ends, where the end's value holds.

    Raises:
        ValueError: far outside.
    """
    first, last = points[0][0], points[-1][0]
    if not first / MAX_OUTSIDE <= n_params <= last * MAX_OUTSIDE:
        raise ValueError(
            f"{name}: {n_params:.3g} non-embedding parameters lie outside the table of "
            f"{first:.3g} to {last:.3g}; choose a rule that is a power law"
        )
    if n_params <= first:
        return points[0][1]
    for (n_low, low), (n_high, high) in pairwise(points):
        if n_params <= n_high:
            share = math.log(n_params / n_low) / math.log(n_high / n_low)
            return low * (high / low) ** share
    return points[-1][1]
