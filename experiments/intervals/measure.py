"""How often 95 % intervals hold the truth: results.csv and figure.png.

`python -m experiments.intervals.measure [TRIALS]` resumes where an earlier call stopped; delete
results.csv to start afresh.
"""

from __future__ import annotations

import os
import sys
import warnings
import zlib
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path

import numpy as np
import pandas as pd
from rich.progress import track

from analysis import FitError, fit
from analysis.plot.coverage import plot_coverage
from experiments.intervals.designs import CLUSTERED, METHODS, REPEATED, SINGLE, Design

FOLDER = Path(__file__).parent
TRIALS = 400
REFITS = 300
PLAN = (
    [(d, m) for d in SINGLE for m in METHODS]
    + [
        (d, m)
        for d in CLUSTERED
        for m in (("auto", "delta", "profile") if d.law != "joint" else ("auto", "delta"))
    ]
    + [(d, "auto") for d in REPEATED]
)


def measure(
    design: Design, method: str, trials: int = TRIALS, refits: int = REFITS
) -> pd.DataFrame:
    """Coverage of every parameter over `trials` data sets planted on one design.

    Returns:
        One row a parameter: trials with an interval, how many hold the truth, coverage and its
        binomial standard error, median width over the truth, trials refused.
    """
    first = zlib.crc32(design.label.encode()) % 100_000  # streams of two designs do not meet
    hits: dict[str, list[bool]] = {name: [] for name in design.truth}
    widths: dict[str, list[float]] = {name: [] for name in design.truth}
    refused = 0
    for trial in range(trials):
        frame = design.draw(np.random.default_rng([first, trial]))
        try:
            found = fit(
                design.law, frame, objective=design.objective, interval=method, seed=trial,
                bootstrap=refits,
            )  # fmt: skip
        except FitError:
            refused += 1
            continue
        if all(ends == (None, None) for ends in found.intervals.values()):
            refused += 1
            continue
        for name, truth in design.truth.items():
            low, high = found.intervals[name]
            if low is None and high is None:
                continue  # refused for this parameter
            hits[name].append((low is None or low <= truth) and (high is None or truth <= high))
            if low is not None and high is not None:
                widths[name].append((high - low) / truth)
    rows = []
    for name in design.truth:
        count, held = len(hits[name]), int(np.sum(hits[name]))
        share = held / count if count else float("nan")
        rows.append({
            "design": design.label, "law": design.law, "n_points": len(design.trunk),
            "n_clusters": len(np.unique(design.trunk)), "interval": method, "parameter": name,
            "trials": count, "covered": held, "coverage": share,
            "standard_error": float(np.sqrt(0.95 * 0.05 / count)) if count else float("nan"),
            "median_width": float(np.median(widths[name])) if widths[name] else float("nan"),
            "refused": refused,
        })  # fmt: skip
    return pd.DataFrame(rows)


def measure_quietly(design: Design, method: str, trials: int) -> pd.DataFrame:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return measure(design, method, trials)


def main(trials: int) -> None:
    path = FOLDER / "results.csv"
    known = pd.read_csv(path) if path.exists() else pd.DataFrame(columns=["design", "interval"])
    done = set(zip(known["design"], known["interval"], strict=True))
    order = {(d.label, m): place for place, (d, m) in enumerate(PLAN)}
    with ProcessPoolExecutor(os.cpu_count()) as workers:
        todo = [
            workers.submit(measure_quietly, d, m, trials)
            for d, m in PLAN
            if (d.label, m) not in done
        ]
        for finished in track(as_completed(todo), "designs", total=len(todo)):
            known = pd.concat([known, finished.result()]) if len(known) else finished.result()
            place = [order[key] for key in zip(known["design"], known["interval"], strict=True)]
            known = known.iloc[np.argsort(place, kind="stable")]
            known.to_csv(path, index=False, float_format="%.5g")
    axes = plot_coverage(pd.read_csv(path))
    axes.figure.savefig(FOLDER / "figure.png", dpi=130)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else TRIALS)
