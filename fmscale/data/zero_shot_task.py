"""A zero-shot task: images, labels and the texts that stand for the classes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class ZeroShotTask:
    """Classification by text (Radford et al. 2021, Sec. 3.1), as plain arrays.

    `candidates` restricts each image to some of the classes: a relation is asked about two given
    objects, so that its four answers differ from image to image.
    """

    name: str  # part of the record's column, zero_shot_<name>_accuracy
    class_names: tuple[str, ...]
    templates: tuple[str, ...]  # each with one {} for the class name
    images: np.ndarray  # (n, 3, H, W) uint8
    labels: np.ndarray  # (n,) index into class_names
    candidates: np.ndarray | None = None  # (n, n_way) indices into class_names; None: all

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
        if len(self.images) != len(self.labels) or len(self.images) == 0:
            raise ValueError(
                f"task {self.name}: {len(self.images)} images and {len(self.labels)} labels. "
                "Give one label for every image, and at least one image."
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

    def prompts(self) -> list[str]:
        """All texts, class after class, each in every template."""
        return [t.format(name) for name in self.class_names for t in self.templates]
