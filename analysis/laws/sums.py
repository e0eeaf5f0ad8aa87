"""Laws that are sums of power terms: floor, power law, Hoffmann's joint law and its relatives.

Every term is exp(amplitude - exponent * log column): its logarithm is linear in the parameters.
That makes gradient and Hessian exact and cheap, lets amplitudes be projected out, and lets
thousands of bootstrap refits share one set of matrix products (`solver/problem.py`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from analysis.laws.law import Array, Columns, Law, Parameter

MAX_EXPONENT = 5.0


@dataclass(frozen=True)
class Term:
    """amplitude * column ** -exponent; without a column a constant."""

    amplitude: str
    column: str | None = None
    exponent: str | None = None


class SumLaw(Law):
    """A sum of non-negative power terms."""

    terms: tuple[Term, ...] = ()
    meanings: ClassVar[Mapping[str, str]] = {}
    signed_exponents: bool = False  # a bare power law may also rise

    def __init__(self) -> None:
        low = -MAX_EXPONENT if self.signed_exponents else 0.0
        said = self.meanings
        amplitudes = [Parameter(t.amplitude, meaning=said.get(t.amplitude, "")) for t in self.terms]
        exponents = [
            Parameter(name, False, (0.02, 2.0), (low, MAX_EXPONENT), said.get(name, ""))
            for name in dict.fromkeys(t.exponent for t in self.terms if t.exponent)
        ]
        self.parameters = (*amplitudes, *exponents)

    def inputs(self, x: Columns) -> dict[str, Array]:
        """The columns the terms use; a law may derive one from others."""
        return {t.column: x[t.column] for t in self.terms if t.column}

    def value(self, p: Mapping[str, Any], x: Columns) -> Any:
        inputs = self.inputs(x)
        total: Any = 0.0
        for t in self.terms:
            if t.column is None:
                total = total + p[t.amplitude]
            else:
                total = total + p[t.amplitude] * inputs[t.column] ** (-p[t.exponent or ""])
        return total

    def gradient(self, p: Mapping[str, Any], x: Columns) -> dict[str, Any]:
        inputs = self.inputs(x)
        out: dict[str, Any] = {name: 0.0 for name in self.names}
        for t in self.terms:
            if t.column is None or t.exponent is None:
                out[t.amplitude] = out[t.amplitude] + 1.0
                continue
            power = inputs[t.column] ** (-p[t.exponent])
            out[t.amplitude] = out[t.amplitude] + power
            out[t.exponent] = out[t.exponent] - p[t.amplitude] * power * np.log(inputs[t.column])
        return out

    def format(self, parameters: Mapping[str, float]) -> str:
        parts = []
        for t in self.terms:
            amplitude = f"{parameters[t.amplitude]:.4g}"
            if t.column is None:
                parts.append(amplitude)
            else:
                base = t.column if len(t.column) == 1 else f"({t.column})"
                parts.append(f"{amplitude} {base}^{-parameters[t.exponent or '']:.3g}")
        return f"{self.target} = " + " + ".join(parts)


class Power(SumLaw):
    """L = a x^-c (Kaplan et al. 2020, Eq. 1.1 with a = x_c^c)."""

    name = "power"
    formula = "a x^-c"
    source = "Kaplan et al. 2020, Eq. 1.1-1.3"
    color = "#0072B2"
    standard = True
    relatives = ("power_floor",)
    example = (9.0, 0.2)
    terms = (Term("a", "x", "c"),)
    signed_exponents = True


class PowerFloor(SumLaw):
    """L = E + a x^-c (Henighan et al. 2020, Eq. 1.1)."""

    name = "power_floor"
    formula = "E + a x^-c"
    source = "Henighan et al. 2020, Eq. 1.1"
    color = "#009E73"
    standard = True
    relatives = ("power", "shifted_power")
    example = (1.3, 9.0, 0.3)
    terms = (Term("E"), Term("a", "x", "c"))
    meanings: ClassVar[Mapping[str, str]] = {"E": "floor"}


class Joint(SumLaw):
    """L = E + A/N^alpha + B/D^beta (Hoffmann et al. 2022, Eq. 2)."""

    name = "joint"
    columns = ("N", "D")
    formula = "E + A/N^alpha + B/D^beta"
    source = "Hoffmann et al. 2022, Eq. 2"
    color = "#0072B2"
    standard = True
    separable = ("A", "B", "alpha", "beta")
    relatives = ("joint_tied",)
    example = (1.69, 406.4, 410.7, 0.34, 0.28)
    default_objective = "huber"
    terms = (Term("E"), Term("A", "N", "alpha"), Term("B", "D", "beta"))
    meanings: ClassVar[Mapping[str, str]] = {
        "E": "irreducible loss",
        "alpha": "exponent of N",
        "beta": "exponent of D",
    }


class JointTied(SumLaw):
    """L = E + A/N^alpha + B/D^alpha: Hoffmann's law with one exponent for both."""

    name = "joint_tied"
    columns = ("N", "D")
    formula = "E + A/N^alpha + B/D^alpha"
    source = "Hoffmann et al. 2022, Eq. 2 with alpha = beta"
    color = "#D55E00"
    standard = True
    separable = ("A", "B", "alpha", "alpha")
    example = (1.69, 406.4, 410.7, 0.3)
    default_objective = "huber"
    terms = (Term("E"), Term("A", "N", "alpha"), Term("B", "D", "alpha"))


class Overtrain(SumLaw):
    """L = E + a N^-eta + b (M N)^-eta with M = D/N (Gadre et al. 2024, Eq. 4 in N and M)."""

    name = "overtrain"
    columns = ("N", "D")
    formula = "E + a N^-eta + b (M N)^-eta, M = D/N"
    source = "Gadre et al. 2024, Eq. 4"
    separable = ("a", "b", "eta", "eta")
    example = (1.5, 100.0, 200.0, 0.3)
    default_objective = "huber"
    terms = (Term("E"), Term("a", "N", "eta"), Term("b", "MN", "eta"))

    def inputs(self, x: Columns) -> dict[str, Array]:
        multiplier = x["D"] / x["N"]
        return {"N": x["N"], "MN": multiplier * x["N"]}


class LearningCurve(SumLaw):
    """L(N, S) = E + A/N^alpha + B/S^beta over steps S (Kaplan et al. 2020, Eq. 1.6, and E)."""

    name = "learning_curve"
    columns = ("N", "S")
    formula = "E + A/N^alpha + B/S^beta"
    source = "Kaplan et al. 2020, Eq. 1.6, plus a floor E"
    example = (1.5, 100.0, 30.0, 0.3, 0.6)
    default_objective = "huber"
    terms = (Term("E"), Term("A", "N", "alpha"), Term("B", "S", "beta"))
