"""Where each pair of a source lies and what it says: listed once, mapped into memory afterwards.

With `transform` the pictures are decoded once and kept at the model's size; otherwise they are read
from the source at every step, which suits sets too large to keep twice.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from fmscale.data.cache_folder import open_whole
from fmscale.data.image_text.image_transforms import ImageTransform, UnreadableImage, decode
from fmscale.data.image_text.pair_sources import WHOLE_FILE, Listed, PairSource, Place

log = logging.getLogger(__name__)

FORMAT_VERSION = 2  # of files, and of what is read of a source; part of a cache's name
SILENT = nullcontext(lambda n: None)
SKIPPED_SHOWN = 20  # names of skipped pairs kept in the manifest


@dataclass(frozen=True)
class PairIndex:
    """The pairs of a source, by number."""

    folder: Path
    root: Path
    manifest: dict[str, Any]
    files: list[str]
    places: np.ndarray  # (n, 3) int64: number of the file, offset, size
    caption_ends: np.ndarray  # (n,) int64, into captions
    captions: np.ndarray  # bytes of all captions, UTF-8
    picture_ends: np.ndarray | None  # (n,) int64, into pictures; None: not kept
    picture_sizes: np.ndarray | None  # (n, 2) height and width
    pictures: np.ndarray | None  # bytes of all pictures

    def __len__(self) -> int:
        return len(self.places)

    def caption(self, item: int) -> str:
        start = self.caption_ends[item - 1] if item else 0
        return self.captions[start : self.caption_ends[item]].tobytes().decode()

    def pixels(self, item: int, transform: ImageTransform) -> np.ndarray:
        """(H, W, 3) uint8, the shorter side at the model's size.

        Raises:
            UnreadableImage: naming the file.
        """
        if self.pictures is None:
            number, offset, size = self.places[item].tolist()
            return read_picture(self.root, Place(self.files[number], offset, size), transform)
        assert self.picture_ends is not None
        assert self.picture_sizes is not None
        start = self.picture_ends[item - 1] if item else 0
        height, width = self.picture_sizes[item].tolist()
        return self.pictures[start : self.picture_ends[item]].reshape(height, width, 3)


def read_picture(root: Path, place: Place, transform: ImageTransform) -> np.ndarray:
    """The pixels of one image file or member, at the model's size."""
    path = root / place.file
    try:
        with open(path, "rb") as file:
            file.seek(place.offset)
            content = file.read(place.size if place.size != WHOLE_FILE else -1)
        return transform.shrink(decode(content))
    except (UnreadableImage, OSError) as error:
        raise UnreadableImage(f"{path} at byte {place.offset}: {error}") from error


def open_index(
    folder: Path,
    source: PairSource,
    transform: ImageTransform | None,
    max_broken: float,
    max_kept_bytes: float = float("inf"),
    report: AbstractContextManager[Callable[[int], None]] = SILENT,
) -> PairIndex:
    """Map an index; all pairs are listed first where there is none, or a damaged one.

    Args:
        transform: keep the decoded pictures at its size; None keeps none.
        max_broken: share of pairs that may lack a part or hold an unreadable image.
        max_kept_bytes: refuse to keep more than this of decoded pictures.
        report: entered while pairs are listed; its value is called with their number so far.

    Raises:
        ValueError: if there are no pairs, or more are broken than allowed.
    """

    def build(building: Path) -> dict[str, Any]:
        with report as tell, _Writer(building, source, transform, max_kept_bytes) as writer:
            for n, listed in enumerate(source.pairs()):
                writer.add(listed)
                if n % 1000 == 999:
                    tell(n + 1)
        writer.check(max_broken)
        return {"format": FORMAT_VERSION, "kind": source.kind, **writer.summary()}

    return _mapped(folder, source.root, open_whole(folder, build))


