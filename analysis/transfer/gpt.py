"""How language models of growing size do: K examples, a detector, fine-tuning, calibration.

Works on the columns that `fmscale evaluate` writes, `task_<task>[_described]_<quantity>_at_<K>`,
`detector_*`, `finetune_<task>_*` and `val_loss_at_<position>`. What was not measured is missing and
never counted.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from analysis.fit import fit
from analysis.result import FitResult
from analysis.solver.global_fit import FitError
from analysis.tables.table import TableError, between

BASELINES = ("scratch", "frozen", "without_lm")
REFITS = 500  # of the band
FEWEST_SIZES = 4  # of a law with a band: two more than it has parameters


@dataclass(frozen=True)
class ShotColumn:
    """A measured point of a few-shot curve."""

    task: str  # "mean": over all tasks
    described: bool
    quantity: str  # "accuracy" or "nats"
    shots: int
    column: str


def all_shot_columns(runs: pd.DataFrame) -> list[ShotColumn]:
    """What was measured of every task."""
    found = []
    for middle, column in between(runs, "task_", "").items():
        name, _, shots = middle.rpartition("_at_")
        name, _, quantity = name.rpartition("_")
        if quantity in ("accuracy", "nats") and shots.isdigit():
            described = name.endswith("_described")
            task = name.removesuffix("_described")
            found.append(ShotColumn(task, described, quantity, int(shots), column))
    return found


def shot_columns(runs: pd.DataFrame, task: str = "mean") -> list[ShotColumn]:
    """What was measured of one task, by description, quantity and K.

    Raises:
        TableError: for a task that no column is of.
    """
    found = all_shot_columns(runs)
    own = [point for point in found if point.task == task]
    if not own:
        tasks = ", ".join(sorted({point.task for point in found})) or "none"
        raise TableError(
            f"no column task_{task}_accuracy_at_<K>; tasks of this table: {tasks}. Measure runs "
            "by: fmscale evaluate STUDY evaluation=in_context"
        )
    return sorted(own, key=lambda p: (p.described, p.quantity, p.shots))


def longest_runs(runs: pd.DataFrame) -> pd.DataFrame:
    """The run of each size that read most, ascending in size; seeds are averaged.

    Imported models, whose reading is not known, count as they are.
    """
    frame = runs.assign(_read=runs["n_tokens"].fillna(0) if "n_tokens" in runs else 0)
    longest = frame[frame["_read"] == frame.groupby("model")["_read"].transform("max")]
    numbers = longest.select_dtypes("number").columns
    means: pd.DataFrame = longest.groupby("model")[list(numbers)].mean()
    return means.drop(columns="_read").sort_values("n_params_total").reset_index()


def fine_tuned_tasks(runs: pd.DataFrame) -> list[str]:
    """Tasks on which models were fine-tuned."""
    found = between(runs, "finetune_", "_forgotten")
    return [task for task in found if not task.endswith("_without_lm")]


def positions(runs: pd.DataFrame) -> list[int]:
    """First positions of the octaves whose loss was measured."""
    return sorted(int(k) for k in between(runs, "val_loss_at_", "") if k.isdigit())


def detector_law(sizes: pd.DataFrame) -> FitResult | None:
    """Detector accuracy as a power of N with its 95 % band (Brown et al. 2020, Fig. 3.13).

    Weighted by the binomial error of each accuracy.

    Returns:
        None if there are too few sizes for a band, or no certain optimum.
    """
    known = sizes.dropna(subset=["detector_accuracy"])
    if len(known) < FEWEST_SIZES:
        return None
    p, n = known["detector_accuracy"], known["detector_n_test"]
    # Of Agresti & Coull 1998: an accuracy of 1 is no certainty.
    q = (p * n + 2) / (n + 4)
    known = known.assign(error=(q * (1 - q) / (n + 4)) ** 0.5)
    columns = {"x": "n_params_total"}
    try:
        law = fit(
            "power", known, metric="detector_accuracy", columns=columns, error="error",
            bootstrap=REFITS,
        )  # fmt: skip
    except FitError:
        return None
    return None if law.predict({"x": [1.0]})["low"].isna().any() else law


def calibration_tables(study: Path) -> dict[str, dict[str, pd.DataFrame]]:
    """Calibration curves of a run store: name of the questions -> run id -> bins."""
    found: dict[str, dict[str, pd.DataFrame]] = {}
    for path in sorted(study.glob("**/tables/answers_*_calibration.jsonl")):
        name = path.name.removeprefix("answers_").removesuffix("_calibration.jsonl")
        rows: list[dict[str, Any]] = [json.loads(line) for line in path.read_text().splitlines()]
        if rows:
            found.setdefault(name, {})[path.parents[1].name] = pd.DataFrame(rows)
    return found
