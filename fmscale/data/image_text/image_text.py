"""Real image-text pairs as training data: webdataset tars, or a table of paths and captions.

`fmscale train data=webdataset data.root=... data.name=... model=clip/2x48 objective=contrastive`.
Pairs are listed once into an index (`pair_index`); which of them validate, and in which order the
others make up the data budget, depends on their number alone. A batch is a function of its items,
the seed and the step, so that a run can be resumed exactly.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from fmscale.data.counter_random import random_order
from fmscale.data.image_text.caption_table import CaptionTable
from fmscale.data.image_text.caption_tokens import CaptionTokens
from fmscale.data.image_text.image_tasks import image_task
from fmscale.data.image_text.image_transforms import (
    CLIP_MEAN,
    CLIP_STD,
    ImageTransform,
    UnreadableImage,
    crop_places,
)
from fmscale.data.image_text.pair_index import FORMAT_VERSION, PairIndex, open_index
from fmscale.data.image_text.pair_sources import PairSource, TarShards, fingerprint
from fmscale.data.protocol import check_val_batch_size
from fmscale.data.zero_shot_task import ZeroShotTask

if TYPE_CHECKING:
    from torch import Tensor

_SPLIT_STREAM = 0x5917
MAX_THREADS = 8
GIGABYTE = 1 << 30


class ImageText:
    """Image-caption pairs of a source.

    Args:
        name: the data set's name in records; part of a run's identity, as the place is not.
        data_dir: where the index is kept, in `<name>-<hash>/`.
        image_size: side in pixels.
        seq_len: tokens of a caption, its end included; longer ones are cut, and counted.
        tokenizer: "bytes", "bpe" (trained on the captions), or the path of a tokenizer.json.
        n_unique_samples: data budget U: distinct training pairs; None takes all.
        val_batch_size: pairs of one validation batch; the contrastive loss depends on it.
        tasks: folders of images by class, for zero-shot, probes and fine-tuning; see `image_tasks`.
        augment: cut a random square out of each image in training; otherwise the middle one.
        keep_decoded: decode every image once and keep it at the model's size.
        max_kept_gigabytes: refuse to keep more than this.
        max_broken: share of pairs that may lack a part or hold an unreadable image, and of images
            of a task that may be unreadable; they are skipped and counted.
        mean, std: of the channels, for normalising.
    """

    unit: Literal["samples"] = "samples"
    units_per_item = 1

    def __init__(
        self,
        source: PairSource,
        name: str,
        data_dir: str | os.PathLike[str],
        image_size: int,
        seq_len: int = 77,
        vocab_size: int = 258,
        tokenizer: str = "bytes",
        n_unique_samples: int | None = None,
        n_val_samples: int = 2048,
        val_batch_size: int = 256,
        tasks: Sequence[str] = (),
        augment: bool = True,
        keep_decoded: bool = True,
        max_kept_gigabytes: float = 20.0,
        max_broken: float = 0.01,
        mean: Sequence[float] = CLIP_MEAN,
        std: Sequence[float] = CLIP_STD,
    ) -> None:
        if not 2 <= val_batch_size <= n_val_samples:
            raise ValueError(
                f"data.val_batch_size = {val_batch_size}: give at least 2 (a contrast needs two "
                f"pairs) and at most data.n_val_samples = {n_val_samples}."
            )
        if not 0 <= max_broken < 1:
            raise ValueError(f"data.max_broken = {max_broken}: give a share from 0, below 1.")
        if n_unique_samples is not None and n_unique_samples < 1:
            raise ValueError(f"data.n_unique_samples = {n_unique_samples}: give at least 1.")
        if isinstance(tasks, str):
            raise ValueError(f"data.tasks = {tasks}: give a list of folders, data.tasks=[{tasks}].")
        self.source = source
        self.name = name
        self.data_dir = Path(data_dir)
        self.image_size = image_size
        self.transform = ImageTransform(image_size, _three(mean, "mean"), _three(std, "std"))
        self.captions = CaptionTokens(tokenizer, vocab_size, seq_len)
        self.seq_len = seq_len
        self.vocab_size = vocab_size
        self.n_unique_samples = n_unique_samples
        # A short last batch would have a lower loss than the others; it is dropped.
        self.n_val_samples = n_val_samples // val_batch_size * val_batch_size
        self.val_batch_size = val_batch_size
        self.task_folders = tuple(tasks)
        self.augment = augment
        self.keep_decoded = keep_decoded
        self.max_kept_gigabytes = max_kept_gigabytes
        self.max_broken = max_broken
        self._unreadable: set[int] = set()

    @property
    def tokenizer(self) -> Any:
        """What zero-shot prompts go through."""
        return self.captions.tokenizer(self._index)

    @property
    def n_items(self) -> int:
        """Distinct training pairs after the data budget."""
        n_train = len(self._index) - self.n_val_samples
        if self.n_unique_samples is not None and self.n_unique_samples > n_train:
            raise ValueError(
                f"data.n_unique_samples = {self.n_unique_samples}, but there are only {n_train} "
                "training pairs. Lower it, or set data.n_unique_samples=null to take all."
            )
        return self.n_unique_samples or n_train

    def prepare(self) -> None:
        """List, tokenize and, if asked, decode all pairs, unless that was done before; and the
        tasks, whose mistakes must show before anything is trained."""
        _ = self._tokens, self.n_items, self.zero_shot_tasks

    def train_batch(self, indices: np.ndarray) -> dict[str, Tensor]:
        """Pairs of the given items with the middle square of each image."""
        return self._batch(self._order[self.n_val_samples + indices], None)

    def augmented_batch(self, indices: np.ndarray, seed: int, step: int) -> dict[str, Tensor]:
        """{"image": (B, 3, S, S) float32, "text": (B, seq_len) int64}, as trained on at `step`."""
        items = self._order[self.n_val_samples + indices]
        return self._batch(items, crop_places(seed, items, step) if self.augment else None)

    def validation_batches(self, batch_size: int) -> Iterator[dict[str, Tensor]]:
        """The fixed validation pairs, in batches of the fixed size."""
        check_val_batch_size(batch_size, self.val_batch_size)
        for first in range(0, self.n_val_samples, batch_size):
            yield self._batch(self._order[first : first + batch_size], None)

    @cached_property
    def zero_shot_tasks(self) -> tuple[ZeroShotTask, ...]:
        """The tasks of the given folders."""
        kept = self.data_dir / "tasks"
        tasks = tuple(
            image_task(folder, self.transform, kept, self.max_broken)
            for folder in self.task_folders
        )
        names = [task.name for task in tasks]
        if len(set(names)) < len(names):
            raise ValueError(f"data.tasks: two folders have the same name {names}. Rename one.")
        return tasks

    def describe(self) -> dict[str, object]:
        """Counts, hashes and settings, as stored in every record."""
        manifest = {k: v for k, v in self._index.manifest.items() if k != "skipped"}
        return {
            "name": self.name,
            "image_size": self.image_size,
            "mean": list(self.transform.mean),
            "std": list(self.transform.std),
            "augment": self.augment,
            "n_unique_samples": self.n_items,
            "n_val_samples": self.n_val_samples,
            "val_batch_size": self.val_batch_size,
            "tasks": [task.name for task in self.zero_shot_tasks],
            "n_unreadable_met": len(self._unreadable),
            "n_task_images_unreadable": sum(
                getattr(images, "n_unreadable", 0)
                for task in self.zero_shot_tasks
                for images in (task.images, task.fit_images)
            ),
            **self.captions.describe(self._index),
            **manifest,
        }

    def _batch(self, items: np.ndarray, places: np.ndarray | None) -> dict[str, Tensor]:
        # torch comes late, so that a process that only counts the data need not load it.
        import torch

        # Decoding is worth a thread; reading pixels from memory is not.
        each = map if self.keep_decoded else self._threads.map
        found = list(
            each(self._square, items.tolist(), [None] * len(items) if places is None else places)
        )
        pixels = self.transform.normalize(np.stack([square for _, square in found]))
        text = self._tokens[np.array([item for item, _ in found])].astype(np.int64)
        return {"image": torch.from_numpy(pixels), "text": torch.from_numpy(text)}

    def _square(self, item: int, place: np.ndarray | None) -> tuple[int, np.ndarray]:
        """The square of a pair, or of the next readable one, and that pair's number."""
        while True:
            try:
                pixels = self._index.pixels(item, self.transform)
            except UnreadableImage as error:
                self._count_unreadable(item, error)
                item = (item + 1) % len(self._index)
                continue
            if place is None:
                return item, self.transform.center(pixels)
            return item, self.transform.random_square(pixels, place)

    def _count_unreadable(self, item: int, error: UnreadableImage) -> None:
        self._unreadable.add(item)
        if len(self._unreadable) > self.max_broken * len(self._index):
            raise ValueError(
                f"{len(self._unreadable)} of {len(self._index)} images cannot be read, more than "
                f"data.max_broken = {self.max_broken:g} of them. The last: {error}. Repair the "
                "data, or raise data.max_broken to skip them."
            ) from error

    @cached_property
    def _index(self) -> PairIndex:
        settings: dict[str, Any] = {"format": FORMAT_VERSION, "files": fingerprint(self.source)}
        if self.keep_decoded:
            settings["image_size"] = self.image_size
        key = hashlib.sha256(json.dumps(settings).encode()).hexdigest()[:12]
        folder = self.data_dir / f"{self.name}-{key}"
        index = open_index(
            folder,
            self.source,
            self.transform if self.keep_decoded else None,
            self.max_broken,
            self.max_kept_gigabytes * GIGABYTE,
            listing(self.name),
        )
        if len(index) <= self.n_val_samples:
            raise ValueError(
                f"data.n_val_samples = {self.n_val_samples}, but {self.source.root} holds only "
                f"{len(index)} pairs. Lower data.n_val_samples (and data.val_batch_size)."
            )
        return index

    @cached_property
    def _tokens(self) -> np.ndarray:
        return self.captions.rows(self._index)

    @cached_property
    def _order(self) -> np.ndarray:
        """Pairs in one fixed random order: first those that validate, then those that train."""
        return random_order(0, _SPLIT_STREAM, len(self._index))

    @cached_property
    def _threads(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(min(MAX_THREADS, os.cpu_count() or 1))


def webdataset(root: str | None, **settings: Any) -> ImageText:
    """Pairs in tars, as img2dataset writes them; see `ImageText` for the settings."""
    return ImageText(TarShards(_given(root)), **settings)


def caption_table(
    root: str | None, image_column: str, caption_column: str, separator: str | None, **settings: Any
) -> ImageText:
    """Pairs in a table, as open_clip reads it; see `ImageText` for the settings."""
    table = CaptionTable(_given(root), image_column, caption_column, separator)
    return ImageText(table, **settings)


def _given(root: str | None) -> str:
    if root is None:
        raise ValueError("data.root = null: give the place of your pairs, data.root=...")
    return root


def _three(values: Sequence[float], name: str) -> tuple[float, float, float]:
    if len(values) != 3:
        raise ValueError(f"data.{name} = {list(values)}: give three numbers, one for each channel.")
    red, green, blue = (float(value) for value in values)
    return red, green, blue


class listing:
    """A line that counts the pairs while they are listed for the first time."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __enter__(self) -> Callable[[int], None]:
        from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

        text = TextColumn("listing {task.fields[name]}: {task.completed} pairs")
        self.progress = Progress(SpinnerColumn(), text, TimeElapsedColumn(), transient=True)
        task = self.progress.add_task("", total=None, name=self.name)
        self.progress.start()
        return lambda n: self.progress.update(task, completed=n)

    def __exit__(self, *error: object) -> None:
        self.progress.stop()
