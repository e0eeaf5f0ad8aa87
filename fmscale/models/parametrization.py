"""Maximal update parametrization: one learning rate for models of different width.

Yang et al. 2022 (Tensor Programs V), Table 3, for Adam, relative to a base width at which nothing
changes: with m = d_model / base_width, the matrices inside the blocks start at 1 / sqrt(m) of the
base's standard deviation and learn at 1 / m of its rate; attention scores are divided by d_head
instead of its root; and the read-out is divided by m, tied to the token table or not. Tables,
norms and biases are as at the base. Depth is not covered.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

# Roles and groups whose both dimensions grow with the width.
HIDDEN_ROLES = ("qkv", "attention_out", "mlp_in", "mlp_out")
HIDDEN_GROUPS = ("attention", "mlp")


@dataclass(frozen=True)
class MuP:
    """Where the parametrization equals the standard one."""

    base_width: int  # d_model
    base_d_head: int

    def __post_init__(self) -> None:
        for name in ("base_width", "base_d_head"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ValueError(f"parametrization.{name}={value!r} must be a positive integer")

    def ratio(self, d_model: int) -> float:
        """m: how many times as wide as the base."""
        return d_model / self.base_width

    def attention_scale(self, d_head: int) -> float:
        """Factor on the scores: 1 / d_head, with the base's 1 / sqrt(d_head)."""
        return math.sqrt(self.base_d_head) / d_head

    def stds(self, base: dict[str, float], d_model: int) -> dict[str, float]:
        """Standard deviations by role at this width, from those of the base."""
        shrink = 1 / math.sqrt(self.ratio(d_model))
        return {role: std * (shrink if role in HIDDEN_ROLES else 1) for role, std in base.items()}

    def lr_factors(self, d_model: int) -> dict[str, float]:
        """Factor on the learning rate by parameter group; 1 where absent."""
        return {group: 1 / self.ratio(d_model) for group in HIDDEN_GROUPS}
