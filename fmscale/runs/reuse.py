"""Work that lies in the store already, under another study: found by id, and taken over whole.

A run's id says everything that changes its numbers and nothing of the study it was trained for.
"""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from fmscale.runs.checkpoint_paths import path_of, steps_saved
from fmscale.runs.files import Broken
from fmscale.runs.lock import Held
from fmscale.runs.store import RunFolder, Study

log = logging.getLogger(__name__)

# What makes a finished run, the record last; locks, tracebacks and W&B's files stay where they are.
KEPT = ("config.yaml", "metrics.jsonl", "tables", "checkpoints", "status.json", "record.json")


def others(study: Study) -> Iterator[Study]:
    """The other studies of the same store, by name."""
    if study.path.parent.is_dir():
        for folder in sorted(study.path.parent.iterdir()):
            if folder.is_dir() and folder.name != study.path.name and folder.name[0] != ".":
                yield Study(folder)


def finished_elsewhere(study: Study, run_id: str) -> RunFolder | None:
    """A finished run of this id in another study, if there is one whose record can be read."""
    for other in others(study):
        folder = other.run(run_id)
        if folder.is_finished():
            try:
                folder.record()
            except Broken as error:
                log.warning("%s", error)
            else:
                return folder
    return None


def trunk_steps(study: Study, trunk_id: str, *, elsewhere: bool = True) -> dict[int, str | None]:
    """Steps after which a checkpoint of a trunk exists -> the study that has it.

    None stands for `study` itself, which is preferred where several have one, and the only one
    that is asked without `elsewhere`.
    """
    found: dict[int, str | None] = {}
    for other in others(study) if elsewhere else ():
        for step in steps_saved(other.trunk(trunk_id).checkpoints):
            found.setdefault(step, other.path.name)
    return found | dict.fromkeys(steps_saved(study.trunk(trunk_id).checkpoints), None)


def adopt_run(source: RunFolder, study: Study) -> bool:
    """Take a finished run over into `study`: the same record, under the same id.

    Inside, its record still names the study that it was trained for; whoever reads it goes by the
    folder. Weights are linked where the file system can, so they are not stored twice. The record
    comes last: broken off anywhere before, the run counts as missing.

    Returns:
        False if another process trains or has just finished it here, or if the source is gone.
    """
    target = study.run(source.run_id)
    try:
        with target.lock():
            if target.is_finished():
                return False
            for name in KEPT:  # begun here, or waiting in the queue
                _remove(target.path / name)
            target.clear_traceback()
            for path in (source.path / name for name in KEPT):
                for file in sorted(path.iterdir()) if path.is_dir() else [path]:
                    place = target.path / file.relative_to(source.path)
                    place.parent.mkdir(exist_ok=True)
                    _take(file, place, link=path.name == "checkpoints")
    except Held:
        return False
    return target.is_finished()


def adopt_trunk(source: RunFolder, study: Study, step: int) -> bool:
    """Take a trunk's checkpoint after `step` steps over, with its metrics; False if it is gone."""
    target = study.trunk(source.run_id)
    try:
        with target.lock():
            own = [row for row in target.metrics() if row["step"] > step]
            rows = [row for row in source.metrics() if row["step"] <= step]
            target.checkpoints.mkdir(exist_ok=True)
            target.reset_metrics([*rows, *own])  # rows without a checkpoint do no harm
            paths = (path_of(folder.checkpoints, step) for folder in (source, target))
            return _take(*paths, link=True)
    except Held:
        return False


def _take(source: Path, target: Path, *, link: bool) -> bool:
    """One file, whole or not at all; False if there is none (any more)."""
    whole = target.with_name(f".{target.name}.adopted")  # debris, as far as others are concerned
    whole.unlink(missing_ok=True)
    try:
        (_link if link else shutil.copy2)(source, whole)
    except FileNotFoundError:
        return False
    whole.replace(target)
    whole.unlink(missing_ok=True)  # two names of the same file are not renamed
    return True


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _link(source: str | Path, target: str | Path) -> None:
    try:
        os.link(source, target)  # checkpoints are never changed in place
    except OSError:
        shutil.copy2(source, target)