class _Writer:
    """Appends pairs to the files of an index."""

    def __init__(
        self,
        folder: Path,
        source: PairSource,
        transform: ImageTransform | None,
        max_kept_bytes: float,
    ) -> None:
        self.max_kept_bytes = max_kept_bytes
        self.folder, self.source, self.transform = folder, source, transform
        self.numbers: dict[str, int] = {}
        self.places: list[tuple[int, int, int]] = []
        self.caption_ends: list[int] = []
        self.picture_ends: list[int] = []
        self.picture_sizes: list[tuple[int, int]] = []
        self.n_broken = dict.fromkeys(
            ("without_caption", "without_image", "malformed", "unreadable"), 0
        )
        self.skipped: list[str] = []
        self.digest = hashlib.sha256()

    def __enter__(self) -> _Writer:
        self.captions: BinaryIO = open(self.folder / "captions.bin", "wb")
        self.pictures: BinaryIO = open(self.folder / "pictures.bin", "wb")
        return self

    def __exit__(self, *error: object) -> None:
        self.captions.close()
        self.pictures.close()
        np.save(self.folder / "places.npy", np.array(self.places, dtype=np.int64).reshape(-1, 3))
        np.save(self.folder / "caption_ends.npy", np.array(self.caption_ends, dtype=np.int64))
        if self.transform is not None:
            np.save(self.folder / "picture_ends.npy", np.array(self.picture_ends, dtype=np.int64))
            sizes = np.array(self.picture_sizes, dtype=np.int32).reshape(-1, 2)
            np.save(self.folder / "picture_sizes.npy", sizes)
        (self.folder / "files.json").write_text(json.dumps(list(self.numbers)))

    def add(self, listed: Listed) -> None:
        key, image, caption, problem = listed
        if problem is not None:
            return self._skip("malformed", f"{key} ({problem})")
        if image is None or caption is None:
            return self._skip("without_image" if image is None else "without_caption", key)
        if self.transform is not None:
            try:
                pixels = read_picture(self.source.root, image, self.transform)
            except UnreadableImage as error:
                return self._skip("unreadable", f"{key} ({error})")
            self.pictures.write(pixels.tobytes())
            if self.pictures.tell() > self.max_kept_bytes:
                raise ValueError(
                    f"the decoded images exceed {self.max_kept_bytes / 2**30:.3g} GB after "
                    f"{len(self.places) + 1} pairs. Set data.keep_decoded=false to decode them at "
                    "every step, or raise data.max_kept_gigabytes."
                )
            self.picture_ends.append(self.pictures.tell())
            self.picture_sizes.append(pixels.shape[:2])
        number = self.numbers.setdefault(image.file, len(self.numbers))
        self.places.append((number, image.offset, image.size))
        self.captions.write(caption.encode())
        self.caption_ends.append(self.captions.tell())
        # Image bytes are not read again for this; a file's name and size stand for them.
        self.digest.update(json.dumps([key, image.size, caption]).encode())
        return None

    def _skip(self, why: str, what: str) -> None:
        self.n_broken[why] += 1
        if len(self.skipped) < SKIPPED_SHOWN:
            self.skipped.append(f"{what}: {why.replace('_', ' ')}")

    def check(self, max_broken: float) -> None:
        n_broken, n_good = sum(self.n_broken.values()), len(self.places)
        counts = ", ".join(f"{n} {why.replace('_', ' ')}" for why, n in self.n_broken.items() if n)
        files = self.source.files()
        where = files[0] if len(files) == 1 else self.source.root
        if n_good == 0:
            raise ValueError(
                f"{where} holds no image with a caption ({counts or 'nothing at all'}). A tar "
                'needs members KEY.jpg (png, webp) with KEY.txt, or KEY.json with "caption"; a '
                f"table needs paths that exist.{self._first()}"
            )
        if n_broken > max_broken * (n_good + n_broken):
            raise ValueError(
                f"{where}: {n_broken} of {n_good + n_broken} pairs are broken ({counts}), more "
                f"than data.max_broken = {max_broken:g} of them.{self._first()} "
                "Repair the data, or raise data.max_broken to skip them."
            )
        if n_broken:
            log.warning("warning: %s: %d of %d pairs are skipped (%s).%s", where, n_broken,
                        n_good + n_broken, counts, self._first())  # fmt: skip

    def _first(self) -> str:
        return f" The first: {self.skipped[0]}." if self.skipped else ""

    def summary(self) -> dict[str, Any]:
        return {
            "content_sha256": self.digest.hexdigest(),
            "n_pairs": len(self.places),
            "n_skipped": self.n_broken,
            "skipped": self.skipped,
            "n_files": len(self.source.files()),
        }


def _mapped(folder: Path, root: Path, manifest: dict[str, Any]) -> PairIndex:
    kept = (folder / "picture_ends.npy").exists()
    return PairIndex(
        folder,
        root,
        manifest,
        json.loads((folder / "files.json").read_text()),
        np.load(folder / "places.npy", mmap_mode="r"),
        np.load(folder / "caption_ends.npy", mmap_mode="r"),
        np.asarray(np.memmap(folder / "captions.bin", dtype=np.uint8, mode="r")),
        np.load(folder / "picture_ends.npy", mmap_mode="r") if kept else None,
        np.load(folder / "picture_sizes.npy", mmap_mode="r") if kept else None,
        np.asarray(np.memmap(folder / "pictures.bin", dtype=np.uint8, mode="r")) if kept else None,
    )
