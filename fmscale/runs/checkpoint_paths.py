"""Where the checkpoints of a run lie: one path for each step."""

from __future__ import annotations

import re
from collections.abc import Collection
from pathlib import Path

WHOLE = ".pt"  # a file
PARTS = ".parts"  # a folder, to which several processes have written


def path_of(folder: Path, step: int, kind: str = WHOLE) -> Path:
    """The checkpoint after `step` steps."""
    return folder / f"step_{step:09d}{kind}"


def steps_saved(folder: Path, kind: str = WHOLE) -> list[int]:
    """Steps of all checkpoints of a kind in `folder`, ascending."""
    pattern = re.compile(rf"step_(\d{{9,}}){re.escape(kind)}")
    matches = (pattern.fullmatch(path.name) for path in folder.glob("step_*"))
    return sorted(int(match[1]) for match in matches if match)


def surplus(folder: Path, kind: str = WHOLE, *, keep: Collection[int], newest: int) -> list[Path]:
    """All checkpoints of a kind, except those after the steps `keep` and the `newest` others."""
    others = [step for step in steps_saved(folder, kind) if step not in keep]
    return [path_of(folder, step, kind) for step in others[: max(0, len(others) - newest)]]
