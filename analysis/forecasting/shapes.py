"""The laws that a forecast combines, as logarithms, with gradient, weak prior and starts.

A ladder without the runs to fix every parameter still needs an answer, so each parameter carries a
prior, wide enough that a few dozen good runs decide by themselves. Coordinates are logarithms
centred on the ladder; the floor E is a share sigmoid(t) of the lowest loss seen.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import expit

from analysis.laws.law import Array

Prior = tuple[float, float]  # mean and standard deviation

# Floor: half to nine tenths of the lowest loss. Exponents of single terms: 0.16 to 0.55; without a
# floor they are smaller, since the law must then bend by itself. Outer exponent: 0.3 to 1.2.
FLOOR: Prior = (1.0, 1.5)
EXPONENT: Prior = (np.log(0.3), 0.6)
EXPONENT_BARE: Prior = (np.log(0.12), 0.6)
OUTER: Prior = (np.log(0.6), 0.7)
OUTER_BARE: Prior = (np.log(0.3), 0.7)
CURVE_FLOOR: Prior = (0.0, 1.5)
CURVE_EXPONENT: Prior = (np.log(0.3), 0.7)
CURVE_EXPONENT_BARE: Prior = (np.log(0.15), 0.7)
BEND: Prior = (-2.0, 2.0)  # where a plateau ends, from the middle of the ladder
SHARPNESS: Prior = (0.0, 0.5)
AMPLITUDE_SD = 2.0


class Shape(ABC):
    """A law of one or two logarithmic coordinates with P parameters."""

    name: str
    formula: str
    priors: dict[str, Prior | float]  # a number: share of the mean loss, for an amplitude

    def prior(self, mean_loss: Array) -> tuple[Array, Array]:
        """Means (B, P) and standard deviations (P,) for ladders of these mean losses (B,)."""
        means, widths = [], []
        for value in self.priors.values():
            if isinstance(value, float):
                means.append(np.log(mean_loss * value))
                widths.append(AMPLITUDE_SD)
            else:
                means.append(np.full_like(mean_loss, value[0]))
                widths.append(value[1])
        return np.stack(means, axis=1), np.array(widths)

    def starts(self, mean_loss: Array) -> Array:
        """Starting points (B, S, P): the prior's middle and five places around it."""
        middle, _ = self.prior(mean_loss)
        steps = np.zeros((len(self.spread), middle.shape[1]))
        for j, name in enumerate(self.priors):
            steps[:, j] = [place.get(name, 0.0) for place in self.spread]
        return np.asarray(middle[:, None] + steps)

    spread: Sequence[dict[str, float]] = ({},)

    @abstractmethod
    def value(self, theta: Array, x: Array, lowest: Array) -> tuple[Array, Array]:
        """Log loss (B, n) and its gradient (B, n, P).

        Args:
            theta: (B, P).
            x: coordinates (k, n).
            lowest: lowest loss seen, (B,).
        """

    def _named(self, theta: Array) -> dict[str, Array]:
        return {name: theta[:, j, None] for j, name in enumerate(self.priors)}


@dataclass(frozen=True)
class Surface(Shape):
    """E + (A N^-(alpha/k) + B D^-(beta/k))^k: additive at k = 1, Kaplan's without E."""

    name: str
    formula: str
    floor: bool = True
    tied: bool = False
    additive: bool = False

    @property
    def priors(self) -> dict[str, Prior | float]:  # type: ignore[override]
        share, exponent = (1 / 3, EXPONENT) if self.floor else (1 / 1.5, EXPONENT_BARE)
        out: dict[str, Prior | float] = {"floor": FLOOR} if self.floor else {}
        out |= {"A": share, "B": share, "alpha": exponent}
        out |= {} if self.tied else {"beta": exponent}
        return out | ({} if self.additive else {"k": OUTER if self.floor else OUTER_BARE})

    spread = (
        {},
        {"floor": 1.2, "alpha": -0.7, "beta": 0.7, "k": -0.4},
        {"floor": -1.2, "alpha": 0.7, "beta": -0.7, "k": 0.4},
        {"floor": 1.8, "alpha": 0.5, "beta": 0.5, "k": -0.6},
        {"floor": -1.2, "alpha": -0.5, "beta": -0.5, "k": 0.4},
        {"alpha": 0.7, "beta": 0.7},
    )

    def value(self, theta: Array, x: Array, lowest: Array) -> tuple[Array, Array]:
        p = self._named(theta)
        u, v = x
        k = np.exp(p["k"]) if "k" in p else np.ones_like(p["A"])
        alpha = np.exp(p["alpha"])
        beta = np.exp(p.get("beta", p["alpha"]))
        by_n, by_d = (p["A"] - alpha * u) / k, (p["B"] - beta * v) / k
        inside = np.logaddexp(by_n, by_d)
        share = np.exp(by_n - inside)  # of the N term
        reducible = k * inside
        slope_n, slope_d = -share * alpha * u, -(1 - share) * beta * v
        gradient = {
            "A": share,
            "B": 1 - share,
            "alpha": slope_n + slope_d if self.tied else slope_n,
            "beta": slope_d,
            "k": k * (inside - share * by_n - (1 - share) * by_d),
        }
        return _with_floor(self, p, lowest, reducible, gradient)


