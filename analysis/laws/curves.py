"""Laws of one variable that are not sums of power terms."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from analysis.laws.law import Array, Columns, Law, Parameter


class LogLinear(Law):
    """L = a + b ln x: a straight line on a logarithmic axis (Radford et al. 2019, Fig. 4)."""

    name = "log_linear"
    formula = "a + b ln x"
    source = "Radford et al. 2019, Fig. 4 (shape)"
    color = "#D55E00"
    standard = True
    example = (5.0, -0.2)
    positive = False
    default_objective = "least_squares"
    parameters = (Parameter("a", positive=False), Parameter("b", positive=False))

    def value(self, p: Mapping[str, Any], x: Columns) -> Any:
        return p["a"] + p["b"] * np.log(x["x"])

    def gradient(self, p: Mapping[str, Any], x: Columns) -> dict[str, Any]:
        return {"a": np.ones_like(x["x"]), "b": np.log(x["x"])}

    def guesses(self, x: Columns, y: Array) -> dict[str, tuple[float, float]]:
        log_x = np.log(x["x"])
        spread = max(float(np.ptp(log_x)), 1e-12)
        slope = max(float(np.ptp(y)), 1e-12) / spread
        level = float(np.mean(y)) + slope * float(np.mean(log_x))
        return {"a": (float(np.mean(y)), level), "b": (-slope, 0.0)}

    def format(self, parameters: Mapping[str, float]) -> str:
        sign = "-" if parameters["b"] < 0 else "+"
        return f"{self.target} = {parameters['a']:.4g} {sign} {abs(parameters['b']):.3g} ln x"


class ShiftedPower(Law):
    """L = a (x + b)^-c + d: a power law that saturates at both ends (Cherti et al. 2023)."""

    name = "shifted_power"
    formula = "a (x + b)^-c + d"
    source = "Nezhurina et al. 2025; Cherti et al. 2023 with b = 0"
    color = "#CC79A7"
    example = (9.0, 40.0, 0.3, 0.2)
    parameters = (
        Parameter("a"),
        Parameter("b", meaning="shift of x"),
        Parameter("c", bounds=(1e-3, 5.0), guess=(0.05, 2.0)),
        Parameter("d", meaning="floor"),
    )

    def value(self, p: Mapping[str, Any], x: Columns) -> Any:
        return p["a"] * (x["x"] + p["b"]) ** (-p["c"]) + p["d"]

    def gradient(self, p: Mapping[str, Any], x: Columns) -> dict[str, Any]:
        moved = x["x"] + p["b"]
        power = moved ** (-p["c"])
        return {
            "a": power,
            "b": -p["a"] * p["c"] * power / moved,
            "c": -p["a"] * power * np.log(moved),
            "d": np.ones_like(power),
        }

    def starts(self, x: Columns, y: Array, count: int, seed: int) -> Array:
        # The amplitude of a start follows from its shift and exponent: match the data's middle.
        theta = super().starts(x, y, count, seed)
        p = self.decode(theta)
        middle = float(np.exp(np.mean(np.log(x["x"]))))
        level = np.maximum(float(np.median(y)) - p["d"], 0.05 * float(np.median(y)))
        theta[:, 0] = np.log(level) + p["c"] * np.log(middle + p["b"])
        return theta

    def guesses(self, x: Columns, y: Array) -> dict[str, tuple[float, float]]:
        lowest = float(np.min(y))
        return {
            "a": (0.1 * lowest, 10 * float(np.max(y))),
            "b": (1e-3 * float(np.min(x["x"])), float(np.median(x["x"]))),
            "c": (0.05, 2.0),
            "d": (1e-3 * lowest, 0.98 * lowest),
        }


class BrokenPower(Law):
    """Smoothly broken power law with n breaks (Caballero et al. 2023, Eq. 1).

    L = E + b x^-c0 prod_i (1 + (x/d_i)^(1/f_i))^(-c_i f_i); f_i is the sharpness of break i.
    """

    name = "broken_power"
    formula = "E + b x^-c0 prod_i (1 + (x/d_i)^(1/f_i))^(-c_i f_i)"
    source = "Caballero et al. 2023, Eq. 1"
    example = (0.4, 6.0, 0.1, 0.3, 3e3, 0.4)

    def __init__(self, breaks: int = 1) -> None:
        if breaks < 1:
            raise ValueError(f"breaks={breaks}: a broken power law has at least one break")
        self.breaks = breaks
        self.parameters = (
            Parameter("E", meaning="floor"),
            Parameter("b"),
            Parameter("c0", positive=False, bounds=(-2.0, 5.0), guess=(-0.1, 1.0)),
            *(
                q
                for i in range(1, breaks + 1)
                for q in (
                    Parameter(f"c{i}", positive=False, bounds=(-5.0, 5.0), guess=(-0.5, 1.0)),
                    Parameter(f"d{i}", meaning=f"position of break {i}"),
                    Parameter(f"f{i}", bounds=(0.02, 3.0), guess=(0.05, 1.0)),
                )
            ),
        )

    def value(self, p: Mapping[str, Any], x: Columns) -> Any:
        return p["E"] + np.exp(self._log_power(p, np.log(x["x"])))

    def _log_power(self, p: Mapping[str, Any], u: Array) -> Any:
        total = np.log(p["b"]) - p["c0"] * u
        for i in range(1, self.breaks + 1):
            z = (u - np.log(p[f"d{i}"])) / p[f"f{i}"]
            total = total - p[f"c{i}"] * p[f"f{i}"] * np.logaddexp(0.0, z)
        return total

    def gradient(self, p: Mapping[str, Any], x: Columns) -> dict[str, Any]:
        u = np.log(x["x"])
        power = np.exp(self._log_power(p, u))
        out: dict[str, Any] = {"E": np.ones_like(power), "b": power / p["b"], "c0": -power * u}
        for i in range(1, self.breaks + 1):
            c, d, f = p[f"c{i}"], p[f"d{i}"], p[f"f{i}"]
            z = (u - np.log(d)) / f
            soft = np.logaddexp(0.0, z)
            share = np.exp(z - soft)  # logistic(z)
            out[f"c{i}"] = -power * f * soft
            out[f"d{i}"] = power * c * share / d
            out[f"f{i}"] = -power * c * (soft - z * share)
        return out

    def guesses(self, x: Columns, y: Array) -> dict[str, tuple[float, float]]:
        ranges = super().guesses(x, y)
        lowest = float(np.min(y))
        ranges["E"] = (1e-3 * lowest, 0.98 * lowest)
        edges = np.geomspace(float(np.min(x["x"])), float(np.max(x["x"])), self.breaks + 1)
        for i in range(1, self.breaks + 1):
            ranges[f"d{i}"] = (float(edges[i - 1]), float(edges[i]))
        return ranges

    def starts(self, x: Columns, y: Array, count: int, seed: int) -> Array:
        theta = super().starts(x, y, count, seed)
        p = {k: v[:, None] for k, v in self.decode(theta).items()}
        middle = np.array([float(np.mean(np.log(x["x"])))])
        level = np.maximum(float(np.median(y)) - p["E"], 0.05 * float(np.median(y)))
        theta[:, 1] += (np.log(level) - self._log_power(p, middle))[:, 0]
        return theta


class ExpPower(Law):
    """Accuracy = exp(-a x^-c): ln(-ln accuracy) falls linearly in ln x.

    A bounded metric straight from compute, without a loss between them.
    """

    name = "exp_power"
    formula = "exp(-a x^-c)"
    source = "Krajewski et al. 2025 (direct law of downstream accuracy)"
    example = (3.0, 0.15)
    default_objective = "least_squares"
    target = "accuracy"
    parameters = (Parameter("a"), Parameter("c", bounds=(1e-3, 5.0), guess=(0.02, 1.0)))

    def value(self, p: Mapping[str, Any], x: Columns) -> Any:
        return np.exp(-p["a"] * x["x"] ** -p["c"])

    def gradient(self, p: Mapping[str, Any], x: Columns) -> dict[str, Any]:
        power = x["x"] ** -p["c"]
        value = np.exp(-p["a"] * power)
        return {"a": -value * power, "c": value * p["a"] * power * np.log(x["x"])}

    def starts(self, x: Columns, y: Array, count: int, seed: int) -> Array:
        # a follows from the exponent: the curve passes through the centre of the data.
        theta = super().starts(x, y, count, seed)
        typical = float(np.clip(np.median(y), 0.01, 0.99))
        log_x = float(np.mean(np.log(x["x"])))
        theta[:, 0] = np.log(-np.log(typical)) + self.decode(theta)["c"] * log_x
        return theta
