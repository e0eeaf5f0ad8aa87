"""Joint laws of N and D that do not separate into a sum."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from analysis.laws.law import Array, Columns, Law, Parameter

# Parameters of Hoffmann et al. 2022, Eq. 2, and an example of them.
HOFFMANN = (
    Parameter("E", meaning="irreducible loss"),
    Parameter("A"),
    Parameter("B"),
    Parameter("alpha", bounds=(1e-3, 5.0), guess=(0.1, 1.0)),
    Parameter("beta", bounds=(1e-3, 5.0), guess=(0.1, 1.0)),
)
EXAMPLE = (1.7, 400.0, 1200.0, 0.35, 0.36)


class ExtendedHoffmann(Law):
    """A law with HOFFMANN among its parameters."""

    columns: ClassVar[tuple[str, ...]] = ("N", "D")
    default_objective = "huber"

    def starts(self, x: Columns, y: Array, count: int, seed: int) -> Array:
        """Floors are drawn; the terms of N and D share what is left of a typical loss at the center
        of the data."""
        theta = super().starts(x, y, count, seed)
        p = self.decode(theta)
        lowest, middle = float(np.min(y)), float(np.median(y))
        rng = np.random.default_rng(seed)
        floor = lowest * rng.uniform(0.1, 0.98, size=len(theta))
        share = rng.uniform(0.1, 0.9, size=len(theta))
        inside = np.log(np.maximum(middle - floor, 0.02 * middle)) / p.get("k", 1.0)
        theta[:, 0] = np.log(floor)
        theta[:, 1] = np.log(share) + inside + p["alpha"] * float(np.mean(np.log(x["N"])))
        theta[:, 2] = np.log1p(-share) + inside + p["beta"] * float(np.mean(np.log(x["D"])))
        return theta


class Kaplan(Law):
    """L = [(N_c/N)^(alpha_N/alpha_D) + D_c/D]^alpha_D (Kaplan et al. 2020, Eq. 1.5).

    Fitted as its logarithm, a soft maximum of two straight lines. No floor: it goes to zero.
    """

    name = "kaplan"
    columns = ("N", "D")
    formula = "[(N_c/N)^(alpha_N/alpha_D) + D_c/D]^alpha_D"
    source = "Kaplan et al. 2020, Eq. 1.5"
    color = "#009E73"
    standard = True
    example: ClassVar[tuple[float, ...]] = (8.8e13, 5.4e13, 0.076, 0.095)
    default_objective = "huber"
    parameters: tuple[Parameter, ...] = (
        Parameter("N_c"),
        Parameter("D_c"),
        Parameter("alpha_N", bounds=(1e-3, 5.0), guess=(0.02, 1.0)),
        Parameter("alpha_D", bounds=(1e-3, 5.0), guess=(0.02, 1.0)),
    )

    def _parts(self, p: Mapping[str, Any], x: Columns) -> tuple[Any, Any, Any]:
        with np.errstate(divide="ignore"):  # a term whose scale is 0 is not there
            u = (p["alpha_N"] / p["alpha_D"]) * (np.log(p["N_c"]) - np.log(x["N"]))
            v = np.log(p["D_c"]) - np.log(x["D"])
        return u, v, np.logaddexp(u, v)

    def value(self, p: Mapping[str, Any], x: Columns) -> Any:
        return np.exp(p["alpha_D"] * self._parts(p, x)[2])

    def gradient(self, p: Mapping[str, Any], x: Columns) -> dict[str, Any]:
        u, v, total = self._parts(p, x)
        value = np.exp(p["alpha_D"] * total)
        share = np.exp(u - total)  # of the N term
        return {
            "N_c": value * p["alpha_N"] * share / p["N_c"],
            "D_c": value * p["alpha_D"] * np.exp(v - total) / p["D_c"],
            "alpha_N": value * p["alpha_D"] * share * u / p["alpha_N"],
            "alpha_D": value * (total - share * u),
        }

    def starts(self, x: Columns, y: Array, count: int, seed: int) -> Array:
        return self._placed(super().starts(x, y, count, seed), x, float(np.mean(np.log(y))), seed)

    def _placed(self, theta: Array, x: Columns, level: Any, seed: int) -> Array:
        """N_c and D_c of a start follow from its exponents: each term explains a share of the
        typical logarithm of the loss, `level`, at the centre of the data."""
        p = self.decode(theta)
        log_n, log_d = float(np.mean(np.log(x["N"]))), float(np.mean(np.log(x["D"])))
        share = np.random.default_rng(seed).uniform(0.1, 0.9, size=len(theta))
        inside = level / p["alpha_D"]
        theta[:, 0] = log_n + (inside + np.log(share)) * p["alpha_D"] / p["alpha_N"]
        theta[:, 1] = log_d + inside + np.log1p(-share)
        return theta


class KaplanFloor(Kaplan):
    """L = E + [(N_c/N)^(alpha_N/alpha_D) + D_c/D]^alpha_D: Kaplan's law above a floor."""

    name = "kaplan_floor"
    formula = "E + [(N_c/N)^(alpha_N/alpha_D) + D_c/D]^alpha_D"
    source = "Kaplan et al. 2020, Eq. 1.5, plus a floor E"
    color = Law.color
    standard = False
    example = (1e13, 2e13, 0.08, 0.1, 1.1)
    parameters = (*Kaplan.parameters, Parameter("E", meaning="floor"))

    def value(self, p: Mapping[str, Any], x: Columns) -> Any:
        return p["E"] + super().value(p, x)

    def gradient(self, p: Mapping[str, Any], x: Columns) -> dict[str, Any]:
        coupled = super().gradient(p, x)
        return {**coupled, "E": np.ones_like(coupled["N_c"])}

    def starts(self, x: Columns, y: Array, count: int, seed: int) -> Array:
        theta = Law.starts(self, x, y, count, seed)
        floor = float(np.min(y)) * np.random.default_rng(seed + 1).uniform(0.05, 0.98, size=count)
        theta[:, 4] = np.log(floor)
        return self._placed(theta, x, np.log(np.median(y) - floor), seed)


