"""Learn the prior of forecasts from real ladders, and score it with each source left out in turn.

    python -m experiments.forecasts.learn FOLDER

writes `analysis/forecasting/prior.json` (learned from all sources) and `results.csv`.
"""

from __future__ import annotations

import json
import sys
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.optimize import minimize
from scipy.stats import norm

from analysis.forecasting.combination import combine
from analysis.forecasting.prior import FILE, NAMES, Experience
from experiments.forecasts.cases import BINS, Case, real_cases
from experiments.forecasts.planted import planted_cases

HERE = Path(__file__).parent
# Where learning starts and what it is drawn to: set by hand while the method was chosen.
EXPECTED = Experience(0.37, 2.5, 0.45, 1.1, 0.02, 0.05, 12, 0.0)
RIDGE = 0.05  # of a squared step of one in a coordinate, in nats a case
PLANTED = 1.0  # weight of planted ladders against real ones
PLANTED_LADDERS = 120
LEVELS = (0.95, 0.5)
REMEDIES = ("envelope of joint and kaplan", "joint and 2 kappa")
VARIABLES = {"surface": 2, "frontier": 1, "curve": 1}


def log_score(case: Case, learned: Experience) -> list[float]:
    """Mean log density of the true losses, for each distance."""
    density = combine(case.outlook, case.backtests, learned).log_density(case.y)
    return [float(density[case.bin == k].mean()) for k in np.unique(case.bin)]


def objective(coordinates: np.ndarray, real: Sequence[Case], planted: Sequence[Case]) -> float:
    """Loss to be minimized; a source counts as the root of its cases, which share runs."""
    learned = Experience.at(coordinates)
    by: dict[tuple[str, str], list[float]] = defaultdict(list)
    for case in real:
        by[case.kind, case.source] += log_score(case, learned)
    weight = np.array([np.sqrt(len(v)) for v in by.values()])
    fit = float(weight @ [np.mean(v) for v in by.values()] / weight.sum())
    known = float(np.mean([np.mean(log_score(case, learned)) for case in planted]))
    step = coordinates - EXPECTED.coordinates()
    return -fit - PLANTED * known + RIDGE * float(step @ step)


def learn(real: Sequence[Case], planted: Sequence[Case]) -> Experience:
    start = EXPECTED.coordinates()
    # Curves err low where losses err high: of one variable no sign is learned.
    signed = any(VARIABLES[case.kind] == 2 for case in real)
    bounds = [(None, None)] * (len(start) - 1) + [(None, None) if signed else (0.0, 0.0)]
    found = minimize(objective, start, (real, planted), bounds=bounds, options={"ftol": 1e-6})
    return Experience.at(np.round(found.x, 3))


def score(case: Case, learned: Experience) -> list[dict[str, object]]:
    """One row for each distance: shares covered, widths, errors, interval score on log loss."""
    mixture = combine(case.outlook, case.backtests, learned)
    median, y = mixture.quantile(0.5), case.y
    (low, high), (low50, high50) = (mixture.interval(level) for level in LEVELS)
    missed = np.maximum(low - y, 0) + np.maximum(y - high, 0)
    runs = pd.DataFrame(
        {
            "covered": (low <= y) & (y <= high),
            "covered50": (low50 <= y) & (y <= high50),
            "half": (np.exp(high) - np.exp(low)) / 2 / np.exp(median),
            "error": np.abs(np.expm1(y - median)),
            "interval_score": high - low + 40 * missed,
            "too_high": y < median,
            "times_own": np.nan if case.own is None else (high - low) / 2 / case.own,
        }
    )
    means = runs.groupby(case.bin).mean().assign(runs=np.bincount(case.bin)[np.unique(case.bin)])
    means[["nearest_covered", "nearest_half"]] = [nearest(case, k) for k in means.index]
    key = {"kind": case.kind, "source": case.source, "name": case.name, "cut": case.cut}
    return [{**key, "distance": BINS[int(k)], **row} for k, row in means.iterrows()]


def nearest(case: Case, distance: int) -> tuple[float, float]:
    """What the law that proved nearest says of itself: share covered, half width."""
    asked, seen = case.bin == distance, case.outlook
    error = np.abs(case.y - seen.center)[..., asked]
    best = np.unravel_index(error.mean(axis=2).argmin(), error.shape[:2])
    reach = norm.ppf(0.975) * np.hypot(seen.spread[best][asked], seen.noise[best])
    return float((error[best] <= reach).mean()), float(np.expm1(reach).mean())


def main(folder: Path) -> None:
    real, planted = list(real_cases(folder)), list(planted_cases(PLANTED_LADDERS))
    stored, rows = {}, []
    for variables in (2, 1):
        mine, known = (
            [c for c in cases if VARIABLES[c.kind] == variables] for cases in (real, planted)
        )
        stored[NAMES[variables]] = (everything := learn(mine, known)).to_dict()
        rows += [row for case in known for row in score(case, everything)]
        for source in sorted({c.source for c in mine}):
            others = learn([c for c in mine if c.source != source], known)
            print(source, {k: round(v, 3) for k, v in others.to_dict().items()}, flush=True)
            rows += [row for case in mine if case.source == source for row in score(case, others)]
    FILE.write_text(json.dumps(stored, indent=1) + "\n")
    results = pd.DataFrame(rows)
    results.to_csv(HERE / "results.csv", index=False, float_format="%.5g")
    show(results)


def show(results: pd.DataFrame) -> None:
    """Tables by distance and by source, plain counts of runs, scores beside the remedies."""
    results = results.assign(planted=results["source"].str.startswith("planted"))
    for by in (["kind", "planted", "distance"], ["kind", "source"]):
        parts = results.groupby(by, sort=True)
        table = parts[["covered", "covered50", "interval_score", "too_high"]].mean()
        table = table.join(parts[["half", "error", "times_own"]].median())
        print(table.assign(cases=parts.size()).round(3).to_string())
    real = results[~results["planted"]]
    runs = real[["covered", "covered50"]].mul(real["runs"], axis=0).assign(runs=real["runs"])
    print(runs.groupby(real["kind"]).sum().round().to_string())
    own = real.groupby(["kind", "distance"])[["nearest_covered", "nearest_half"]]
    print(own.agg({"nearest_covered": "mean", "nearest_half": "median"}).round(3).to_string())
    before, key = pd.read_csv(HERE / "before.csv"), ["source", "name", "cut", "distance"]
    for remedy in REMEDIES:
        both = real[real["kind"] == "surface"].merge(before[before["law"] == remedy], on=key)
        scores = both.groupby("distance")[["interval_score_x", "interval_score_y"]].mean()
        scores.loc["all"] = both[scores.columns].mean()
        print(remedy, len(both), scores.round(4).to_string(), sep="\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
