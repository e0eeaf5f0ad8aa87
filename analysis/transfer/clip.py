"""How a CLIP's ways to adapt compare: zero-shot, probes, few examples, fine-tuning.

After Radford et al. 2021, Sec. 3. Works on the columns that `evaluation=adaptation` writes:
`<way>_<task>_accuracy` and `zero_shot_<task>_chance`. Tasks that a way did not measure are missing
and never counted.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd

from analysis.tables.table import TableError, between

WITHIN = 0.03  # accuracies this near count as equal (Radford et al. 2021, Fig. 8)
RANK = {"below": 0, "": 1, "above": 2}  # of censored values among the others
HALFWAY = 0.5  # of the way from chance to 1, where a task counts as learned


@dataclass(frozen=True)
class Equivalence:
    """Examples a class that a probe needs to match zero-shot."""

    task: str
    k: float  # interpolated; the nearest end of the measured range if censored
    censored: str  # "", "below" or "above" the measured range


@dataclass(frozen=True)
class Agreement:
    """Zero-shot against the probe on the same features."""

    tasks: list[str]
    zero_shot: list[float]
    probe: list[float]
    r: float | None  # Pearson; None for fewer than three tasks
    n_within: int  # tasks where both are within three points


def accuracies(runs: pd.DataFrame, way: str) -> pd.DataFrame:
    """One column a task, in the order of the table: accuracy by this way, e.g. "few_shot_4".

    Raises:
        TableError: if no column is of this way.
    """
    found = between(runs, f"{way}_", "_accuracy")
    if not found:
        raise TableError(
            f"no column {way}_<task>_accuracy; train with evaluation=adaptation, or measure "
            "finished runs by: fmscale evaluate STUDY evaluation=adaptation"
        )
    return pd.DataFrame({task: runs[column].astype(float) for task, column in found.items()})


def shots(runs: pd.DataFrame) -> list[int]:
    """Numbers of examples K that probes were fitted on, ascending."""
    found = {middle.partition("_")[0] for middle in between(runs, "few_shot_", "_accuracy")}
    return sorted(int(k) for k in found if k.isdigit())


def equivalences(run: pd.Series[Any]) -> list[Equivalence]:
    """For each task the K at which the probe reaches zero-shot, log-linear in K, ascending.

    (Radford et al. 2021, Fig. 7.) Tasks where zero-shot is below the first probe or above the last
    are censored.
    """
    frame = run.to_frame().T
    zero_shot = accuracies(frame, "zero_shot").iloc[0]
    found = []
    for task, target in zero_shot.items():
        curve = [(k, run.get(f"few_shot_{k}_{task}_accuracy")) for k in shots(frame)]
        points = [(k, float(a)) for k, a in curve if a is not None and not pd.isna(a)]
        if not points or np.isnan(target):
            continue
        found.append(_cross(str(task), points, float(target)))
    return sorted(found, key=lambda e: (RANK[e.censored], e.k))


def _cross(task: str, points: list[tuple[int, float]], target: float) -> Equivalence:
    if target < points[0][1]:
        return Equivalence(task, points[0][0], "below")
    for (k, low), (next_k, high) in pairwise(points):
        if low <= target <= high:
            share = (target - low) / (high - low) if high > low else 0.0
            return Equivalence(task, float(k * (next_k / k) ** share), "")
    if target == points[-1][1]:
        return Equivalence(task, points[-1][0], "")
    return Equivalence(task, points[-1][0], "above")


def bounded(text: str, censored: str) -> str:
    """A number that may be a bound: "5", "< 1" or "> 16"."""
    return {"below": "< ", "above": "> ", "": ""}[censored] + text


def median_and_mean(found: list[Equivalence]) -> tuple[str, str]:
    """Both as text: "5.4", or "> 16" where censored tasks leave only a bound."""
    low, high = ([_bound(e, side) for e in found] for side in ("below", "above"))
    return _range(np.median(low), np.median(high)), _range(np.mean(low), np.mean(high))


def _bound(found: Equivalence, side: str) -> float:
    """Lowest or highest K that a censored task may stand for."""
    if found.censored != side:
        return found.k
    return 0.0 if side == "below" else np.inf


def _range(low: Any, high: Any) -> str:
    if low == high:
        return f"{low:.2g}"
    if np.isinf(high):
        return f"> {low:.2g}"
    return f"{low:.2g} to {high:.2g}" if low > 0 else f"< {high:.2g}"


def agreement(run: pd.Series[Any]) -> Agreement:
    """Zero-shot and probe accuracy of the tasks that have both, and how alike they are."""
    frame = run.to_frame().T
    pair = pd.concat(
        [accuracies(frame, "zero_shot").iloc[0], accuracies(frame, "probe").iloc[0]], axis=1
    ).dropna()
    x, y = pair.iloc[:, 0].to_numpy(dtype=float), pair.iloc[:, 1].to_numpy(dtype=float)
    spread = len(pair) >= 3 and np.ptp(x) > 0 and np.ptp(y) > 0
    return Agreement(
        [str(task) for task in pair.index],
        x.tolist(),
        y.tolist(),
        float(np.corrcoef(x, y)[0, 1]) if spread else None,
        int((np.abs(x - y) <= WITHIN + 1e-12).sum()),
    )


def longest_runs(runs: pd.DataFrame) -> pd.DataFrame:
    """The longest run of each size, ascending in compute; seeds are averaged."""
    numbers = runs.select_dtypes("number").columns
    longest = runs[runs["n_samples"] == runs.groupby("model")["n_samples"].transform("max")]
    means: pd.DataFrame = longest.groupby("model")[list(numbers)].mean()
    return means.sort_values("flops").copy().reset_index()  # copied: pandas keeps it in pieces


def power_line(x: np.ndarray, error: np.ndarray) -> tuple[float, float]:
    """(a, b) of the straight line error = a * x**b through log error against log x."""
    b, log_a = np.polyfit(np.log(x), np.log(error), 1)
    return float(np.exp(log_a)), float(b)


def learning_order(runs: pd.DataFrame) -> pd.DataFrame:
    """For the largest size: samples seen at which each task was half learned, ascending.

    Half learned is half-way from chance to 1, interpolated in log samples.

    Returns:
        Columns task, n_samples and censored ("below" where the shortest run was there already,
        "above" where the longest was not, "" otherwise); one row a task.
    """
    curve = largest_size(runs)
    rows = []
    for task in accuracies(curve, "zero_shot"):
        n_samples, censored = _half_learned(skill(curve, str(task)))
        rows.append({"task": str(task), "n_samples": n_samples, "censored": censored})
    rows.sort(key=lambda row: (RANK[str(row["censored"])], row["n_samples"]))
    return pd.DataFrame(rows)


def largest_size(runs: pd.DataFrame) -> pd.DataFrame:
    """The runs of the largest model by samples seen, seeds averaged."""
    own = runs[runs["n_params_total"] == runs["n_params_total"].max()]
    numbers = [column for column in own.select_dtypes("number") if column != "n_samples"]
    curve: pd.DataFrame = own.groupby("n_samples")[numbers].mean()
    return curve.sort_index()


def skill(curve: pd.DataFrame, task: str) -> pd.Series[float]:
    """(accuracy - chance) / (1 - chance) of zero-shot: 0 is a blind guess, 1 perfect."""
    chance = curve.get(f"zero_shot_{task}_chance")
    if chance is None:
        raise TableError(
            f"no column zero_shot_{task}_chance: these runs are of an older version; measure them "
            "again by: fmscale evaluate STUDY evaluation=zero_shot"
        )
    return (curve[f"zero_shot_{task}_accuracy"] - chance) / (1 - chance)


def _half_learned(curve: pd.Series[float]) -> tuple[float, str]:
    values, samples = curve.to_numpy(dtype=float), curve.index.to_numpy(dtype=float)
    reached = np.flatnonzero(values >= HALFWAY)
    if not len(reached):
        return float(samples[-1]), "above"
    i = int(reached[0])
    if i == 0:
        return float(samples[0]), "below"
    share = (HALFWAY - values[i - 1]) / (values[i] - values[i - 1])
    return float(samples[i - 1] * (samples[i] / samples[i - 1]) ** share), ""


def interpolation(run: pd.Series[Any]) -> dict[str, pd.DataFrame]:
    """For each fine-tuned task the curve over alpha: columns alpha, task, others (accuracies)."""
    rows: dict[str, dict[int, dict[str, float]]] = {}
    for middle, column in between(run.index, "interpolated_", "_accuracy").items():
        task, _, percent = middle.removesuffix("_others").rpartition("_")
        if percent.isdigit() and not pd.isna(run[column]):
            row = rows.setdefault(task, {}).setdefault(int(percent), {"alpha": int(percent) / 100})
            row["others" if middle.endswith("_others") else "task"] = float(run[column])
    return {
        task: pd.DataFrame(list(found.values())).sort_values("alpha", ignore_index=True)
        for task, found in rows.items()
    }