class JointOuter(ExtendedHoffmann):
    """L = E + (A/N^alpha + B/D^beta)^k: the joint law with an outer exponent.

    k = 1 is Hoffmann's law; beta = 1 is Kaplan's above a floor, with k = alpha_D.
    """

    name = "joint_outer"
    formula = "E + (A/N^alpha + B/D^beta)^k"
    source = "OpenEuroLLM dense English scaling laws 2026 (generalizes Hoffmann et al. 2022, Eq. 2)"
    separable = ("A", "B", "alpha", "beta")  # it rises with what is inside
    example = (1.07, 900.0, 4e4, 0.4, 0.5, 0.4)
    parameters = (
        *HOFFMANN,
        Parameter("k", bounds=(0.02, 20.0), guess=(0.2, 2.0), meaning="outer exponent"),
    )

    def value(self, p: Mapping[str, Any], x: Columns) -> Any:
        u, v = _log_terms(p, x)
        return p["E"] + np.exp(p["k"] * np.logaddexp(u, v))

    def gradient(self, p: Mapping[str, Any], x: Columns) -> dict[str, Any]:
        u, v = _log_terms(p, x)
        total = np.logaddexp(u, v)
        reducible = np.exp(p["k"] * total)
        by_u = reducible * p["k"] * np.exp(u - total)
        by_v = reducible * p["k"] * np.exp(v - total)
        return {
            "E": np.ones_like(reducible),
            "A": by_u / p["A"],
            "B": by_v / p["B"],
            "alpha": -by_u * np.log(x["N"]),
            "beta": -by_v * np.log(x["D"]),
            "k": reducible * total,
        }


