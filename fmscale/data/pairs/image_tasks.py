"""Image folders and CIFAR as tasks of classification: zero-shot, probes, fine-tuning.

A folder holds one folder of images for each class, or `train` and `test` (or `val`) with these:
then probes learn from `train`, and `test` is scored. Beside them may lie `class_names.txt` (a line
"folder<TAB>name in words" for each class) and `templates.txt` (a line with one {} for each
template). Without them a class is called by its folder, and the template is CLIP's own.
"""

from __future__ import annotations

import pickle
import re
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from PIL import Image

from fmscale.data.pairs.image_transforms import ImageTransform
from fmscale.data.pairs.pair_index import read_picture
from fmscale.data.pairs.pair_sources import IMAGE_SUFFIXES, WHOLE_FILE, Place
from fmscale.data.zero_shot_task import ZeroShotTask

TEMPLATES = ("a photo of a {}.",)  # Radford et al. 2021, Sec. 3.1.4
SCORED = ("test", "val", "validation")


class FileImages:
    """Image files, decoded and normalised when their rows are asked for."""

    def __init__(self, paths: list[Path], transform: ImageTransform) -> None:
        self.paths, self.transform = paths, transform

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, rows: slice | np.ndarray) -> np.ndarray:
        """(n, 3, S, S) float32."""
        chosen = self.paths[rows] if isinstance(rows, slice) else [self.paths[i] for i in rows]
        squares = [
            self.transform.center(
                read_picture(path.parent, Place(path.name, 0, WHOLE_FILE), self.transform)
            )
            for path in chosen
        ]
        return self.transform.normalize(np.stack(squares))


class ArrayImages:
    """Squares (n, S, S, 3) uint8 in memory, normalised when their rows are asked for."""

    def __init__(self, squares: np.ndarray, transform: ImageTransform) -> None:
        self.squares, self.transform = squares, transform

    def __len__(self) -> int:
        return len(self.squares)

    def __getitem__(self, rows: slice | np.ndarray) -> np.ndarray:
        """(n, 3, S, S) float32."""
        return self.transform.normalize(self.squares[rows])


def image_task(folder: str | Path, transform: ImageTransform) -> ZeroShotTask:
    """The task in a folder, named after it.

    Raises:
        ValueError: if the folder is missing, empty, or holds an unreadable image or name.
    """
    root = Path(folder).expanduser()
    if not root.is_dir():
        raise ValueError(
            f"data.tasks: {str(folder)!r} is no folder. Give one with a folder a class."
        )
    name = re.sub(r"[^a-z0-9]+", "_", root.resolve().name.lower()).strip("_")
    templates = _lines(root / "templates.txt") or list(TEMPLATES)
    if (root / "batches.meta").exists() or (root / "meta").is_file():
        return _cifar(root, name, tuple(templates), transform)
    scored = next((root / part for part in SCORED if (root / part).is_dir()), root)
    classes = _classes(scored)
    spoken = _class_names(root / "class_names.txt", classes)
    images, labels = _images(scored, classes, transform)
    fit_images = fit_labels = None
    if scored is not root and (root / "train").is_dir():
        fit_images, fit_labels = _images(root / "train", classes, transform)
    return ZeroShotTask(name, spoken, tuple(templates), images, labels,
                        fit_images=fit_images, fit_labels=fit_labels)  # fmt: skip


def _classes(folder: Path) -> list[str]:
    classes = sorted(path.name for path in folder.iterdir() if path.is_dir())
    if len(classes) < 2:
        raise ValueError(
            f"data.tasks: {folder} holds {len(classes)} folders. A task needs one folder of images "
            "for each of at least two classes."
        )
    return classes


