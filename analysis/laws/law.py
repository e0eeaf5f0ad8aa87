"""What a law is: named parameters, a value, a gradient and data-driven starts.

The fitter works in coordinates in which positive parameters are logarithms, so a law never sees a
negative amplitude. A law of your own needs `name`, `columns`, `formula`, `parameters` and `value`;
its gradient is then taken by complex step, exact to rounding (Squire & Trapp 1998), so `value`
must be made of analytic functions. `gradient` may be overridden by hand. What else is known of a
law (its color, the closed form of its optimum, whether reports fit it) stands on its class.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from scipy.stats import qmc

Array = NDArray[np.float64]
Rows = NDArray[np.intp]
Columns = Mapping[str, Array]


@dataclass(frozen=True)
class Parameter:
    """One parameter of a law."""

    name: str
    positive: bool = True  # fitted as its logarithm; 0 is the natural bound
    guess: tuple[float, float] = (1e-2, 1e2)  # range of starts (log-spaced when positive)
    bounds: tuple[float, float] = (-np.inf, np.inf)  # in natural units; search never leaves it
    meaning: str = ""


class Law(ABC):
    """A named function of columns and parameters."""

    name: ClassVar[str] = ""
    columns: ClassVar[tuple[str, ...]] = ("x",)
    formula: ClassVar[str] = ""
    source: ClassVar[str] = ""
    positive: ClassVar[bool] = True  # predictions are positive, so log residuals make sense
    default_objective: ClassVar[str] = "log_least_squares"
    target: ClassVar[str] = "L"  # symbol of what is predicted, for formulas
    color: ClassVar[str] = "#555555"  # in figures
    standard: ClassVar[bool] = False  # fitted by every report, and by the fan of a forecast
    # A, B, alpha, beta by name, where the best N and D are those of A/N^alpha + B/D^beta.
    separable: ClassVar[tuple[str, ...]] = ()
    relatives: ClassVar[tuple[str, ...]] = ()  # laws that `sensitivity` tries in its place
    example: ClassVar[tuple[float, ...]] = ()  # plausible parameters, in their order
    parameters: tuple[Parameter, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(p.name for p in self.parameters)

    @abstractmethod
    def value(self, p: Mapping[str, Any], x: Columns) -> Any:
        """Predictions; `p` holds arrays (S, 1) in natural units, `x` arrays (n,) -> (S, n)."""

    def gradient(self, p: Mapping[str, Any], x: Columns) -> dict[str, Any]:
        """Derivative of `value` by each natural parameter, each (S, n). Default: complex step."""
        step = 1e-30
        return {
            name: np.imag(self.value({**p, name: p[name] + 1j * step}, x)) / step
            for name in self.names
        }

    def value_and_gradient(self, p: Mapping[str, Any], x: Columns) -> tuple[Any, dict[str, Any]]:
        """Both at once; override where they share most of their work."""
        return self.value(p, x), self.gradient(p, x)

    def guesses(self, x: Columns, y: Array) -> dict[str, tuple[float, float]]:
        """Ranges of starting values by name (natural units); override to use the data."""
        return {p.name: p.guess for p in self.parameters}

    def middle(self) -> dict[str, float]:
        """Natural parameters in the middle of their guessed ranges."""
        return {
            p.name: float(np.sqrt(p.guess[0] * p.guess[1]) if p.positive else np.mean(p.guess))
            for p in self.parameters
        }

    # -- coordinates ------------------------------------------------------------------------

    def encode(self, natural: Mapping[str, float]) -> Array:
        """Natural parameters -> internal coordinates (P,)."""
        tiny = np.finfo(float).tiny
        values = [(p.positive, natural[p.name]) for p in self.parameters]
        return np.array([np.log(max(v, tiny)) if positive else v for positive, v in values], float)

    def decode(self, theta: Array) -> dict[str, Array]:
        """Internal coordinates (..., P) -> natural parameters, each (...)."""
        return {
            p.name: np.exp(theta[..., j]) if p.positive else theta[..., j]
            for j, p in enumerate(self.parameters)
        }

    def bounds(self, x: Columns, y: Array) -> tuple[Array, Array]:
        """Search box in internal coordinates, each (P,)."""
        low, high = np.empty(len(self.parameters)), np.empty(len(self.parameters))
        for j, p in enumerate(self.parameters):
            a, b = p.bounds
            if p.positive:
                low[j] = np.log(a) if a > 0 else -200.0
                high[j] = np.log(b) if np.isfinite(b) else 300.0
            else:
                low[j], high[j] = a, b
        return low, high

    def evaluate(self, theta: Array, x: Columns) -> Array:
        """Predictions at internal coordinates (S, P) -> (S, n)."""
        p = {name: v[:, None] for name, v in self.decode(theta).items()}
        n = len(next(iter(x.values())))
        return np.broadcast_to(np.asarray(self.value(p, x), dtype=float), (len(theta), n))

    def jacobian(self, theta: Array, x: Columns) -> tuple[Array, Array]:
        """Predictions (S, n) and their derivatives by internal coordinates (S, n, P)."""
        p = {name: v[:, None] for name, v in self.decode(theta).items()}
        n = len(next(iter(x.values())))
        shape = (len(theta), n)
        value, gradient = self.value_and_gradient(p, x)
        jac = np.empty((*shape, len(self.parameters)))
        for j, parameter in enumerate(self.parameters):
            d = gradient[parameter.name]
            jac[..., j] = d * p[parameter.name] if parameter.positive else d
        return np.broadcast_to(np.asarray(value, dtype=float), shape), jac

    def starts(self, x: Columns, y: Array, count: int, seed: int) -> Array:
        """Low-discrepancy starts inside the guessed ranges, internal coordinates (count, P)."""
        ranges = self.guesses(x, y)
        low, high = np.empty(len(self.names)), np.empty(len(self.names))
        for j, p in enumerate(self.parameters):
            a, b = ranges[p.name]
            low[j], high[j] = (np.log(a), np.log(b)) if p.positive else (a, b)
        unit = qmc.Sobol(len(self.names), seed=seed).random(1 << max(count - 1, 1).bit_length())
        return np.asarray(low + unit[:count] * (high - low))

    # -- for people -------------------------------------------------------------------------

    def predict(self, x: Columns, parameters: Mapping[str, float]) -> Array:
        """Predictions at natural parameters, (n,); zero amplitudes are allowed."""
        columns = {c: np.asarray(x[c], dtype=float) for c in self.columns}
        p = {name: np.array([[float(parameters[name])]]) for name in self.names}
        n = len(next(iter(columns.values())))
        value = np.asarray(self.value(p, columns), dtype=float)
        return np.array(np.broadcast_to(value, (1, n))[0], dtype=float)

    def format(self, parameters: Mapping[str, float]) -> str:
        """The formula with numbers in it."""
        inside = ", ".join(f"{k} = {v:.4g}" for k, v in parameters.items())
        return f"{self.target} = {self.formula},  {inside}"
