"""Scaling laws by name. `LAWS[name]()` makes one; `register` adds yours for this process."""

from __future__ import annotations

from collections.abc import Callable

from analysis.laws.coupled import (
    DataConstrained,
    JointOuter,
    Kaplan,
    KaplanFloor,
    RepeatPenalty,
)
from analysis.laws.curves import BrokenPower, ExpPower, LogLinear, ShiftedPower
from analysis.laws.law import Array, Columns, Law, Parameter
from analysis.laws.links import ExpLink, SigmoidLink
from analysis.laws.sums import (
    Joint,
    JointTied,
    LearningCurve,
    Overtrain,
    Power,
    PowerFloor,
    SumLaw,
    Term,
)

LAWS: dict[str, Callable[[], Law]] = {
    "log_linear": LogLinear,
    "power": Power,
    "power_floor": PowerFloor,
    "shifted_power": ShiftedPower,
    "broken_power": BrokenPower,
    "joint": Joint,
    "joint_tied": JointTied,
    "joint_outer": JointOuter,
    "kaplan": Kaplan,
    "kaplan_floor": KaplanFloor,
    "overtrain": Overtrain,
    "data_constrained": DataConstrained,
    "repeat_penalty": RepeatPenalty,
    "learning_curve": LearningCurve,
    "sigmoid_link": SigmoidLink,
    "exp_link": ExpLink,
    "exp_power": ExpPower,
}
BUILT_IN = frozenset(LAWS)


def get_law(law: str | Law, breaks: int = 1) -> Law:
    """A law by name (or the law itself)."""
    if isinstance(law, Law):
        return law
    if law not in LAWS:
        raise ValueError(f"law={law!r}: choose one of {', '.join(LAWS)}")
    return BrokenPower(breaks) if law == "broken_power" else LAWS[law]()


def remember(law: Law) -> Law:
    """Register a law of the user's by its name, so that its fits can predict.

    Raises:
        ValueError: if its name is that of another law.
    """
    if law.name not in LAWS:
        register(lambda: law)
    elif type(LAWS[law.name]()) is not type(law) and law.name in BUILT_IN:
        raise ValueError(f"there is a law named {law.name!r}: give {type(law).__name__} another")
    elif law.name not in BUILT_IN:
        LAWS[law.name] = lambda: law
    return law


def register(law: Callable[[], Law]) -> Callable[[], Law]:
    """Class decorator: make a law of your own available by its name."""
    LAWS[law().name] = law
    return law


__all__ = [
    "LAWS",
    "Array",
    "BrokenPower",
    "Columns",
    "DataConstrained",
    "ExpLink",
    "ExpPower",
    "Joint",
    "JointOuter",
    "JointTied",
    "Kaplan",
    "KaplanFloor",
    "Law",
    "LearningCurve",
    "LogLinear",
    "Overtrain",
    "Parameter",
    "Power",
    "PowerFloor",
    "RepeatPenalty",
    "ShiftedPower",
    "SigmoidLink",
    "SumLaw",
    "Term",
    "get_law",
    "register",
]
