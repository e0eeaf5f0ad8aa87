"""Narrower laws: parameters within bounds of one's own, and parameters equal to others."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from analysis.laws.law import Array, Columns, Law
from analysis.laws.sums import SumLaw

Limits = Mapping[str, tuple[float, float]]


class Tied(Law):
    """A law some of whose parameters are others': {"beta": "alpha"}."""

    def __init__(self, law: Law, tie: Mapping[str, str]) -> None:
        self.law, self.tie = law, tie
        for name in Law.__annotations__.keys() - {"parameters"}:
            setattr(self, name, getattr(law, name))
        self.parameters = tuple(p for p in law.parameters if p.name not in tie)

    def value(self, p: Mapping[str, Any], x: Columns) -> Any:
        return self.law.value(untie(p, self.tie), x)

    def gradient(self, p: Mapping[str, Any], x: Columns) -> dict[str, Any]:
        out = self.law.gradient(untie(p, self.tie), x)
        for name, other in self.tie.items():
            out[other] = out[other] + out.pop(name)
        return out

    def starts(self, x: Columns, y: Array, count: int, seed: int) -> Array:
        free = [name not in self.tie for name in self.law.names]
        return self.law.starts(x, y, count, seed)[:, free]

    def format(self, parameters: Mapping[str, float]) -> str:
        return self.law.format(untie(parameters, self.tie))


def untie(p: Mapping[str, Any], tie: Mapping[str, str]) -> dict[str, Any]:
    """Parameters of the law as it is without ties."""
    return {**p, **{name: p[other] for name, other in tie.items()}}


def constrain(law: Law, limits: Limits, tie: Mapping[str, str]) -> Law:
    """The law with parameters in [low, high] and with parameters that equal others.

    Raises:
        ValueError: names a parameter that the law lacks, or bounds that hold nothing.
    """
    for name, (low, high) in limits.items():
        one = next((p for p in law.parameters if p.name == name), None)
        if one is None or name in tie:
            raise ValueError(f"--bounds {name}: law {law.name} has {', '.join(law.names)}")
        if not low < high or (one.positive and high <= 0):
            rule = ", and what is above 0" if one.positive else ""
            raise ValueError(f"--bounds {name}={low:g}:{high:g}: LOW must be below HIGH{rule}")
    for name, other in tie.items():
        free = [n for n in law.names if n not in tie]
        if name not in law.names or other not in free:
            raise ValueError(f"--tie {name}={other}: name two of {', '.join(law.names)}")
    if not limits and not tie:
        return law
    out = copy.copy(law)
    out.parameters = tuple(replace(p, bounds=limits.get(p.name, p.bounds)) for p in law.parameters)
    if not tie:
        return out
    if isinstance(out, SumLaw) and not tie.keys() & {t.amplitude for t in out.terms}:
        out.terms = tuple(
            replace(t, exponent=tie.get(t.exponent or "", t.exponent)) for t in out.terms
        )
        out.parameters = tuple(p for p in out.parameters if p.name not in tie)
        return out
    return Tied(out, tie)
