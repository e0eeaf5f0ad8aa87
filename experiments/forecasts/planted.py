"""Ladders from known laws, whose own interval is the best there is."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pandas as pd
from scipy.optimize import least_squares
from scipy.stats import t as student

from experiments.forecasts.cases import Case, make_case, make_ladder

NOISES = (0.002, 0.005, 0.01)
GRIDS = ((5, 4), (6, 6), (8, 7))
SURFACES = ("additive", "tied", "kaplan", "outer")
CURVES = ("power", "power_floor")
FREE = {"additive": 5, "tied": 4, "kaplan": 4, "outer": 6, "power": 2, "power_floor": 3}


def law_of(name: str, p: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Log loss of a planted law; p holds logarithms of its parameters, x logarithms (k, n)."""
    if name == "power":
        return p[0] - np.exp(p[1]) * x[0]
    if name == "power_floor":
        return np.logaddexp(p[0], p[1] - np.exp(p[2]) * x[0])
    a, b, alpha = p[0], p[1], np.exp(p[2])
    beta = alpha if name == "tied" else np.exp(p[3])
    if name == "kaplan":
        return beta * np.logaddexp((a - alpha * x[0]) / beta, (b - beta * x[1]) / beta)
    k = np.exp(p[5]) if name == "outer" else 1.0
    inside = np.logaddexp((a - alpha * x[0]) / k, (b - beta * x[1]) / k)
    return np.logaddexp(p[3 if name == "tied" else 4], k * inside)


def draw(name: str, rng: np.random.Generator) -> np.ndarray:
    """Parameters, with coordinates in units of 1e8 parameters, 2e9 tokens, or 1e19 FLOPs."""
    log = np.log
    exponents = log(rng.uniform(0.25, 0.45, 2))
    a, b = log(rng.uniform(0.4, 1.0, 2))
    if name == "power":
        return np.array([log(rng.uniform(2.5, 4)), log(rng.uniform(0.03, 0.12))])
    if name == "power_floor":
        return np.array([log(rng.uniform(1.2, 2)), log(rng.uniform(0.6, 1.6)), exponents[0] - 0.5])
    if name == "kaplan":
        return np.array([log(2.2), log(2.4), log(0.076), log(0.095)])
    floor = log(rng.uniform(1.4, 2.0))
    tail = [exponents[0], floor] if name == "tied" else [*exponents, floor]
    return np.array([a, b, *tail, log(0.7)][: FREE[name]])


def planted_cases(count: int) -> Iterator[Case]:
    """Cases of both kinds in turn, asked 2 to 100 times beyond the ladder."""
    for seed in range(count):
        rng = np.random.default_rng(seed)
        yield plant(SURFACES[seed % 4], "surface", rng, seed)
        yield plant(CURVES[seed % 2], "curve", rng, seed)


def plant(name: str, kind: str, rng: np.random.Generator, seed: int) -> Case:
    noise = NOISES[rng.integers(len(NOISES))]
    if kind == "surface":
        sizes, ratios = GRIDS[rng.integers(len(GRIDS))]
        n = np.geomspace(1e7, 10 ** rng.uniform(8, 8.7), sizes)
        train = frame_of(np.repeat(n, ratios), np.tile(np.geomspace(5, 160, ratios), sizes))
        test = frame_of(np.repeat(n.max() * np.array([2, 3, 5, 8]), 3), np.tile([10, 20, 40], 4))
        test = test[test["C"] >= 2 * train["C"].max()]
    else:
        c = np.geomspace(1e17, 10 ** rng.uniform(19, 20.5), rng.integers(6, 13))
        train = pd.DataFrame({"C": c})
        test = pd.DataFrame({"C": c.max() * np.array([3, 6, 10, 20, 30, 100])})
    p = draw(name, rng)
    for frame in (train, test):
        frame["loss"] = np.exp(law_of(name, p, places(frame, kind)))
        frame["loss"] *= np.exp(noise * rng.standard_normal(len(frame)))
    case = make_case(f"planted {name}", str(seed), kind, f"{noise:g}", train, test)
    return replace(case, own=own_half_width(name, p, train, test, kind))


def frame_of(n: np.ndarray, ratio: np.ndarray) -> pd.DataFrame:
    return pd.DataFrame({"N": n, "D": n * ratio, "C": 6 * n**2 * ratio})


def places(frame: pd.DataFrame, kind: str) -> np.ndarray:
    if kind == "curve":
        return np.log(frame[["C"]].to_numpy(float).T / 1e19)
    return np.log(frame[["N", "D"]].to_numpy(float).T / [[1e8], [2e9]])


def own_half_width(
    name: str, p: np.ndarray, train: pd.DataFrame, test: pd.DataFrame, kind: str
) -> np.ndarray:
    """Half width in logs of the 95 % interval of a new run when the law is known but for p."""
    x, asked = places(train, kind), places(test, kind)
    y = make_ladder(train, kind).y
    found = least_squares(lambda q: law_of(name, q, x) - y, p)
    freedom = len(y) - FREE[name]
    variance = 2 * found.cost / freedom
    step = 1e-5 * np.eye(len(p))
    slope = np.array([law_of(name, found.x + s, asked) - law_of(name, found.x - s, asked)
                      for s in step]).T / 2e-5  # fmt: skip
    covariance = np.linalg.pinv(found.jac.T @ found.jac) * variance
    new = np.einsum("np,pq,nq->n", slope, covariance, slope) + variance
    return student.ppf(0.975, freedom) * np.sqrt(new)
