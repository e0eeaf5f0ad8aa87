"""What real ladders taught about forecasts, apart from the runs at hand.

Eight numbers for laws of N and D, as many for those of one variable, learned in
`experiments/forecasts` and stored in `prior.json`.
"""

from __future__ import annotations

import json
from dataclasses import asdict, astuple, dataclass
from functools import cache
from pathlib import Path

import numpy as np

from analysis.laws.law import Array

FILE = Path(__file__).with_name("prior.json")
NAMES = {1: "one_variable", 2: "size_and_data"}


@dataclass(frozen=True)
class Experience:
    """How a forecast's parts are weighed and widened; first of the whole ladder, then of its top.

    Two views of the ladder compete: all runs count alike, or those near the largest count most.
    """

    law_temper: float  # exponent of the laws' evidence, in the view of the top
    backtest_weight: float  # what the log score of an inner cut counts in the choice of a view
    top_odds: float  # prior odds of the view of the top
    widening: float  # factor on the standard deviation that noise explains
    whole_drift: float  # misfit of the law, in units of slope times distance ** 1.5
    top_drift: float
    freedom: float  # of Student's components
    top_lowered: float  # how far the top's forecast is too high, in the unit of the misfit

    def log_odds(self) -> Array:
        """By view, (2,)."""
        return np.array([0.0, np.log(self.top_odds)])

    def temper(self) -> Array:
        return np.array([1.0, self.law_temper])

    def drift(self) -> Array:
        return np.array([self.whole_drift, self.top_drift])

    def lowered(self) -> Array:
        return np.array([0.0, self.top_lowered])

    def coordinates(self) -> Array:
        """For learning (8,): logarithms, but of the last, which has a sign."""
        *positive, signed = astuple(self)
        return np.array([*np.log(positive), signed])

    @classmethod
    def at(cls, coordinates: Array) -> Experience:
        return cls(*(float(v) for v in [*np.exp(coordinates[:-1]), coordinates[-1]]))

    def to_dict(self) -> dict[str, float]:
        return asdict(self)


@cache
def experience(variables: int) -> Experience:
    """What was learned for laws of this many variables."""
    stored = json.loads(FILE.read_text(encoding="utf-8"))[NAMES[variables]]
    return Experience(**stored)
