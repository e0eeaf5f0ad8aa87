"""What is said of trackers before training: which cannot be reached, and what they do not get."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from fmscale.config.build import build_tracker
from fmscale.errors import ConfigError
from fmscale.runs.identity import canonical
from fmscale.runs.store import Study
from fmscale.tracking.wandb import WandbTracker


def reach_trackers(configs: Iterable[Mapping[str, Any]]) -> None:
    """Say once, before any training, which trackers cannot be reached; ConfigError if asked for."""
    for study, tracker in _trackers(configs):
        try:
            problem = tracker.reach() if hasattr(tracker, "reach") else None
        except ConnectionError as error:
            raise ConfigError(str(error)) from error
        if problem is not None:
            print(f"{problem}; upload the runs later with {_push(study)}")


def tell_of_copies(configs: Iterable[Mapping[str, Any]]) -> None:
    """Runs that other studies have trained do not go to W&B by themselves."""
    for study, tracker in _trackers(configs):
        if isinstance(tracker, WandbTracker) and tracker.mode != "disabled":
            print(f"W&B has them in the other study's group; {_push(study)} adds them to this one.")


def _trackers(configs: Iterable[Mapping[str, Any]]) -> list[tuple[Study, Any]]:
    """The different trackers of some runs, each with the first study that uses it."""
    different: dict[str, Mapping[str, Any]] = {}
    for config in configs:
        different.setdefault(canonical(config["logger"]), config)
    return [
        (Study.open(config["paths"]["runs_dir"], str(config["study"])), build_tracker(config))
        for config in different.values()
    ]


def _push(study: Study) -> str:
    store = "" if str(study.path.parent) == "runs" else f" --runs-dir {study.path.parent}"
    return f"`fmscale wandb push {study.path.name}{store}`"
