"""Study folders with a known truth: records as a sweep writes them, losses from a stated law."""

import json
from pathlib import Path

import numpy as np
import pandas as pd

from analysis import LAWS
from analysis.optima.compute_optimal import ComputeRule, optimum_closed

GPT_LAW = {"E": 1.2, "A": 60.0, "B": 300.0, "alpha": 0.40, "beta": 0.38}
CLIP_LAW = {"E": 0.9, "A": 40.0, "B": 30.0, "alpha": 0.42, "beta": 0.36}
NATURAL = {
    name: dict(zip(make().names, make().example, strict=True)) for name, make in LAWS.items()
}
HOFFMANN = NATURAL["joint"]
HOFFMANN_A = HOFFMANN["beta"] / (HOFFMANN["alpha"] + HOFFMANN["beta"])  # n_opt ~ C^a


def joint_loss(law, n, d):
    return law["E"] + law["A"] * n ** -law["alpha"] + law["B"] * d ** -law["beta"]


def write_study(
    folder: Path,
    family: str = "gpt",
    sizes=(2e4, 6e4, 2e5, 6e5, 2e6),
    budgets=(1e6, 2e6, 4e6, 8e6, 1.6e7),
    seeds=(1,),
    noise: float = 0.004,
    rng_seed: int = 0,
) -> Path:
    """Write runs/<study>/<run_id>/{record.json,status.json,metrics.jsonl}; returns the folder."""
    rng = np.random.default_rng(rng_seed)
    law = GPT_LAW if family == "gpt" else CLIP_LAW
    unit = "tokens" if family == "gpt" else "samples"
    folder.mkdir(parents=True, exist_ok=True)
    for size in sizes:
        for seed in seeds:
            shared = 0.6 * noise * rng.standard_normal()
            for budget in budgets:
                n, d = int(size), int(budget)
                loss = joint_loss(law, n, d) * np.exp(shared + 0.8 * noise * rng.standard_normal())
                run_id = f"{family}_{n}-{d}-s{seed}"
                path = folder / run_id
                path.mkdir(exist_ok=True)
                metrics = {"val_loss": float(loss)}
                if family == "clip":
                    error = 0.12 + 0.8 * np.exp(-0.9 * (4.2 - loss))
                    metrics |= {
                        "zero_shot_error": float(np.clip(error, 0.05, 0.9)),
                        "zero_shot_chance_error": 0.875,
                    }
                record = {
                    "schema_version": 1,
                    "run_id": run_id,
                    "study": folder.name,
                    "family": family,
                    "model": f"{family}_{n}",
                    "trunk_id": f"{family}_{n}-s{seed}",
                    "seed": seed,
                    "status": "completed",
                    "annealed": True,
                    "schedule": "wsd",
                    "n_params_total": n,
                    "n_params_non_embedding": int(n * 0.9),
                    "n_params_matmul": int(n * 0.93),
                    "n_params_by_group": {"embedding": n - int(n * 0.9), "blocks": int(n * 0.9)},
                    f"n_{unit}": d,
                    f"n_{unit}_unique": d,
                    "flops": 6.3 * n * d,
                    "flops_causal": 6.1 * n * d,
                    "flops_6nd": 6.0 * n * d,
                    "flops_6nd_non_embedding": 5.4 * n * d,
                    "flops_6nd_matmul": 5.58 * n * d,
                    "flops_marginal": 1.3 * n * d,
                    "flops_formula": "matmul and attention, forward + backward",
                    "n_steps": d // 4096,
                    "batch_size": 64,
                    "lr_peak": 1e-3,
                    "val_batch_size": 64,
                    "data": {"name": "planted", "tokenizer": "byte"},
                    "hyperparameters": {"weight_decay": 0.1},
                    "environment": {"python": "3.11"},
                    "git": {"commit": "0" * 40, "dirty": False},
                    "metrics": metrics,
                    "units": {"val_loss": "nats"},
                    "started_at": "2026-01-01T00:00:00Z",
                    "finished_at": "2026-01-01T00:01:00Z",
                }
                (path / "record.json").write_text(json.dumps(record))
                (path / "status.json").write_text(json.dumps({"state": "completed"}))
    return folder


def isoflop_grid(law=HOFFMANN, budgets=8, points=16, noise=0.0, seed=0):
    """budgets x points around the optimum, losses from the joint law."""
    rng = np.random.default_rng(seed)
    c = np.repeat(np.geomspace(1e18, 3e21, budgets), points)
    n = np.tile(np.geomspace(0.1, 10, points), budgets) * 0.1 * (c / 6) ** 0.5
    d = c / (6 * n)
    loss = law["E"] + law["A"] * n ** -law["alpha"] + law["B"] * d ** -law["beta"]
    loss = loss * np.exp(noise * rng.standard_normal(len(loss)))
    return pd.DataFrame({"N": n, "D": d, "C": c, "metric": loss})


def symmetric_grid(noise=0.0, seed=0, width=3.0):
    """Sizes centred on the optimum of the planted law at each of 8 budgets."""
    rng = np.random.default_rng(seed)
    rows = []
    for c in np.geomspace(1e18, 3e21, 8):
        n_opt = optimum_closed(HOFFMANN, "joint", c, ComputeRule())[0]
        for n in n_opt * np.geomspace(1 / width, width, 11):
            d = c / (6 * n)
            loss = 1.69 + 406.4 * n**-0.34 + 410.7 * d**-0.28
            rows.append((n, d, c, loss * np.exp(noise * rng.standard_normal())))
    return pd.DataFrame(rows, columns=["N", "D", "C", "metric"])


def joint_frame(n, d, seed=0, noise=0.005, law=(1.7, 300.0, 0.38, 400.0, 0.3)):
    e, a, alpha, b, beta = law
    chance = np.exp(noise * np.random.default_rng(seed).standard_normal(len(n)))
    return pd.DataFrame({"N": n, "D": d, "metric": (e + a * n**-alpha + b * d**-beta) * chance})


def power_data(seed, n=8, noise=0.01, floor=0.0):
    rng = np.random.default_rng(seed)
    x = np.geomspace(1e5, 1e9, n)
    y = (floor + 9 * x**-0.1) * np.exp(noise * rng.standard_normal(n))
    return pd.DataFrame({"x": x, "metric": y})
