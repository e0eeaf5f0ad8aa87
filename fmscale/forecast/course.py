"""Is a run on course? Its loss so far, against what the study expects of its size and budget.

Over the finished runs the loss at a fraction of the budget and the loss at the end are each fitted
by a plane, log L = a + b log N + c log D (the power law of Kaplan et al. 2020, Sec. 1.2, without
floor: over the decade or two of a study's sizes it interpolates well, and here it only has to
interpolate). A run whose loss lies outside the 99 % prediction band is off course. Its end loss is
forecast twice: by the law alone, and with its own deviation carried along.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from scipy.special import stdtrit

from fmscale.forecast.reference import Reference

LEVEL = 0.99  # of the band; one run in a hundred is flagged for no fault of its own
MIN_FREEDOM = 3  # trunks beyond the plane's coefficients; with fewer the band says nothing


@dataclass(frozen=True)
class Course:
    """Verdict on a run at one moment."""

    step: int
    fraction: float  # of the budget
    loss: float  # training loss now
    expected: float  # by the study's runs, at this fraction
    low: float  # band of a new run at `LEVEL`
    high: float
    end_by_law: float  # forecast of val_loss for this size and budget
    end_by_curve: float  # the same, shifted by this run's own deviation
    n_reference: int
    off_course: bool

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @property
    def sentence(self) -> str:
        """For a person."""
        return (
            f"loss {self.loss:.3g} at {self.fraction:.0%} of the budget; {self.n_reference} runs "
            f"of the study lead one to expect {self.expected:.3g} "
            f"[{self.low:.3g}, {self.high:.3g}]. "
            f"It is heading for {self.end_by_curve:.3g} in place of {self.end_by_law:.3g}"
        )


def judge(
    references: Sequence[Reference],
    *,
    n_params: float,
    n_units: float,
    fraction: float,
    step: int,
    loss: float,
) -> Course | None:
    """Compare a run with finished ones; None where these are too few to judge by.

    Args:
        n_params, n_units: size (non-embedding) and budget of the run.
        fraction: of the budget; one of `reference.FRACTIONS`.
        loss: training loss there, as `reference.loss_at` gives it.
    """
    usable = [r for r in references if fraction in r.losses]
    n_log = np.log([r.n_params for r in usable])
    d_log = np.log([r.n_units for r in usable])
    columns, point = [np.ones(len(usable))], [1.0]
    for values, own in ((n_log, math.log(n_params)), (d_log, math.log(n_units))):
        if len(np.unique(np.round(values, 9))) > 1:
            columns.append(values)
            point.append(own)
        elif len(values) and abs(values[0] - own) > 1e-9:
            return None  # the law does not know how the loss changes along this axis
    design, row = np.stack(columns, axis=1), np.array(point)
    n_trunks = len({r.trunk_id for r in usable})
    freedom = n_trunks - design.shape[1]
    if freedom < MIN_FREEDOM or np.linalg.matrix_rank(design) < design.shape[1]:
        return None
    now = np.log([r.losses[fraction] for r in usable])
    end = np.log([r.end_loss for r in usable])
    (now_fit, end_fit) = (np.linalg.lstsq(design, y, rcond=None)[0] for y in (now, end))
    # Runs of a trunk are one observation: the spread and what is known of the plane count trunks.
    spread = math.sqrt(float(np.mean((now - design @ now_fit) ** 2)) * n_trunks / freedom)
    leverage = float(row @ np.linalg.inv(design.T @ design) @ row) * len(usable) / n_trunks
    reach = float(stdtrit(freedom, (1 + LEVEL) / 2)) * spread * math.sqrt(1 + leverage)
    expected = float(row @ now_fit)
    deviation = math.log(loss) - expected
    by_law = float(row @ end_fit)
    return Course(
        step=step,
        fraction=fraction,
        loss=loss,
        expected=math.exp(expected),
        low=math.exp(expected - reach),
        high=math.exp(expected + reach),
        end_by_law=math.exp(by_law),
        end_by_curve=math.exp(by_law + deviation),
        n_reference=len(usable),
        off_course=abs(deviation) > reach,
    )
