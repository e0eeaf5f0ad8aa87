"""The images of a classification task: decoded once, kept at the model's size, mapped into memory.

Every run of a sweep is measured on the same images, and a file that cannot be read must show
before anything is trained. So all are decoded when a task is first opened.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from pathlib import Path

import numpy as np

from fmscale.data.checksums import noted, to_disk
from fmscale.data.image_text.image_transforms import ImageTransform, UnreadableImage
from fmscale.data.image_text.pair_index import FORMAT_VERSION, read_picture
from fmscale.data.image_text.pair_sources import WHOLE_FILE, Place


class TaskImages:
    """Squares (n, S, S, 3) uint8, normalised when their rows are asked for.

    `rows` are those that could be read; None: all.
    """

    def __init__(
        self, squares: np.ndarray, transform: ImageTransform, rows: np.ndarray | None = None
    ) -> None:
        self.squares, self.transform = squares, transform
        self.rows = np.arange(len(squares)) if rows is None else rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, rows: slice | np.ndarray) -> np.ndarray:
        """(n, 3, S, S) float32."""
        return self.transform.normalize(self.squares[self.rows[rows]])

    @property
    def n_unreadable(self) -> int:
        """Files that were left out."""
        return len(self.squares) - len(self.rows)


def decoded_once(
    paths: list[Path], root: Path, transform: ImageTransform, kept: Path, max_broken: float
) -> TaskImages:
    """The middle squares of image files, from `kept` if these files were decoded before.

    Args:
        paths: the files, below `root`.
        kept: folder of decoded images; one file for each state of `paths` and each size.
        max_broken: share of the files that may be unreadable.

    Raises:
        ValueError: naming the first unreadable file, if there are more.
    """
    states = [(str(p.relative_to(root)), (s := p.stat()).st_size, s.st_mtime_ns) for p in paths]
    content = json.dumps([FORMAT_VERSION, transform.image_size, states])
    key = hashlib.sha256(content.encode()).hexdigest()[:12]
    place = kept / f"{root.name}-{key}.npy"
    note = noted(place, lambda: {"unreadable": _decode(paths, transform, place)})
    unreadable: dict[str, str] = note["unreadable"]
    if len(unreadable) > max_broken * len(paths):
        raise ValueError(
            f"data.tasks: {len(unreadable)} of {len(paths)} images in {root} cannot be read, more "
            f"than data.max_broken = {max_broken:g} of them. The first: "
            f"{next(iter(unreadable.values()))}. Repair it or take it out, or raise "
            "data.max_broken to skip them."
        )
    readable = [row for row in range(len(paths)) if str(row) not in unreadable]
    return TaskImages(np.load(place, mmap_mode="r"), transform, np.array(readable, dtype=int))


def _decode(paths: list[Path], transform: ImageTransform, place: Path) -> dict[str, str]:
    """Write the squares of all files to `place`; returns the rows that stay black, and why."""
    from rich.progress import track

    size = transform.image_size
    unreadable: dict[str, str] = {}
    place.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(prefix=f".{place.name}.", dir=place.parent)
    os.close(handle)
    try:
        squares = np.lib.format.open_memmap(
            temporary, mode="w+", dtype=np.uint8, shape=(len(paths), size, size, 3)
        )
        for row, path in enumerate(track(paths, f"decoding {place.parent.name}", transient=True)):
            try:
                whole = read_picture(path.parent, Place(path.name, 0, WHOLE_FILE), transform)
            except UnreadableImage as error:
                unreadable[str(row)] = str(error)
                continue
            squares[row] = transform.center(whole)
        squares.flush()
        to_disk(Path(temporary))
        os.chmod(temporary, 0o644)  # mkstemp makes files that only the owner can read
        os.replace(temporary, place)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    return unreadable
