"""Optimizer parameter groups and learning-rate schedules in plain torch."""

from fmscale.public import shown

# What configurations name, and the module where it lies today; see `fmscale.public`.
PUBLIC = {
    "adamw": "param_groups",
    "constant": "schedules",
    "cosine": "schedules",
    "wsd": "schedules",
}
__getattr__ = shown(__name__, PUBLIC)
