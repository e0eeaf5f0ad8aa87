"""A look at the course of a run while it trains: is it on its way to the loss to expect?"""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence

from fmscale.forecast.course import Course, judge
from fmscale.forecast.reference import (
    FORECAST,
    FRACTIONS,
    Reference,
    check_forecast,
    finished_runs,
    loss_at,
)
from fmscale.planning.job import Branch, Job
from fmscale.runs.files import write_sealed
from fmscale.runs.store import RunFolder, Study, read_own
from fmscale.tracking.tracker import Tracker
from fmscale.training.callbacks import StepCallback, Training

log = logging.getLogger(__name__)


class LossForecast(StepCallback):
    """Judges runs at fixed fractions of their budgets; writes `forecast.json`, alerts once.

    The runs of a trunk are judged while the trunk trains, each against its own budget, so a bad
    learning rate shows at 20 % of the shortest one. Nothing here changes a number of the training.

    Args:
        job: of the runs.
        branches: those to judge.
        rows_of: folder whose `metrics.jsonl` is being written, the trunk's or the run's own.
    """

    def __init__(
        self,
        job: Job,
        branches: Sequence[Branch],
        study: Study,
        rows_of: RunFolder,
        tracker: Tracker,
    ) -> None:
        self.job, self.study, self.rows_of, self.tracker = job, study, rows_of, tracker
        self.moments: dict[int, list[tuple[float, Branch]]] = {}
        for branch in branches:
            for fraction in FRACTIONS:
                step = math.floor(fraction * branch.n_steps)
                self.moments.setdefault(step, []).append((fraction, branch))
        self._references: list[Reference] | None = None

    def on_step_end(self, module: Training) -> None:
        """Judge the runs whose moment this step is; their rows are written."""
        try:
            for fraction, branch in self.moments.get(module.step, ()):
                self._look(module.step, fraction, branch)
        except (OSError, ValueError) as error:  # another run's torn file must not end this one
            log.warning("the course of %s could not be judged: %s", self.rows_of.run_id, error)

    def _look(self, step: int, fraction: float, branch: Branch) -> None:
        self.rows_of.verify()
        loss = loss_at(self.rows_of.metrics(), step)
        if loss is None or not loss > 0:
            return
        course = judge(
            self._finished(),
            n_params=self.job.shape.n_params_non_embedding,
            n_units=branch.n_units,
            fraction=fraction,
            step=step,
            loss=loss,
        )
        if course is not None and note(self.study.run(branch.run_id), course):
            title = f"{branch.run_id} is off course"
            log.warning("%s: %s", title, course.sentence)
            self.tracker.alert(title, course.sentence)

    def _finished(self) -> list[Reference]:
        """Read once: a study grows slowly beside one run."""
        if self._references is None:
            own = {branch.run_id for branch in self.job.branches}
            config = self.job.config
            self._references = finished_runs(
                self.study, config["objective"]["_target_"], config["batch_size"], own
            )  # fmt: skip
        return self._references


def note(folder: RunFolder, course: Course) -> bool:
    """Add a look to `forecast.json`; True if it is the first that finds the run off course.

    A resumed run looks again at a fraction it has seen; the later look replaces the earlier.
    """
    path = folder.path / FORECAST
    looks = read_own(path, check_forecast)["looks"] if path.exists() else []
    kept = [look for look in looks if look["fraction"] != course.fraction]
    looks = sorted([*kept, course.to_dict()], key=lambda look: look["fraction"])
    flagged = [Course(**look) for look in looks if look["off_course"]]
    sentence = flagged[0].sentence if flagged else None
    write_sealed(path, {"sentence": sentence, "looks": looks})
    return flagged == [course]
