"""Made-up texts, and the token shards that are built from them."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from fmscale.data.preparation.build import build_shards
from fmscale.data.preparation.settings import Recipe
from fmscale.data.text.manifest import Manifest


def words(seed: int, n: int) -> list[str]:
    rng = np.random.default_rng(seed)
    return [f"word{i}" for i in rng.integers(0, 3000, n)]


def changed(text: list[str], n_changes: int, seed: int) -> list[str]:
    out = list(text)
    for place in np.random.default_rng(seed).choice(len(text), n_changes, replace=False):
        out[place] = f"other{place}"
    return out


PROSE = "The house that stands of old and by the sea is one of those I have seen with you. " * 5


BROKEN = {
    "too_few_words": "The cat sat with the dog and that was that.",
    "too_many_words": PROSE * 1300,
    "word_length": PROSE + "x" * 4000,
    "symbols": PROSE + " #topic" * 30,
    "bullets": "\n".join(f"- {PROSE[:60]}" for _ in range(20)),
    "ellipses": "\n".join(PROSE[:60] + "..." if i % 2 else PROSE[:70] for i in range(20)),
    "letters": PROSE + " 1234" * 60,
    "stop_words": "Le chat dort sur une table rouge pendant que le chien regarde dehors. " * 8,
}


class Silent:
    """Nobody looks; what was told is kept."""

    def __init__(self):
        self.told = []

    def begin(self, what, total):
        self.told.append((what, total, []))

    def advance_to(self, done):
        self.told[-1][2].append(done)


def build(inputs, out: Path, n_workers: int = 1, **settings):
    inputs = inputs if isinstance(inputs, tuple) else (str(inputs),)
    recipe = Recipe(inputs=inputs, **{"shard_bytes": 4000, "val_fraction": 0.1, **settings})
    return build_shards(recipe, out, n_workers, Silent())


def tokens(out: Path, split: str) -> np.ndarray:
    manifest = Manifest.read(out)
    parts = [np.fromfile(shard.path, dtype=manifest.dtype) for shard in manifest.shards[split]]
    return np.concatenate(parts)


def write_texts(folder: Path, texts) -> Path:
    folder.mkdir(exist_ok=True)
    for i, text in enumerate(texts):
        (folder / f"{i:04d}.txt").write_text(text)
    return folder
