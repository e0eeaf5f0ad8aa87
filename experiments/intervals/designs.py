"""Planted data sets with a known law: single runs, branches of trunks, checkpoints, seeds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from analysis import get_law

LAWS: dict[str, dict[str, float]] = {
    "power": {"a": 9.0, "c": 0.1},
    "power_floor": {"E": 1.7, "a": 60.0, "c": 0.3},
    "joint": {"E": 1.2, "A": 60.0, "B": 300.0, "alpha": 0.40, "beta": 0.38},
}


@dataclass(frozen=True)
class Design:
    """Where runs are placed, and how their noise hangs together."""

    label: str
    law: str
    places: Mapping[str, np.ndarray]  # column -> (n,)
    trunk: np.ndarray  # (n,) which of them share an error
    noise: float  # standard deviation of a run, in log units
    share: float = 0.0  # of the variance, common to a trunk
    seed: np.ndarray | None = None  # (n,) where places are repeated
    objective: str = "log_least_squares"

    @property
    def truth(self) -> dict[str, float]:
        return LAWS[self.law]

    def draw(self, rng: np.random.Generator) -> pd.DataFrame:
        """One data set: columns of the law, `metric`, `trunk_id` and, with repeats, `seed`."""
        common = rng.standard_normal(int(self.trunk.max()) + 1)[self.trunk]
        own = rng.standard_normal(len(self.trunk))
        error = self.noise * (np.sqrt(self.share) * common + np.sqrt(1 - self.share) * own)
        frame = pd.DataFrame(dict(self.places))
        if self.seed is not None:
            frame["seed"] = self.seed
        value = get_law(self.law).predict(self.places, self.truth)
        return frame.assign(trunk_id=self.trunk, metric=value * np.exp(error))


def line(label: str, law: str, sizes: int, noise: float, seeds: int = 1, each: int = 1) -> Design:
    """Sizes x seeds over four decades, each run measured `each` times; 80 % of the variance of a
    run measured several times is its own."""
    x = np.repeat(np.geomspace(1e5, 1e9, sizes), seeds * each)
    seed = np.tile(np.repeat(np.arange(seeds), each), sizes) if seeds > 1 else None
    run = np.repeat(np.arange(sizes * seeds), each)
    return Design(label, law, {"x": x}, run, noise, 0.8 if each > 1 else 0.0, seed)


def curves(label: str, runs: int, budgets: int) -> Design:
    """One size, several runs of it with a branch at every budget; x is the data."""
    x = np.tile(np.geomspace(1e6, 1e8, budgets), runs)
    trunk = np.repeat(np.arange(runs), budgets)
    return Design(label, "power", {"x": x}, trunk, 0.01, 0.36, trunk)


def grid(
    label: str,
    sizes: int,
    budgets: int,
    seeds: int = 1,
    share: float | None = None,
    objective: str = "log_least_squares",
) -> Design:
    """Sizes x budgets x seeds for the joint law: runs of their own, or, with a `share` of the
    variance in common, branches of one trunk per size and seed."""
    n = np.repeat(np.geomspace(2e4, 2e6, sizes), budgets * seeds)
    d = np.tile(np.geomspace(1e6, 1.6e7, budgets), sizes * seeds)
    seed = np.tile(np.repeat(np.arange(seeds), budgets), sizes) if seeds > 1 else None
    alone = np.arange(n.size)
    trunk = alone if share is None else alone // budgets
    return Design(label, "joint", {"N": n, "D": d}, trunk, 0.004, share or 0.0, seed, objective)


SINGLE = (
    line("power, 8 runs", "power", 8, 0.01),
    line("power with floor, 12 runs", "power_floor", 12, 0.005),
    line("power with floor, 30 runs", "power_floor", 30, 0.01),
    grid("joint, 5 x 5 runs", 5, 5),
    grid("joint, 8 x 6 runs", 8, 6),
)
CLUSTERED = (
    grid("joint, 5 trunks x 5, share 0", 5, 5, share=0.0),
    grid("joint, 5 trunks x 5, share 0.36", 5, 5, share=0.36),
    grid("joint, 5 trunks x 5, share 0.8", 5, 5, share=0.8),
    grid("joint, 5 sizes x 2 seeds x 5, share 0.36", 5, 5, share=0.36, seeds=2),
    grid("joint, 12 trunks x 5, share 0.36", 12, 5, share=0.36),
    grid("joint, 30 trunks x 5, share 0.36", 30, 5, share=0.36),
    line("power, 6 runs x 6", "power", 6, 0.02, each=6),
    line("power, 40 runs x 6", "power", 40, 0.02, each=6),
    line("power with floor, 10 runs x 4", "power_floor", 10, 0.01, each=4),
)
SIZES_BY_SEEDS = ((2, 2), (3, 2), (4, 3), (6, 5))
REPEATED = (
    *(line(f"power, {k} x {s} seeds", "power", k, 0.01, s) for k, s in SIZES_BY_SEEDS),
    *(line(f"power, {k} x {s} seeds x 4", "power", k, 0.02, s, 4) for k, s in SIZES_BY_SEEDS),
    *(curves(f"power, {t} trunks x {b}", t, b) for t, b in SIZES_BY_SEEDS),
    *(
        line(f"power with floor, {k} x {s} seeds", "power_floor", k, 0.005, s)
        for k, s in SIZES_BY_SEEDS[1:]
    ),
    line("power with floor, 4 x 3 seeds x 4", "power_floor", 4, 0.01, 3, 4),
    grid("joint, 4 x 3 x 2 seeds", 4, 3, 2),
    grid("joint, 4 x 2 trunks x 3", 4, 3, 2, share=0.36),
    grid("joint, 6 x 2 trunks x 5", 6, 5, 2, share=0.36),
    grid("joint, 6 x 5 x 2 seeds, Huber", 6, 5, 2, objective="huber"),
)
METHODS = ("rows", "residual", "parametric", "profile", "delta")
