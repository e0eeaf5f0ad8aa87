"""From raw text to a folder of shards: planned once, in steps that are finished or not begun.

A preparation keeps its state in `.building/`: the plan, what the first pass found in each piece,
and a note for each finished shard. The same command after a crash does what is missing.
`manifest.json` comes last: a folder without it is not finished.
"""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import json
import os
import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from fmscale.data.preparation.document import Piece
from fmscale.data.preparation.first_pass import decide, first_pass
from fmscale.data.preparation.keep_or_drop import is_held_out
from fmscale.data.preparation.leakage import LeakageIndex
from fmscale.data.preparation.parts import left_out, list_pieces
from fmscale.data.preparation.pool import run_all
from fmscale.data.preparation.quality_classifier import (
    QualityClassifier,
    reference_pieces,
    train_classifier,
)
from fmscale.data.preparation.readers import kept_documents
from fmscale.data.preparation.settings import Recipe
from fmscale.data.preparation.writer import write_shard
from fmscale.data.text.manifest import BUILDING, FORMAT_VERSION, MANIFEST, SPLITS, TOKENIZER
from fmscale.data.text.tokenizer import FileTokenizer, open_tokenizer, train_bpe
from fmscale.runs.files import read_json, read_sealed, write_atomically, write_json, write_sealed
from fmscale.runs.lock import Held, RunLock


class Display(Protocol):
    """Shows the progress of stages, in bytes."""

    def begin(self, what: str, total: int) -> None: ...

    def advance_to(self, done: int) -> None: ...


def build_shards(recipe: Recipe, out: Path, n_workers: int, display: Display) -> dict[str, Any]:
    """Prepare all shards and return the manifest; a finished folder is left as it is.

    Raises:
        ValueError: naming the input, option or folder, for anything that cannot be read, or if
            `out` holds something else.
    """
    pieces = list_pieces(recipe)
    plan = _plan(recipe, pieces)
    if (out / MANIFEST).exists():
        manifest = read_sealed(out / MANIFEST, "--overwrite prepares the text again")
        if manifest.get("plan_sha256") != plan["sha256"]:
            raise ValueError(
                f"{out} holds shards of other text or other settings. Give another --out, or "
                "--overwrite to replace them"
            )
        return manifest
    building = out / BUILDING
    _begin_or_resume(out, building, plan)
    with _alone(building):
        began = time.monotonic()
        tokenizer = _tokenizer(recipe, pieces, building)
        classifier = _classifier(recipe, pieces, building)
        codes, leakage = _first_pass(recipe, pieces, building, classifier, n_workers, display)
        dtype = "uint16" if tokenizer.vocab_size <= 1 << 16 else "uint32"
        spec = str(building / TOKENIZER) if isinstance(tokenizer, FileTokenizer) else "bytes"
        notes = [building / f"shard-{i:05d}.json" for i in range(len(pieces))]
        _run(
            "tokens", write_shard,
            [(piece, i, recipe, spec, dtype, codes[i] if codes else None, out, notes[i])
             for i, piece in enumerate(pieces)],
            [piece.size for piece in pieces], notes, n_workers, display,
        )  # fmt: skip
        manifest = _manifest(recipe, tokenizer, dtype, [read_json(note) for note in notes])
        manifest |= {
            "left_out": left_out(recipe),
            "leakage": leakage,
            "likeness": classifier.report if classifier is not None else None,
            "plan_sha256": plan["sha256"],
            "seconds": round(time.monotonic() - began, 3),  # of the last start
        }
        if isinstance(tokenizer, FileTokenizer):
            os.replace(building / TOKENIZER, out / TOKENIZER)
        write_sealed(out / MANIFEST, manifest)
        shutil.rmtree(building)
    return manifest


def _plan(recipe: Recipe, pieces: list[Piece]) -> dict[str, Any]:
    """What must be equal for a preparation to be resumed."""
    plan: dict[str, Any] = {
        "format": FORMAT_VERSION,
        "recipe": recipe.to_dict(),
        "pieces": [dataclasses.asdict(piece) for piece in pieces],
    }
    if recipe.tokenizer not in ("bytes", "bpe"):
        plan["tokenizer_sha256"] = FileTokenizer(recipe.tokenizer, recipe.separator).sha256
    if recipe.reference:
        plan["reference"] = [dataclasses.asdict(piece) for piece in reference_pieces(recipe)]
    for path in recipe.evaluations:
        plan.setdefault("evaluations", []).append([path, Path(path).stat().st_size])
    text = json.dumps(plan, sort_keys=True)
    return {**plan, "sha256": hashlib.sha256(text.encode()).hexdigest()}


def _begin_or_resume(out: Path, building: Path, plan: dict[str, Any]) -> None:
    path = building / "plan.json"
    if path.exists():
        if read_json(path)["sha256"] != plan["sha256"]:
            raise ValueError(
                f"{out} holds the unfinished shards of other text or other settings. Give another "
                "--out, or --overwrite to start over"
            )
        return
    if out.exists() and any(entry.name != BUILDING for entry in out.iterdir()):
        raise ValueError(f"{out} is not empty. Give another --out")
    building.mkdir(parents=True, exist_ok=True)
    write_json(path, plan)


@contextmanager
def _alone(building: Path) -> Iterator[None]:
    """Refuse to work on a folder that another process works on; a dead one's lock is taken over."""
    with ExitStack() as stack:
        try:
            stack.enter_context(RunLock(building))
        except Held as error:
            raise ValueError(
                f"{building.parent} is being prepared by another process. Wait, or give another "
                "--out"
            ) from error
        yield


