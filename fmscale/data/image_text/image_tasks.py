"""Image folders and CIFAR as tasks of classification: zero-shot, probes, fine-tuning.

A folder holds one folder of images for each class, or `train` and `test` (or `val`) with these:
then probes learn from `train`, and `test` is scored. Images are decoded once (`task_images`).
Beside them may lie `class_names.txt` (a line "folder<TAB>name in words" for each class) and
`templates.txt` (a line with one {} for each template). Without them a class is called by its
folder, and the template is CLIP's own.
"""

from __future__ import annotations

import pickle
import re
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from PIL import Image

from fmscale.data.file_names import is_hidden
from fmscale.data.image_text.image_transforms import ImageTransform
from fmscale.data.image_text.pair_sources import IMAGE_SUFFIXES
from fmscale.data.image_text.task_images import TaskImages, decoded_once
from fmscale.data.zero_shot_task import ZeroShotTask

TEMPLATES = ("a photo of a {}.",)  # Radford et al. 2021, Sec. 3.1.4
SCORED = ("test", "val", "validation")


def image_task(
    folder: str | Path, transform: ImageTransform, kept: Path, max_broken: float = 0.0
) -> ZeroShotTask:
    """The task in a folder, named after it.

    Args:
        folder: of classes, or CIFAR's.
        kept: where decoded images are kept.
        max_broken: share of its images that may be unreadable; they are left out.

    Raises:
        ValueError: naming the place, if the folder is missing, empty, or holds more unreadable
            images, or a name or template that cannot be used.
    """
    root = Path(folder).expanduser()
    if not root.is_dir():
        raise ValueError(
            f"data.tasks: {str(folder)!r} is no folder. Give one with a folder a class."
        )
    name = re.sub(r"[^a-z0-9]+", "_", root.resolve().name.lower()).strip("_")
    templates = tuple(_lines(root / "templates.txt") or TEMPLATES)
    if (root / "batches.meta").exists() or (root / "meta").is_file():
        return _cifar(root, name, templates, transform)
    scored = next((root / part for part in SCORED if (root / part).is_dir()), root)
    classes = _classes(scored)
    spoken = _class_names(root / "class_names.txt", classes)

    def read(split: Path) -> tuple[TaskImages, np.ndarray]:
        paths, labels = _files(split, classes)
        images = decoded_once(paths, split, transform, kept / name, max_broken)
        labels = labels[images.rows]
        for label in set(range(len(classes))) - set(labels.tolist()):
            raise ValueError(f"data.tasks: no image of {split / classes[label]} can be read.")
        return images, labels

    images, labels = read(scored)
    fit_images = fit_labels = None
    if scored is not root and (root / "train").is_dir():
        fit_images, fit_labels = read(root / "train")
    try:
        return ZeroShotTask(name, spoken, templates, images, labels,
                            fit_images=fit_images, fit_labels=fit_labels)  # fmt: skip
    except ValueError as error:  # a name or a template: say in which folder
        raise ValueError(f"data.tasks: {root}: {error}") from error


def _classes(folder: Path) -> list[str]:
    folders = (path.name for path in folder.iterdir() if path.is_dir())
    classes = sorted(name for name in folders if not is_hidden(name))
    for name in classes:
        if name.encode(errors="ignore").decode() != name:
            raise ValueError(f"data.tasks: the folder {name!r} in {folder} is not named in UTF-8.")
    if len(classes) < 2:
        raise ValueError(
            f"data.tasks: {folder} holds {len(classes)} folders. A task needs one folder of images "
            "for each of at least two classes."
        )
    return classes


def _files(folder: Path, classes: list[str]) -> tuple[list[Path], np.ndarray]:
    """The image files of all classes, and their labels."""
    paths: list[Path] = []
    labels: list[int] = []
    for label, name in enumerate(classes):
        if not (folder / name).is_dir():
            raise ValueError(f"data.tasks: {folder} lacks the folder {name!r} of a class.")
        own = sorted(
            path
            for path in (folder / name).rglob("*")
            if path.suffix.lower().lstrip(".") in IMAGE_SUFFIXES
            and not is_hidden(path.relative_to(folder))
        )
        if not own:
            raise ValueError(
                f"data.tasks: {folder / name} holds no image ({', '.join(IMAGE_SUFFIXES)})."
            )
        paths += own
        labels += [label] * len(own)
    return paths, np.array(labels)


def _class_names(path: Path, classes: list[str]) -> tuple[str, ...]:
    """Names in words, in the order of the folders; the folders' own without the file."""
    spoken = dict(zip(classes, (name.replace("_", " ") for name in classes), strict=True))
    named: set[str] = set()
    for number, line in enumerate(_lines(path), start=1):
        folder, tab, words = line.partition("\t")
        if folder in named:
            raise ValueError(
                f"{path}, line {number}: {folder!r} has a name already. Give each class one."
            )
        named.add(folder)
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
    try:
        lines = [line for line in path.read_text(encoding="utf-8").split("\n") if line.strip()]
    except UnicodeDecodeError as error:
        raise ValueError(f"data.tasks: {path} is not UTF-8 ({error}). Convert it.") from error
    if not lines:
        raise ValueError(f"{path} is empty. Fill it, or delete it to take what is usual.")
    return lines


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
) -> tuple[TaskImages, np.ndarray]:
    batches = [_unpickle(root / file) for file in files]
    key = "labels" if "labels" in batches[0] else "fine_labels"
    labels = np.concatenate([np.array(batch[key]) for batch in batches])
    data = np.concatenate([batch["data"] for batch in batches])
    pixels = data.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
    squares = np.stack([transform.center(transform.shrink(Image.fromarray(p))) for p in pixels])
    return TaskImages(squares, transform), labels


def _unpickle(path: Path) -> dict[str, Any]:
    try:
        with open(path, "rb") as file:
            found = _ArraysOnly(file, encoding="latin1").load()
    except (OSError, ValueError, pickle.UnpicklingError, EOFError) as error:
        raise ValueError(f"data.tasks: {path} cannot be read: {error}") from error
    return {k.decode() if isinstance(k, bytes) else k: v for k, v in found.items()}
