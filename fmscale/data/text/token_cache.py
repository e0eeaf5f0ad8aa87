"""Tokenized text on disk: two flat arrays and a manifest, built once and shared by all runs.

The folder's name carries a hash of the text and of every setting that changes the tokens, so a
cache is never stale: other text is another folder. It is built under a temporary name and renamed
at the end; when several processes build it at once, the first rename wins and the others, having
built the very same bytes, drop theirs.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

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


def build_cache(
    folder: Path,
    files: Sequence[TextFile],
    tokenizer: TextTokenizer,
    split: Split,
    val_fraction: float,
    settings: dict[str, object],
) -> None:
    """Write train.bin, validation.bin and manifest.json into `folder`, all or nothing."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    building = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        manifest: dict[str, object] = {"format": FORMAT_VERSION, **settings}
        for name, part in zip(("train", "validation"), split(files, val_fraction), strict=True):
            tokens = _concatenate(part, tokenizer)
            tokens.tofile(building / f"{name}.bin")
            manifest[f"n_{name}_files"] = len(part)
            manifest[f"n_{name}_bytes"] = sum(len(file.text) for file in part)
            manifest[f"n_{name}_tokens"] = len(tokens)
        (building / "manifest.json").write_text(json.dumps(manifest, indent=2) + "\n")
        building.chmod(0o755)  # mkdtemp makes it private to its owner
        try:
            building.rename(folder)
        except OSError:
            # Another process was first; anything else (a full disk, a wrong owner) is an error.
            if not (folder / "manifest.json").exists():
                raise
    finally:
        shutil.rmtree(building, ignore_errors=True)


def open_cache(folder: Path, tokenizer: TextTokenizer) -> TokenCache:
    """Map the arrays of a finished cache and check their sizes against the manifest."""
    manifest = json.loads((folder / "manifest.json").read_text())
    arrays = {}
    for name in ("train", "validation"):
        path = folder / f"{name}.bin"
        n_tokens = manifest[f"n_{name}_tokens"]
        if os.path.getsize(path) != n_tokens * tokenizer.dtype.itemsize:
            raise ValueError(
                f"{path} does not hold the {n_tokens} tokens its manifest states. "
                f"Delete the folder {folder}; it is built again from the text."
            )
        # A plain view of the map: the memmap subclass makes every fancy index slower.
        arrays[name] = np.asarray(np.memmap(path, dtype=tokenizer.dtype, mode="r"))
    return TokenCache(folder, manifest, **arrays)


def _concatenate(files: Sequence[TextFile], tokenizer: TextTokenizer) -> np.ndarray:
    separator = np.array([tokenizer.separator], dtype=tokenizer.dtype)
    parts = [part for file in files for part in (tokenizer.encode(file.text), separator)]
    return np.concatenate(parts).astype(tokenizer.dtype, copy=False)