def _log_terms(p: Mapping[str, Any], x: Columns) -> tuple[Any, Any]:
    with np.errstate(divide="ignore"):  # an amplitude of zero is a term that is not there
        log_a, log_b = np.log(p["A"]), np.log(p["B"])
    return log_a - p["alpha"] * np.log(x["N"]), log_b - p["beta"] * np.log(x["D"])


class RepeatPenalty(ExtendedHoffmann):
    """L = E + A/N^alpha + B/D^beta + P R^rho with R = max(D/U - 1, 0) repetitions.

    D counts every token read, repeated or not; what repeating costs is one term beside the law of
    fresh data, so its coefficient compares recipes. Fix rho to have one number.
    """

    name = "repeat_penalty"
    columns = ("N", "D", "U")
    formula = "E + A/N^alpha + B/D^beta + P max(D/U - 1, 0)^rho"
    source = "after Lovelace et al. 2026 (an additive penalty on repetition)"
    example = (*EXAMPLE, 0.01, 1.2)
    parameters = (
        *HOFFMANN,
        Parameter("P", guess=(1e-3, 0.1), meaning="penalty of one repetition"),
        Parameter("rho", bounds=(0.1, 5.0), guess=(0.5, 2.0), meaning="exponent of repetition"),
    )

    def _penalty(self, p: Mapping[str, Any], x: Columns) -> tuple[Any, Any]:
        """R^rho and its logarithmic slope in rho; 0 without repetition."""
        repeats = np.maximum(x["D"] / x["U"] - 1.0, 0.0)
        log_repeats = np.log(np.where(repeats > 0, repeats, 1.0))
        power = np.where(repeats > 0, np.exp(p["rho"] * log_repeats), 0.0)
        return power, power * log_repeats

    def value(self, p: Mapping[str, Any], x: Columns) -> Any:
        fresh = p["A"] * x["N"] ** -p["alpha"] + p["B"] * x["D"] ** -p["beta"]
        return p["E"] + fresh + p["P"] * self._penalty(p, x)[0]

    def gradient(self, p: Mapping[str, Any], x: Columns) -> dict[str, Any]:
        n_term, d_term = x["N"] ** -p["alpha"], x["D"] ** -p["beta"]
        power, slope = self._penalty(p, x)
        return {
            "E": np.ones_like(n_term * d_term),
            "A": n_term,
            "B": d_term,
            "alpha": -p["A"] * n_term * np.log(x["N"]),
            "beta": -p["B"] * d_term * np.log(x["D"]),
            "P": power,
            "rho": p["P"] * slope,
        }


