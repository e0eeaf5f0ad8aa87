"""Work that lies in the store already, under another study: found by id, and taken over whole.

A run's id says everything that changes its numbers and nothing of the study it was trained for.
"""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from fmscale.runs.store import RunFolder, Study

# What makes a finished run; locks, tracebacks and W&B's files stay where they are.
KEPT = ("config.yaml", "record.json", "metrics.jsonl", "status.json", "checkpoints")


def others(study: Study) -> Iterator[Study]:
    """The other studies of the same store, by name."""
    if study.path.parent.is_dir():
        for folder in sorted(study.path.parent.iterdir()):
            if folder.is_dir() and folder.name != study.path.name and folder.name[0] != ".":
                yield Study(folder)


def finished_elsewhere(study: Study, run_id: str) -> RunFolder | None:
    """A finished run of this id in another study, if there is one."""
    for other in others(study):
        if other.run(run_id).is_finished():
            return other.run(run_id)
    return None


def trunk_steps(study: Study, trunk_id: str) -> dict[int, str | None]:
    """Steps after which a checkpoint of a trunk exists -> the study that has it.

    None stands for `study` itself, which is preferred where several have one.
    """
    found: dict[int, str | None] = {}
    for other in others(study):
        for step in _steps(other.trunk(trunk_id)):
            found.setdefault(step, other.path.name)
    return found | dict.fromkeys(_steps(study.trunk(trunk_id)), None)


def adopt_run(source: RunFolder, study: Study) -> RunFolder:
    """Take a finished run over into `study`: the same record, under the same id.

    The record keeps the name of the study it was trained for. Files are linked where the file
    system can, so weights are not stored twice. Atomic: the folder appears whole.
    """
    target = study.run(source.run_id)
    with tempfile.TemporaryDirectory(prefix=f".{source.run_id}.", dir=study.path) as scratch:
        whole = Path(scratch) / "run"
        whole.mkdir()
        for name in KEPT:
            path = source.path / name
            if path.is_dir():
                shutil.copytree(path, whole / name, copy_function=_link)
            elif path.exists():
                shutil.copy2(path, whole / name)
        if target.path.exists():  # begun here, or waiting in the queue
            target.path.rename(Path(scratch) / "begun")
        whole.rename(target.path)
    return target


def adopt_trunk(source: RunFolder, study: Study, step: int) -> None:
    """Take a trunk's checkpoint after `step` steps over, with its metrics up to there."""
    target = study.trunk(source.run_id)
    target.checkpoints.mkdir(parents=True, exist_ok=True)
    own = [row for row in target.metrics() if row["step"] > step]
    rows = [row for row in source.metrics() if row["step"] <= step]
    target.reset_metrics([*rows, *own])
    name = _file(step)
    with tempfile.TemporaryDirectory(prefix=".adopt.", dir=target.checkpoints) as scratch:
        _link(source.checkpoints / name, Path(scratch) / name)
        (Path(scratch) / name).replace(target.checkpoints / name)


def _link(source: str | Path, target: str | Path) -> None:
    try:
        os.link(source, target)  # checkpoints are never changed in place
    except OSError:
        shutil.copy2(source, target)


def _steps(trunk: RunFolder) -> list[int]:
    matches = (re.fullmatch(r"step_(\d+)\.pt", path.name) for path in trunk.checkpoints.glob("*"))
    return sorted(int(match[1]) for match in matches if match)


def _file(step: int) -> str:
    return f"step_{step:09d}.pt"
