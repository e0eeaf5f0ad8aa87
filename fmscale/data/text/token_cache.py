"""Tokenized text on disk: two flat arrays and a manifest, built once and shared by all runs.

The folder's name carries a hash of the text and of every setting that changes the tokens, so a
cache is never stale: other text is another folder.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fmscale.data.cache_folder import open_whole
from fmscale.data.text.sources import TextFile
from fmscale.data.text.tokenizer import TextTokenizer

FORMAT_VERSION = 1
Split = Callable[[Sequence[TextFile], float], tuple[list[TextFile], list[TextFile]]]


@dataclass(frozen=True)
class TokenCache:
    """Token ids of both splits, memory-mapped, with the manifest that was stored beside them."""

    folder: Path
    manifest: dict[str, object]
    train: np.ndarray  # (n_train_tokens,)
    validation: np.ndarray  # (n_validation_tokens,)


def settings_hash(settings: dict[str, object]) -> str:
    """The first 12 hexadecimal digits of the SHA-256 of the settings as sorted JSON."""
    text = json.dumps({"format": FORMAT_VERSION, **settings}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def open_cache(
    folder: Path,
    files: Sequence[TextFile],
    tokenizer: TextTokenizer,
    split: Split,
    val_fraction: float,
    settings: dict[str, object],
) -> TokenCache:
    """Map the arrays of a cache; built from the text where there is none, or a damaged one."""

    def build(building: Path) -> dict[str, Any]:
        manifest: dict[str, Any] = {"format": FORMAT_VERSION, **settings}
        for name, part in zip(("train", "validation"), split(files, val_fraction), strict=True):
            tokens = _concatenate(part, tokenizer)
            (building / f"{name}.bin").write_bytes(tokens.data)
            manifest[f"n_{name}_files"] = len(part)
            manifest[f"n_{name}_bytes"] = sum(len(file.text) for file in part)
            manifest[f"n_{name}_tokens"] = len(tokens)
        return manifest

    manifest = open_whole(folder, build)
    # A plain view of the map: the memmap subclass makes every fancy index slower.
    arrays = {
        name: np.asarray(np.memmap(folder / f"{name}.bin", dtype=tokenizer.dtype, mode="r"))
        for name in ("train", "validation")
    }
    return TokenCache(folder, manifest, **arrays)


def _concatenate(files: Sequence[TextFile], tokenizer: TextTokenizer) -> np.ndarray:
    separator = np.array([tokenizer.separator], dtype=tokenizer.dtype)
    parts = [part for file in files for part in (tokenizer.encode(file.text), separator)]
    return np.concatenate(parts).astype(tokenizer.dtype, copy=False)