class DataConstrained(ExtendedHoffmann):
    """L = E + A/N'^alpha + B/D'^beta with repeated data (Muennighoff et al. 2023, Eq. 5-7).

    D' = U_D + U_D R*_D (1 - exp(-R_D/R*_D)), R_D = D/U_D - 1 repetitions of U_D unique tokens;
    N' likewise with U_N = min(N, N_opt(U_D)), the size that U_D unique tokens can feed.
    """

    name = "data_constrained"
    columns = ("N", "D", "U")
    formula = "E + A/N'^alpha + B/D'^beta, N'(N, U; R_N), D'(D, U; R_D)"
    source = "Muennighoff et al. 2023, Eq. 5-7"
    example = (*EXAMPLE, 15.4, 5.3)
    parameters = (
        *HOFFMANN,
        Parameter("R_D", bounds=(1e-2, 1e6), guess=(1.0, 100.0), meaning="half-life of repeats"),
        Parameter("R_N", bounds=(1e-2, 1e6), guess=(1.0, 100.0), meaning="half-life of excess N"),
    )

    @staticmethod
    def _effective(unique: Any, amount: Any, rate: Any) -> tuple[Any, Any, Any]:
        """What `amount` is worth when only `unique` of it is new, with the decay exp(-R/rate) and
        the number of repetitions R."""
        excess = np.maximum(amount / unique - 1.0, 0.0)
        decay = np.exp(-excess / rate)
        return unique * (1.0 + rate * (1.0 - decay)), decay, excess

    def _parts(self, p: Mapping[str, Any], x: Columns) -> dict[str, Any]:
        alpha, beta = p["alpha"], p["beta"]
        unique_d = np.minimum(x["U"], x["D"])
        d, decay_d, excess_d = self._effective(unique_d, x["D"], p["R_D"])
        with np.errstate(divide="ignore"):  # an amplitude of zero has its optimum at an end
            log_ab = np.log(p["A"]) - np.log(p["B"])
        log_g = (np.log(alpha) - np.log(beta) + log_ab) / (alpha + beta)
        # The size at which U_D is the compute-optimal number of tokens: G (G U_D)^(beta/alpha).
        log_optimal = log_g + (beta / alpha) * (log_g + np.log(unique_d))
        log_n = np.log(x["N"])
        fed = log_optimal < log_n  # sizes beyond what the unique data can feed
        unique_n = np.exp(np.where(fed, log_optimal, log_n))
        n, decay_n, excess_n = self._effective(unique_n, x["N"], p["R_N"])
        return {
            "unique_d": unique_d, "d": d, "decay_d": decay_d, "excess_d": excess_d,
            "log_g": log_g, "log_gu": log_g + np.log(unique_d), "fed": fed,
            "unique_n": unique_n, "n": n, "decay_n": decay_n, "excess_n": excess_n,
        }  # fmt: skip

    def value(self, p: Mapping[str, Any], x: Columns) -> Any:
        parts = self._parts(p, x)
        return p["E"] + p["A"] * parts["n"] ** -p["alpha"] + p["B"] * parts["d"] ** -p["beta"]

    def gradient(self, p: Mapping[str, Any], x: Columns) -> dict[str, Any]:
        return self.value_and_gradient(p, x)[1]

    def value_and_gradient(self, p: Mapping[str, Any], x: Columns) -> tuple[Any, dict[str, Any]]:
        q = self._parts(p, x)
        a, b, alpha, beta = p["A"], p["B"], p["alpha"], p["beta"]
        n_term, d_term = q["n"] ** -alpha, q["d"] ** -beta
        by_n, by_d = -alpha * a * n_term / q["n"], -beta * b * d_term / q["d"]
        # N' moves with the amplitudes and exponents through log U_N, where data limit the size.
        unique_share = 1 + p["R_N"] * (1 - q["decay_n"]) - q["decay_n"] * x["N"] / q["unique_n"]
        by_log_unique = by_n * np.where(q["fed"], unique_share * q["unique_n"], 0.0)
        total, ratio = alpha + beta, 1 + beta / alpha
        by_log_g = {"A": 1 / (a * total), "B": -1 / (b * total),
                    "alpha": (1 / alpha - q["log_g"]) / total,
                    "beta": (-1 / beta - q["log_g"]) / total}  # fmt: skip

        def rate(decay: Any, excess: Any, r: Any) -> Any:
            return 1 - decay - (excess / r) * decay

        return p["E"] + a * n_term + b * d_term, {
            "E": 1.0,
            "A": n_term + by_log_unique * ratio * by_log_g["A"],
            "B": d_term + by_log_unique * ratio * by_log_g["B"],
            "alpha": -a * n_term * np.log(q["n"])
            + by_log_unique * (ratio * by_log_g["alpha"] - beta / alpha**2 * q["log_gu"]),
            "beta": -b * d_term * np.log(q["d"])
            + by_log_unique * (ratio * by_log_g["beta"] + q["log_gu"] / alpha),
            "R_D": by_d * q["unique_d"] * rate(q["decay_d"], q["excess_d"], p["R_D"]),
            "R_N": by_n * q["unique_n"] * rate(q["decay_n"], q["excess_n"], p["R_N"]),
        }
