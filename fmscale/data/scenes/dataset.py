"""Rendered scenes with captions as training pairs, made on the fly from item numbers.

Nothing is stored: item i is a pure function of (data seed, i), so the set is as large as wanted in
constant memory. Validation and task images use item numbers that training never reaches.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterator
from functools import cached_property
from typing import TYPE_CHECKING, Literal

import numpy as np

from fmscale.data.protocol import check_val_batch_size
from fmscale.data.scenes.captions import CaptionTokenizer, CaptionWriter
from fmscale.data.scenes.glyph_tasks import glyph_tasks
from fmscale.data.scenes.grammar import SceneGrammar
from fmscale.data.scenes.loss_floor import collision_floor
from fmscale.data.scenes.renderer import SceneRenderer, SceneStyle
from fmscale.data.scenes.tasks import SceneTasks
from fmscale.data.zero_shot_task import ZeroShotTask

if TYPE_CHECKING:
    from torch import Tensor

# Raised whenever the same settings give other images or captions.
FORMAT_VERSION = 1
_FIRST_VALIDATION_INDEX = 1 << 40


class Scenes:
    """Image-caption pairs of one or two colored shapes.

    Args:
        image_size: side of the images in pixels.
        seq_len: tokens of a caption, its end included.
        seed: seed of the data, apart from the seed of a run.
        n_unique_samples: data budget U: distinct training pairs.
        val_batch_size: pairs of one validation batch. The contrastive loss depends on it, so it
            is fixed with the data; losses at different values are not comparable.
        n_task_images: images of each task that are scored.
        n_fit_per_class: images of each class that probes and fine-tuning may learn from, at least;
            there are `n_task_images` in all if that is more.
        noise: standard deviation of the pixel noise, in levels of 0..255.
        color_jitter: each channel of each color moves by up to this many levels.
        position_jitter: how often an object is one pixel off its place, along each axis.
    """

    unit: Literal["samples"] = "samples"
    units_per_item = 1

    def __init__(
        self,
        image_size: int = 24,
        seq_len: int = 20,
        vocab_size: int | None = None,
        seed: int = 0,
        n_unique_samples: int = 1 << 20,
        n_val_samples: int = 4096,
        val_batch_size: int = 256,
        n_task_images: int = 512,
        n_fit_per_class: int = 20,
        noise: float = 6.0,
        color_jitter: int = 12,
        position_jitter: float = 0.1,
        grammar: SceneGrammar | None = None,
        name: str = "scenes",
    ) -> None:
        self.tokenizer = CaptionTokenizer()
        n_words = self.tokenizer.vocab_size
        if vocab_size not in (None, n_words):
            raise ValueError(
                f"data.vocab_size = {vocab_size}, but scene captions use {n_words} tokens. Set "
                f"data.vocab_size={n_words}."
            )
        if not 1 <= n_unique_samples <= _FIRST_VALIDATION_INDEX:
            raise ValueError(
                f"data.n_unique_samples = {n_unique_samples}: give at least 1 and at most 2**40."
            )
        if not 2 <= val_batch_size <= n_val_samples:
            raise ValueError(
                f"data.val_batch_size = {val_batch_size}: give at least 2 (a contrast needs two "
                f"pairs) and at most data.n_val_samples = {n_val_samples}."
            )
        self.name = name
        self.image_size = image_size
        self.seq_len = seq_len
        self.vocab_size = n_words
        self.seed = seed
        self.n_unique_samples = n_unique_samples
        # A short last batch would have a lower loss than the others; it is dropped.
        self.n_val_samples = n_val_samples // val_batch_size * val_batch_size
        self.val_batch_size = val_batch_size
        self.n_task_images = n_task_images
        self.n_fit_per_class = n_fit_per_class
        self.grammar = grammar or SceneGrammar()
        self.style = SceneStyle(
            noise=noise, color_jitter=color_jitter, position_jitter=position_jitter
        )
        self.writer = CaptionWriter(self.tokenizer, seq_len)
        self.renderer = SceneRenderer(image_size)

    @property
    def n_items(self) -> int:
        """Distinct training pairs."""
        return self.n_unique_samples

    def prepare(self) -> None:
        """Nothing is stored, so there is nothing to prepare."""

    def pairs(self, indices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Images (B, 3, S, S) uint8 and captions (B, seq_len) int64 of any item numbers (B,)."""
        scenes = self.grammar.sample_scenes(self.seed, indices)
        mentions = self.grammar.sample_mentions(self.seed, indices, scenes)
        images = self.renderer.render(scenes, self.seed, indices, self.style)
        return images, self.writer.write(scenes, mentions, self.seed, indices)

    def train_batch(self, indices: np.ndarray) -> dict[str, Tensor]:
        """{"image": (B, 3, S, S) uint8, "text": (B, seq_len) int64}."""
        # torch comes late, so that a process that only counts the data need not load it.
        import torch

        images, captions = self.pairs(indices)
        return {"image": torch.from_numpy(images), "text": torch.from_numpy(captions)}

    def validation_batches(self, batch_size: int) -> Iterator[dict[str, Tensor]]:
        """The fixed validation pairs, in batches of the fixed size."""
        check_val_batch_size(batch_size, self.val_batch_size)
        indices = self._validation_indices
        for first in range(0, len(indices), batch_size):
            yield self.train_batch(indices[first : first + batch_size])

    @cached_property
    def zero_shot_tasks(self) -> tuple[ZeroShotTask, ...]:
        """The held-out task sets, drawn once per process."""
        n_images, n_fit = self.n_task_images, self.n_fit_per_class
        of_scenes = SceneTasks(
            self.grammar, self.renderer, self.style, self.seed, n_images, n_fit
        ).build()
        return (*of_scenes, *glyph_tasks(self.image_size, self.seed, n_images, n_fit))

    @cached_property
    def loss_floor(self) -> tuple[float, float]:
        """Lowest expected loss on the validation set and its standard error, nats per pair."""
        return collision_floor(
            self.grammar, self.seed, self._validation_indices, self.val_batch_size
        )

    def describe(self) -> dict[str, object]:
        """All settings that determine the pairs, and their hash."""
        settings: dict[str, object] = {
            "format": FORMAT_VERSION,
            "image_size": self.image_size,
            "seq_len": self.seq_len,
            "vocab_size": self.vocab_size,
            "tokenizer": self.tokenizer.name,
            "seed": self.seed,
            "noise": self.style.noise,
            "color_jitter": self.style.color_jitter,
            "position_jitter": self.style.position_jitter,
            "grammar": dataclasses.asdict(self.grammar),
        }
        # The settings alone would not show a change of the renderer, so some pixels go in too.
        digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode())
        for array in self.pairs(np.arange(16)):
            digest.update(array.tobytes())
        return {
            "name": self.name,
            "content_sha256": digest.hexdigest(),
            "n_unique_samples": self.n_unique_samples,
            "n_val_samples": self.n_val_samples,
            "val_batch_size": self.val_batch_size,
            "n_task_images": self.n_task_images,
            "n_fit_per_class": self.n_fit_per_class,
            **settings,
        }

    @property
    def _validation_indices(self) -> np.ndarray:
        return _FIRST_VALIDATION_INDEX + np.arange(self.n_val_samples)
