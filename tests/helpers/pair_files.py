"""Writes image-text data as others would: tars like img2dataset's, tables like open_clip's."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from fmscale.data.scenes.dataset import Scenes

SCENES = Scenes(n_val_samples=2, val_batch_size=2, image_size=32)


def scene_pairs(n: int, first: int = 0) -> tuple[list[Image.Image], list[str]]:
    images, captions = SCENES.pairs(first + np.arange(n))
    pictures = [Image.fromarray(image.transpose(1, 2, 0)) for image in images]
    return pictures, SCENES.tokenizer.decode(captions)


def encoded(picture: Image.Image, suffix: str = "png", **options: object) -> bytes:
    buffer = io.BytesIO()
    name = {"jpg": "JPEG"}.get(suffix, suffix.upper())
    picture.save(buffer, name, **options)  # type: ignore[arg-type]
    return buffer.getvalue()


def write_tar(path: Path, members: Sequence[tuple[str, bytes]]) -> None:
    with tarfile.open(path, "w") as tar:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))


def shard_members(n: int, first: int = 0, suffix: str = "jpg") -> list[tuple[str, bytes]]:
    """Image, caption and metadata of each pair, in img2dataset's layout."""
    members = []
    for i, (picture, caption) in enumerate(zip(*scene_pairs(n, first), strict=True), start=first):
        key = f"{i:09d}"
        members.append((f"{key}.{suffix}", encoded(picture, suffix)))
        members.append((f"{key}.txt", caption.encode()))
        members.append((f"{key}.json", json.dumps({"key": key, "caption": caption}).encode()))
    return members


def write_shards(folder: Path, n_shards: int = 3, n_each: int = 40) -> Path:
    folder.mkdir(parents=True)
    for k in range(n_shards):
        suffix = ("jpg", "png", "webp")[k % 3]
        write_tar(folder / f"{k:05d}.tar", shard_members(n_each, k * n_each, suffix))
        (folder / f"{k:05d}_stats.json").write_text("{}")  # as img2dataset leaves beside a shard
    return folder


def write_classes(folder: Path, n_each: int = 6, splits: Sequence[str] = ("",)) -> Path:
    """Folders of plain red, green and blue squares, a little noisy."""
    rng = np.random.default_rng(0)
    for split in splits:
        for k, name in enumerate(("red", "green", "blue_one")):
            (folder / split / name).mkdir(parents=True)
            for i in range(n_each):
                pixels = rng.integers(0, 60, (20, 24, 3))
                pixels[:, :, k] += 150
                picture = Image.fromarray(pixels.astype(np.uint8))
                picture.save(folder / split / name / f"{i}.png")
    return folder
