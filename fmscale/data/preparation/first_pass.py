"""The first reading: what must be known of all documents before any is taken.

Each piece leaves one small file with a row for each document; together they decide about
duplicates and leaks, the same way whatever the number of workers.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fmscale.data.preparation.document import Document, Piece
from fmscale.data.preparation.duplicates import (
    N_PERMUTATIONS,
    NearDuplicates,
    exact_duplicates,
    signature,
)
from fmscale.data.preparation.keep_or_drop import CODES, KEPT, fingerprint, judge
from fmscale.data.preparation.leakage import LeakageIndex
from fmscale.data.preparation.quality_classifier import QualityClassifier
from fmscale.data.preparation.readers import read_piece
from fmscale.data.preparation.settings import Recipe


def first_pass(
    piece: Piece,
    recipe: Recipe,
    index: LeakageIndex,
    classifier: QualityClassifier | None,
    file: Path,
    report: Callable[[int], None],
) -> None:
    """Write reason, fingerprint and, where asked for, signature of each document; leaks of all.

    Args:
        classifier: the learned filter, if there is one; separate validation text passes it.
        file: .npz that is written.
        report: called with the characters of text read since the last call.
    """
    codes, prints, signatures, leaks = [], [], [], []
    found_grams = np.zeros(len(index.grams), dtype=bool)
    for found in read_piece(piece, recipe):
        reason = judge(found, recipe)
        if reason == KEPT and classifier is not None and piece.split != "validation":
            assert isinstance(found, Document)
            reason = KEPT if classifier.keeps(found.text) else "unlike_reference"
        hits = np.empty(0, dtype=np.int64)
        if reason == KEPT:
            assert isinstance(found, Document)
            prints.append(fingerprint(found.text))
            hits = index.find(found.text) if piece.split != "validation" else hits
            if recipe.duplicates == "near":
                signatures.append(signature(found.text))
            found_grams[hits] = True
        codes.append(CODES[reason])
        leaks.append(len(hits) > 0)
        report(len(found.text) if isinstance(found, Document) else 0)
    temporary = file.with_name(f".{file.name}.{os.getpid()}.npz")
    np.savez(
        temporary,
        codes=np.array(codes, dtype=np.uint8),  # (n_documents,)
        leaks=np.array(leaks, dtype=bool),  # (n_documents,)
        found_grams=found_grams,
        # Of documents without a reason to drop them, in order:
        fingerprints=np.frombuffer(b"".join(prints), dtype=np.uint8).reshape(-1, 16),
        signatures=np.array(signatures, dtype=np.uint32).reshape(-1, N_PERMUTATIONS),
    )
    os.replace(temporary, file)


def decide(
    files: Sequence[Path], recipe: Recipe, index: LeakageIndex
) -> tuple[list[np.ndarray], dict[str, Any] | None]:
    """Final reasons of each piece's documents, and the leakage report if there is one.

    Args:
        files: the files that `first_pass` wrote, in the order of the pieces.
    """
    codes, all_prints = [], []
    found_grams, n_leaking = np.zeros(len(index.grams), dtype=bool), 0
    for path in files:
        with np.load(path) as found:
            own_codes = found["codes"].copy()
            n_leaking += int(found["leaks"].sum())
            found_grams |= found["found_grams"]
            all_prints.append(found["fingerprints"])
            if recipe.drop_leaks:
                own_codes[(own_codes == CODES[KEPT]) & found["leaks"]] = CODES["leak"]
        codes.append(own_codes)
    if recipe.duplicates != "keep":
        _drop_duplicates(files, codes, all_prints, recipe)
    leakage = index.report(found_grams, n_leaking) if recipe.evaluations else None
    return codes, leakage


def _drop_duplicates(
    files: Sequence[Path],
    codes: list[np.ndarray],
    all_prints: list[np.ndarray],
    recipe: Recipe,
) -> None:
    copies = exact_duplicates(np.concatenate(all_prints))
    near = NearDuplicates(recipe.similarity)
    begin = 0
    for path, own_codes, prints in zip(files, codes, all_prints, strict=True):
        rows = np.flatnonzero((own_codes == CODES[KEPT]) | (own_codes == CODES["leak"]))
        own = copies[begin : begin + len(prints)]
        begin += len(prints)
        alive = own_codes[rows] == CODES[KEPT]
        own_codes[rows[alive & own]] = CODES["exact_duplicate"]
        if recipe.duplicates == "near":
            with np.load(path) as found:
                candidates = found["signatures"][alive & ~own]
            similar = np.array(near.flag(candidates), dtype=bool)
            own_codes[rows[alive & ~own][similar]] = CODES["near_duplicate"]
