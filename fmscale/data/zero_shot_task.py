"""A task of image classification: images, labels and the texts that stand for the classes."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np


class Images(Protocol):
    """An array (n, 3, H, W), or what reads rows of one from disk: uint8 or normalised float."""

    def __len__(self) -> int: ...

    def __getitem__(self, rows: slice | np.ndarray, /) -> np.ndarray: ...


@dataclass(frozen=True)
class Rows:
    """Some rows of images, read when they are asked for."""

    images: Images
    rows: np.ndarray  # (n,) of `images`

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, rows: slice | np.ndarray) -> np.ndarray:
        return self.images[self.rows[rows]]


@dataclass(frozen=True)
class ZeroShotTask:
    """Classification by text (Radford et al. 2021, Sec. 3.1), as plain arrays.

    `candidates` restricts each image to some of the classes: a relation is asked about two given
    objects, so that its four answers differ from image to image. `fit_images` are further images
    for what learns from examples (probes, neighbours, fine-tuning); what is scored is `images`.
    """

    name: str  # part of the record's column, zero_shot_<name>_accuracy
    class_names: tuple[str, ...]
    templates: tuple[str, ...]  # each with one {} for the class name
    images: Images  # (n, 3, H, W)
    labels: np.ndarray  # (n,) index into class_names
    candidates: np.ndarray | None = None  # (n, n_way) indices into class_names; None: all
    fit_images: Images | None = None  # (n_fit, 3, H, W)
    fit_labels: np.ndarray | None = None  # (n_fit,)
    named: bool = True  # False: the captions' language has no words for the classes; only probed

    def __post_init__(self) -> None:
        if not self.class_names:
            raise ValueError(f"task {self.name}: class_names is empty. Give at least two classes.")
        duplicates = {name for name in self.class_names if self.class_names.count(name) > 1}
        if duplicates:
            raise ValueError(
                f"task {self.name}: class_names has {sorted(duplicates)} more than once. "
                "Give every class another name."
            )
        if not self.templates:
            raise ValueError(f"task {self.name}: templates is empty. Give at least '{{}}'.")
        for template in self.templates:
            if template.count("{}") != 1:
                raise ValueError(
                    f"task {self.name}: template {template!r} needs exactly one {{}} "
                    "where the class name goes."
                )
        for images, labels in ((self.images, self.labels), (self.fit_images, self.fit_labels)):
            n_images, n_labels = (0 if part is None else len(part) for part in (images, labels))
            if n_images != n_labels or (n_images == 0 and images is self.images):
                raise ValueError(
                    f"task {self.name}: {n_images} images and {n_labels} labels. "
                    "Give one label for every image, and at least one image."
                )
            if labels is not None and not 0 <= labels.min() <= labels.max() < len(self.class_names):
                raise ValueError(
                    f"task {self.name}: labels from {labels.min()} to {labels.max()} for "
                    f"{len(self.class_names)} classes. Give indices into class_names."
                )
        if self.candidates is not None:
            assert (self.candidates == self.labels[:, None]).sum(axis=1).all()

    @property
    def n_way(self) -> int:
        """Classes to choose from for one image."""
        return len(self.class_names) if self.candidates is None else self.candidates.shape[1]

    @property
    def chance(self) -> float:
        """Accuracy of a blind guess."""
        return 1 / self.n_way

    def with_fitting_images(self) -> ZeroShotTask:
        """Itself where it has some; otherwise its images cut in two `halves`."""
        if self.fit_images is not None:
            return self
        fit, scored = halves(self.labels)
        return replace(
            self,
            images=Rows(self.images, scored),
            labels=self.labels[scored],
            fit_images=Rows(self.images, fit),
            fit_labels=self.labels[fit],
        )

    def prompts(self) -> list[str]:
        """All texts, class after class, each in every template."""
        return [t.format(name) for name in self.class_names for t in self.templates]


def halves(labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rows to fit on and rows to score on: every other image of each class, (n / 2,) each."""
    order = np.argsort(labels, kind="stable")
    return np.sort(order[::2]), np.sort(order[1::2])
