"""Finished runs of a study as a reference: size, budget, losses on the way and at the end."""

from __future__ import annotations

import itertools
import logging
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fmscale.public import with_public_names
from fmscale.runs.files import Broken
from fmscale.runs.store import RunFolder, Study, read_own

log = logging.getLogger(__name__)

FRACTIONS = (0.2, 0.4, 0.6, 0.8)  # of a run's budget: where its course is looked at
# The loss at a step is the median of the logged ones over the last quarter of the way there: single
# batches are noisy, and a longer window would lag behind a falling curve.
WINDOW = 0.25
MIN_ROWS = 3  # logged rows in a window; fewer say nothing
FORECAST = "forecast.json"  # in the run's folder: every look at its course
MAX_RUNS = 200  # read at most, so that a look at a large study stays cheap


@dataclass(frozen=True)
class Reference:
    """One finished run."""

    run_id: str
    trunk_id: str  # runs of one trunk share their way, and so their luck
    n_params: float  # n_params_non_embedding
    n_units: float  # tokens or samples
    end_loss: float  # held-out, at the end
    losses: Mapping[float, float]  # fraction of the budget -> training loss there


def finished_runs(
    study: Study, objective: str, batch_size: int, leave_out: Collection[str] = ()
) -> list[Reference]:
    """Completed, annealed runs of one objective and batch size that stayed on course.

    Args:
        objective: its `_target_`, by its public name; losses of different objectives have nothing
            in common.
        batch_size: a contrastive loss, and the noise of any, depend on it.
        leave_out: run ids not to read, e.g. the run that is judged.
    """
    folders = (f for f in study.runs() if f.is_finished() and f.run_id not in leave_out)
    found = []
    for folder in itertools.islice(folders, MAX_RUNS):
        try:
            found.append(_reference(folder, objective, batch_size))
        except Broken as error:  # one run's file must not hide the others
            log.warning("%s", error)
    return [reference for reference in found if reference is not None]


def loss_at(rows: Sequence[Mapping[str, Any]], step: int) -> float | None:
    """Training loss around `step`, the median of a window of logged rows; None: too few of them."""
    first = step * (1 - WINDOW)
    window = sorted(
        row["train/loss"] for row in rows if "train/loss" in row and first < row["step"] <= step
    )
    if len(window) < MIN_ROWS:
        return None
    middle = len(window) // 2
    return float(window[middle] if len(window) % 2 else (window[middle - 1] + window[middle]) / 2)


def _reference(folder: RunFolder, objective: str, batch_size: int) -> Reference | None:
    record = folder.record()
    trained_by = with_public_names(record.hyperparameters.get("objective", {}))
    if trained_by.get("_target_") != objective:
        return None
    main = (record.family_metrics or ["val_loss"])[0]
    n_units, end_loss = record.n_processed, record.metrics.get(main)
    usable = record.status == "completed" and record.annealed and record.batch_size == batch_size
    usable = usable and off_course(folder) is None
    n_steps = record.n_steps
    if not usable or n_units is None or n_steps is None or end_loss is None or not end_loss > 0:
        return None
    rows = folder.metrics()
    losses = {f: loss_at(rows, math.floor(f * n_steps)) for f in FRACTIONS}
    return Reference(
        run_id=record.run_id,
        trunk_id=record.trunk_id,
        n_params=record.n_params_non_embedding,
        n_units=n_units,
        end_loss=end_loss,
        losses={f: loss for f, loss in losses.items() if loss is not None and loss > 0},
    )


def off_course(folder: RunFolder) -> str | None:
    """What was said of a run that was flagged while it trained; None for any other."""
    try:
        sentence: str | None = read_own(folder.path / FORECAST, check_forecast)["sentence"]
    except FileNotFoundError:
        return None
    return sentence


def check_forecast(found: dict[str, Any]) -> None:
    """Raise KeyError or TypeError for what is no file of looks."""
    if not isinstance(found["sentence"], str | None) or not isinstance(found["looks"], list):
        raise TypeError("a sentence and looks")
