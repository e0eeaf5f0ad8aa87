"""Optimizer parameter groups and learning-rate schedules in plain torch."""

from typing import Any

from fmscale.public import load

# What configurations name, and the module where it lies today; see `fmscale.public`.
PUBLIC = {
    "adamw": "param_groups",
    "constant": "schedules",
    "cosine": "schedules",
    "wsd": "schedules",
}


def __getattr__(name: str) -> Any:
    return load(__name__, PUBLIC, name)
