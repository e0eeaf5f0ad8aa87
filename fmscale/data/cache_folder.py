"""Folders of prepared data: built under a temporary name, so that one is whole or not there.

The manifest holds the SHA-256 of every file; they are compared before anything is trained or
measured on, and a damaged folder is built again.
"""

from __future__ import annotations

import logging
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fmscale.data.checksums import REMEDY, holds, sha256, to_disk
from fmscale.runs.files import Broken, read_sealed, write_sealed
from fmscale.runs.lock import one_at_a_time

MANIFEST = "manifest.json"  # what is in the folder; a folder without it is none of ours
FILES = "files"  # its key: name of each file -> SHA-256

log = logging.getLogger(__name__)


def open_whole(folder: Path, build: Callable[[Path], dict[str, Any]]) -> dict[str, Any]:
    """The manifest of a folder, after its files were compared with it.

    A folder that is not there is built; one that is damaged is built again, and a line says so.

    Args:
        build: fills the folder that it is given and returns the manifest.

    Raises:
        ValueError: naming the folder, if it cannot be written, or is there without a manifest.
    """
    if not (folder / MANIFEST).exists():
        _build(folder, build)
    try:
        return _checked(folder)
    except Broken:
        # Several processes may find the damage: one takes the folder away.
        with one_at_a_time(folder.parent):
            try:
                return _checked(folder)
            except Broken as error:
                log.warning("%s", error)
                away = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
                folder.rename(away / folder.name)
        shutil.rmtree(away, ignore_errors=True)
        _build(folder, build)
        return _checked(folder)


def _checked(folder: Path) -> dict[str, Any]:
    manifest = read_sealed(folder / MANIFEST, REMEDY)
    files = manifest.pop(FILES, None)
    if not isinstance(files, dict):
        raise Broken(folder / MANIFEST, "is of an earlier release, without checksums", REMEDY)
    for name, expected in files.items():
        if not (folder / name).is_file() or not holds(folder / name, expected):
            raise Broken(folder / name, "is damaged (its checksum differs)", REMEDY)
    return manifest


def _build(folder: Path, build: Callable[[Path], dict[str, Any]]) -> None:
    """Build under a temporary name; the folder gets its own when it is whole.

    When several processes build one at once, the first rename wins and the others, having built
    the very same bytes, drop theirs.
    """
    if folder.exists() and not (folder / MANIFEST).exists():
        raise ValueError(
            f"{folder} is not whole: it lacks {MANIFEST}. Delete the folder; it is built again."
        )
    building: Path | None = None
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        building = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
        manifest = build(building)
        files = {str(p.relative_to(building)): sha256(p) for p in sorted(building.rglob("*"))}
        for name in files:
            to_disk(building / name)
        write_sealed(building / MANIFEST, {**manifest, FILES: files})
        to_disk(building)
        building.chmod(0o755)  # mkdtemp makes it private to its owner
        try:
            building.rename(folder)
            to_disk(folder.parent)
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
