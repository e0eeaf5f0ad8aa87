"""R2 at the targets of a public benchmark, of laws fitted to the runs chosen within a budget.

    python -m experiments.next_runs.bench FOLDER

FOLDER is a checkout of the benchmark (README): its tables and laws are read, not copied.
"""

from __future__ import annotations

import argparse
import itertools
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from analysis.forecasting.choice import Pool, choose_runs, fit_law
from analysis.laws.law import Array, Columns, Law, Parameter

AT_ONCE = 0.2  # of the runs there are: as many are chosen between two fits
FIRST, FIRST_SHARE = 2.5, 0.02  # cheapest runs for a parameter; of the whole cost
SEEDS = 1
DESIGNS = ("ours", "random", "all")
TASKS = (
    "farseer", "sparsity", "parallel", "moe", "data_constrained", "vocab", "domain_mixture",
    "lr_bsz",
)  # fmt: skip


class BenchmarkLaw(Law):
    """A law of the benchmark: a function that gives values and slopes, and its search box."""

    name, positive = "benchmark", False
    columns: tuple[str, ...]  # type: ignore[misc]

    def __init__(self, function: Any, box: list[tuple[float, float]], names: list[str]) -> None:
        self.function = function
        self.columns = (*names, "output")
        self.parameters = tuple(
            Parameter(f"p{i}", ends[0] > 0, ends, ends) for i, ends in enumerate(box)
        )

    def value_and_gradient(self, p: Any, x: Columns) -> tuple[Any, dict[str, Any]]:
        theta = np.concatenate([p[name] for name in self.names], axis=1)
        places = np.stack([x[c] for c in self.columns[:-1]], axis=1)
        value, slopes = self.function(theta, places, backend="numpy")
        value = value.reshape(len(theta), len(places), -1)
        slopes = slopes.reshape(*value.shape, -1)
        at = np.arange(len(places)), x["output"].astype(int)  # a law of five losses has five rows
        value, slopes = value[:, *at], slopes[:, *at]
        return value, {name: slopes[..., j] for j, name in enumerate(self.names)}

    def value(self, p: Any, x: Columns) -> Any:
        return self.value_and_gradient(p, x)[0]


def columns_of(law: Law, places: Array, each: int) -> Columns:
    """Rows of all outputs, one place after the other."""
    values = np.repeat(places, each, axis=0).T
    outputs = np.tile(np.arange(each), len(places)).astype(float)
    return dict(zip(law.columns, [*values, outputs], strict=True))


class Ladder:
    """Candidates of one group of one task, and what has been chosen of them."""

    def __init__(self, law: Law, group: Any, seed: int) -> None:
        self.law, self.seed = law, seed
        self.y = group.y_train.reshape(len(group.y_train), -1)  # (C, R)
        self.x = columns_of(law, group.X_train, self.y.shape[1])
        self.pool = Pool(
            self.x, group.cost_train, columns_of(law, group.X_test, self.y.shape[1])
        )  # fmt: skip
        self.chosen = np.zeros(len(self.y), dtype=bool)
        self.known: Array | None = None

    def spent(self) -> float:
        return float(self.pool.price[self.chosen].sum() / self.pool.price.sum())

    def fit(self) -> Any:
        rows = np.repeat(self.chosen, self.y.shape[1])
        self.seen = {c: v[rows] for c, v in self.x.items()}
        fits = fit_law(self.law, self.seen, self.y[self.chosen].ravel(), self.seed, self.known)
        self.known = fits.theta
        return fits

    def start(self) -> None:
        count = int(FIRST * len(self.law.parameters) / self.y.shape[1])
        for run in np.argsort(self.pool.price, kind="stable")[:count]:
            share = self.spent() + self.pool.price[run] / self.pool.price.sum()
            self.chosen[run] = share <= FIRST_SHARE or not self.chosen.any()

    def spend(self, share: float) -> None:
        """Choose until a share of the whole cost is spent, with a fit after every few runs."""
        while True:
            left = (share - self.spent()) * self.pool.price.sum()
            most = max(1, int(AT_ONCE * self.chosen.sum()))
            choice = choose_runs(
                self.law, self.fit(), self.seen, self.pool, left, ~self.chosen, most=most
            )
            if not choice.runs:
                return
            self.chosen[list(choice.runs)] = True

    def draw(self, share: float) -> None:
        left = share * self.pool.price.sum()
        self.chosen[:], self.known = False, None
        for run in np.random.default_rng(self.seed).permutation(len(self.y)):
            if self.pool.price[run] <= left:
                self.chosen[run] = True
                left -= self.pool.price[run]

    def predicted(self) -> Array:
        if not self.chosen.any():
            return np.full(len(self.pool.targets["output"]), np.nan)
        theta = self.fit().theta[:1]
        return self.law.evaluate(theta, self.pool.targets)[0]


def r2(value: Array, predicted: Array) -> float:
    error = np.sum((value - predicted) ** 2) / np.sum((value - value.mean()) ** 2)
    return float(np.clip(1 - error, -1, 1)) if np.isfinite(error) else -1.0


def measure(task: Any, names: list[str], design: str, seed: int) -> list[float]:
    """R2 of one law at each budget, the groups of a task together."""
    shares = task.budget_checkpoints or [0.01, 0.05, 0.1]
    law = BenchmarkLaw(task.model_fn._fn, task.param_bounds, names)
    found: list[list[Array]] = [[] for _ in shares]
    for group in task.groups:
        ladder = Ladder(law, group, seed)
        if design == "all":
            ladder.chosen[:] = True
            predicted = ladder.predicted()
            found = [[*f, predicted] for f in found]
            continue
        ladder.start()
        for i, share in enumerate(shares):
            ladder.draw(share) if design == "random" else ladder.spend(share)
            found[i].append(ladder.predicted())
    value = np.concatenate([g.y_test.ravel() for g in task.groups])
    return [r2(value, np.concatenate(f)) for f in found]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--tasks", nargs="*", default=TASKS)
    parser.add_argument("--designs", nargs="*", default=DESIGNS)
    parser.add_argument("--seeds", type=int, default=SEEDS)
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("results.csv"))
    args = parser.parse_args()
    sys.path.insert(0, str(args.folder))
    load = import_module("benchmark.task").load_tasks_for_dataset
    registry = import_module("benchmark.dataset.registry").DATASET_REGISTRY
    rows = []
    for name in args.tasks:
        dataset = f"{name}_scaling_law"
        for task, design in itertools.product(load(dataset), args.designs):
            task.model_fn._resolve()
            seeds = 1 if design == "all" else args.seeds
            for seed in range(seeds):
                scores = measure(task, registry[dataset].feature_cols, design, seed)
                rows.append([name, task.sl_id, design, seed, *np.round(scores, 4)])
                print(*rows[-1], flush=True)
    table = pd.DataFrame(rows, columns=["task", "law", "design", "seed", "low", "middle", "high"])
    table.to_csv(args.out, index=False)
    print(table.groupby(["task", "design"])[["low", "middle", "high"]].mean().round(3))


if __name__ == "__main__":
    main()
