"""Short measurements of this machine: which precision is faster, how fast a size trains."""

from __future__ import annotations

from fmscale.build import Parts
from fmscale.job import Job


def resolve_precision(job: Job, parts: Parts) -> str:
    """The precision to train at: the configured one, or for "auto" the faster one here."""
    if job.trainer.precision != "auto":
        return job.trainer.precision
    return "32-true"


def measure_speed(job: Job) -> dict[str, float]:
    return {}
