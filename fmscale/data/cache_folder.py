"""Folders of prepared data: built under a temporary name, so that one is whole or not there."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

MANIFEST = "manifest.json"  # what is in the folder; a folder without it is none of ours


@contextmanager
def built_whole(folder: Path) -> Iterator[Path]:
    """A temporary folder to be filled, manifest included; it is `folder` afterwards.

    When several processes build one at once, the first rename wins and the others, having built
    the very same bytes, drop theirs.

    Raises:
        ValueError: naming the folder, if it cannot be written, or is there without a manifest.
    """
    if folder.exists() and not (folder / MANIFEST).exists():
        raise ValueError(
            f"{folder} is not whole: it lacks {MANIFEST}. Delete the folder; it is built again."
        )
    building: Path | None = None
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        building = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
        yield building
        building.chmod(0o755)  # mkdtemp makes it private to its owner
        try:
            building.rename(folder)
        except OSError:
            if not (folder / MANIFEST).exists():  # not merely another process first
                raise
    except OSError as error:
        raise ValueError(
            f"{folder} cannot be written ({error.strerror or error}). Free some space there, or "
            "choose another place: paths.data_dir=..."
        ) from error
    finally:
        if building is not None:
            shutil.rmtree(building, ignore_errors=True)