def _images(
    folder: Path, classes: list[str], transform: ImageTransform
) -> tuple[FileImages, np.ndarray]:
    paths: list[Path] = []
    labels: list[int] = []
    for label, name in enumerate(classes):
        if not (folder / name).is_dir():
            raise ValueError(f"data.tasks: {folder} lacks the folder {name!r} of a class.")
        own = sorted(
            path
            for path in (folder / name).rglob("*")
            if path.suffix.lower().lstrip(".") in IMAGE_SUFFIXES
        )
        if not own:
            raise ValueError(
                f"data.tasks: {folder / name} holds no image ({', '.join(IMAGE_SUFFIXES)})."
            )
        paths += own
        labels += [label] * len(own)
    for path in paths:
        try:
            with Image.open(path):  # reads the header alone
                pass
        except OSError as error:
            raise ValueError(
                f"data.tasks: {path} cannot be read ({error}). Repair it or take it out."
            ) from error
    return FileImages(paths, transform), np.array(labels)


def _class_names(path: Path, classes: list[str]) -> tuple[str, ...]:
    """Names in words, in the order of the folders; the folders' own without the file."""
    spoken = dict(zip(classes, (name.replace("_", " ") for name in classes), strict=True))
    for number, line in enumerate(_lines(path), start=1):
        folder, tab, words = line.partition("\t")
        if not tab or folder not in spoken or not words.strip():
            raise ValueError(
                f"{path}, line {number}: {line!r} is not a class's folder, a tab and its name. "
                f"The folders are {classes}."
            )
        spoken[folder] = words.strip()
    return tuple(spoken[name] for name in classes)


def _lines(path: Path) -> list[str]:
    if not path.is_file():
        return []
    return [line for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]


class _ArraysOnly(pickle.Unpickler):
    """Reads CIFAR's files and refuses what could run code."""

    ALLOWED: ClassVar = {
        ("numpy.core.multiarray", "_reconstruct"),
        ("numpy._core.multiarray", "_reconstruct"),
        ("numpy", "ndarray"),
        ("numpy", "dtype"),
        ("_codecs", "encode"),
    }

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in self.ALLOWED:
            raise ValueError(f"it names {module}.{name}, which no CIFAR file does")
        return super().find_class(module, name)


def _cifar(
    root: Path, name: str, templates: tuple[str, ...], transform: ImageTransform
) -> ZeroShotTask:
    """CIFAR-10 or CIFAR-100 in the pickles of its authors (Krizhevsky 2009)."""
    ten = (root / "batches.meta").exists()
    meta = _unpickle(root / ("batches.meta" if ten else "meta"))
    names = meta["label_names" if ten else "fine_label_names"]
    train = [f"data_batch_{i}" for i in range(1, 6)] if ten else ["train"]
    images, labels = _cifar_split(root, ["test_batch" if ten else "test"], transform)
    fit_images, fit_labels = _cifar_split(root, train, transform)
    return ZeroShotTask(name, tuple(n.replace("_", " ") for n in names), templates, images, labels,
                        fit_images=fit_images, fit_labels=fit_labels)  # fmt: skip


def _cifar_split(
    root: Path, files: list[str], transform: ImageTransform
) -> tuple[ArrayImages, np.ndarray]:
    batches = [_unpickle(root / file) for file in files]
    key = "labels" if "labels" in batches[0] else "fine_labels"
    labels = np.concatenate([np.array(batch[key]) for batch in batches])
    data = np.concatenate([batch["data"] for batch in batches])
    pixels = data.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
    squares = np.stack([transform.center(transform.shrink(Image.fromarray(p))) for p in pixels])
    return ArrayImages(squares, transform), labels


def _unpickle(path: Path) -> dict[str, Any]:
    try:
        with open(path, "rb") as file:
            found = _ArraysOnly(file, encoding="latin1").load()
    except (OSError, ValueError, pickle.UnpicklingError, EOFError) as error:
        raise ValueError(f"data.tasks: {path} cannot be read: {error}") from error
    return {k.decode() if isinstance(k, bytes) else k: v for k, v in found.items()}