def _tokenizer(recipe: Recipe, pieces: list[Piece], building: Path) -> Any:
    """The tokenizer; one that is not `bytes` is kept beside the shards."""
    path = building / TOKENIZER
    if recipe.tokenizer == "bytes":
        return open_tokenizer("bytes")
    if not path.exists():
        if recipe.tokenizer == "bpe":
            assert recipe.vocab_size is not None
            trained = train_bpe(_sample(recipe, pieces), recipe.vocab_size)
            write_atomically(path, trained.to_str(pretty=True))
        else:
            write_atomically(path, Path(recipe.tokenizer).read_bytes())
    return FileTokenizer(path, recipe.separator)


def _sample(recipe: Recipe, pieces: list[Piece]) -> Iterator[str]:
    """Training text for a tokenizer, at most `tokenizer_bytes`, an equal share of every piece."""
    own = [piece for piece in pieces if piece.split != "validation"]
    for piece in own:
        left = max(1, recipe.tokenizer_bytes // len(own))
        for document in kept_documents(piece, recipe):
            if recipe.split == "document" and is_held_out(document.text, recipe.val_fraction):
                continue
            yield document.text[:left]
            left -= len(document.text)
            if left <= 0:
                break


def _classifier(recipe: Recipe, pieces: list[Piece], building: Path) -> QualityClassifier | None:
    """The learned filter, trained once."""
    if not recipe.reference:
        return None
    path = building / "quality_classifier.npz"
    if not path.exists():
        temporary = building / f".classifier.{os.getpid()}.npz"
        train_classifier(recipe, pieces).save(temporary)
        os.replace(temporary, path)
    return QualityClassifier.load(path)


def _first_pass(
    recipe: Recipe,
    pieces: list[Piece],
    building: Path,
    classifier: QualityClassifier | None,
    n_workers: int,
    display: Display,
) -> tuple[list[np.ndarray] | None, dict[str, Any] | None]:
    if not recipe.needs_first_pass:
        return None, None
    index = LeakageIndex.read(recipe)
    files = [building / f"first-pass-{i:05d}.npz" for i in range(len(pieces))]
    tasks = [
        (piece, recipe, index, classifier, file) for piece, file in zip(pieces, files, strict=True)
    ]
    _run("first pass", first_pass, tasks, [p.size for p in pieces], files, n_workers, display)
    return decide(files, recipe, index)


def _run(
    what: str,
    function: Callable[..., None],
    tasks: list[tuple[Any, ...]],
    sizes: list[int],
    results: list[Path],
    n_workers: int,
    display: Display,
) -> None:
    """Do the tasks whose result is not there yet."""
    missing = [i for i, path in enumerate(results) if not path.exists()]
    total, finished = sum(sizes), sum(sizes) - sum(sizes[i] for i in missing)
    display.begin(what, total)
    display.advance_to(finished)
    done = finished

    def progress(n_characters: int) -> None:
        # Characters stand for bytes between two pieces; a finished piece counts as it is.
        display.advance_to(max(done, min(total, finished + n_characters)))

    def complete(i: int) -> None:
        nonlocal done
        done += sizes[missing[i]]
        display.advance_to(done)

    run_all(function, [tasks[i] for i in missing], n_workers, progress, complete)


def _manifest(
    recipe: Recipe, tokenizer: Any, dtype: str, notes: list[dict[str, Any]]
) -> dict[str, Any]:
    splits = {split: [note[split] for note in notes if note[split]] for split in SPLITS}
    _check_splits(recipe, splits)
    dropped = {
        "documents": dict(sum((Counter(note["dropped"]) for note in notes), Counter())),
        "bytes": dict(sum((Counter(note["dropped_bytes"]) for note in notes), Counter())),
    }
    content = hashlib.sha256()
    for entry in itertools.chain.from_iterable(splits.values()):
        content.update(f"{entry['n_tokens']} {entry['sha256']} ".encode())
    return {
        "format": FORMAT_VERSION,
        "tokenizer": {"name": tokenizer.name, "sha256": getattr(tokenizer, "sha256", None)},
        "vocab_size": tokenizer.vocab_size,
        "separator": tokenizer.separator,
        "dtype": dtype,
        "content_sha256": content.hexdigest(),
        **{split: _totals(entries) for split, entries in splits.items()},
        "dropped": dropped,
        "recipe": recipe.to_dict(),
    }


def _totals(entries: list[dict[str, Any]]) -> dict[str, Any]:
    keys = ("n_documents", "n_tokens", "n_bytes", "n_not_restored")
    counts = {
        k: sum(entry[k] for entry in entries) for k in keys if all(k in entry for entry in entries)
    }
    # UTF-8 bytes of the text, and one for the end of each document.
    return {**counts, "bytes_per_token": counts["n_bytes"] / counts["n_tokens"], "shards": entries}


def _check_splits(recipe: Recipe, splits: dict[str, list[dict[str, Any]]]) -> None:
    if not splits["train"]:
        raise ValueError("every document was dropped: see which option does it by leaving it out")
    if not splits["validation"]:
        remedy = (
            "the validation text was dropped as a whole"
            if recipe.validation
            else f"no document fell into the share --val-fraction {recipe.val_fraction} by its "
            "hash. Raise it, or hold out the end of each document (--split tail)"
        )
        raise ValueError(f"there is no validation text: {remedy}")