@dataclass(frozen=True)
class Curve(Shape):
    """E + a (1 + (x/x0)^g)^(-c/g): a power law, with or without floor, plateau and sharpness g."""

    name: str
    formula: str
    floor: bool = True
    plateau: bool = False
    sharp: bool = False

    @property
    def priors(self) -> dict[str, Prior | float]:  # type: ignore[override]
        out: dict[str, Prior | float] = {"floor": CURVE_FLOOR} if self.floor else {}
        out |= {
            "A": 0.5 if self.floor else 1.0,
            "c": CURVE_EXPONENT if self.floor else CURVE_EXPONENT_BARE,
        }
        out |= {"bend": BEND} if self.plateau else {}
        return out | ({"sharpness": SHARPNESS} if self.sharp else {})

    spread = (
        {},
        {"floor": 1.2, "c": 0.7, "bend": 1.0},
        {"floor": -1.2, "c": -0.7},
        {"floor": 1.2, "c": 0.5, "bend": 2.5},
        {"floor": -1.2, "c": 0.7, "bend": 2.5},
        {"c": -0.7, "bend": -1.5},
    )

    def value(self, theta: Array, x: Array, lowest: Array) -> tuple[Array, Array]:
        p = self._named(theta)
        (z,) = x
        c = np.exp(p["c"])
        gradient = {"A": np.ones(np.broadcast_shapes(c.shape, z.shape))}
        if self.plateau:
            g = np.exp(p["sharpness"]) if self.sharp else 1.0
            way = g * (z - p["bend"])
            fall = np.logaddexp(0.0, way) / g
            past = expit(way)
            gradient |= {"bend": c * past, "sharpness": -c * (past * way / g - fall)}
        else:
            fall = z
        gradient["c"] = -c * fall
        return _with_floor(self, p, lowest, p["A"] - c * fall, gradient)


def _with_floor(
    shape: Shape, p: dict[str, Array], lowest: Array, reducible: Array, gradient: dict[str, Array]
) -> tuple[Array, Array]:
    """Log of floor plus reducible loss, both with gradients in the order of the parameters."""
    value, share = reducible, np.ones_like(reducible)
    if "floor" in p:
        seen = expit(p["floor"])
        value = np.logaddexp(np.log(lowest)[:, None] + np.log(seen), reducible)
        share = np.exp(reducible - value)
        gradient["floor"] = (1 - seen) * (1 - share)
    out = np.empty((*value.shape, len(shape.priors)))
    for j, name in enumerate(shape.priors):
        out[..., j] = gradient[name] * (1.0 if name == "floor" else share)
    return value, out


SURFACES: tuple[Shape, ...] = (
    Surface("additive", "E + A N^-a + B D^-b", additive=True),
    Surface("tied", "E + A N^-a + B D^-a", tied=True, additive=True),
    Surface("coupled_floor", "E + (A N^-a + B D^-b)^k"),
    Surface("tied_coupled_floor", "E + (A N^-a + B D^-a)^k", tied=True),
    Surface("coupled", "(A N^-a + B D^-b)^k", floor=False),
)
CURVES: tuple[Shape, ...] = (
    Curve("power_floor", "E + a x^-c"),
    Curve("power", "a x^-c", floor=False),
    Curve("shifted_floor", "E + a (1 + x/x0)^-c", plateau=True),
    Curve("shifted", "a (1 + x/x0)^-c", floor=False, plateau=True),
    Curve("broken_floor", "E + a (1 + (x/x0)^g)^(-c/g)", plateau=True, sharp=True),
    Curve("broken", "a (1 + (x/x0)^g)^(-c/g)", floor=False, plateau=True, sharp=True),
)
