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
from fmscale.data.preparation.quality_classifier import Likeness
from fmscale.data.preparation.readers import read_piece
from fmscale.data.preparation.settings import Recipe


def survey_piece(
    piece: Piece,
    recipe: Recipe,
    index: LeakageIndex,
    likeness: Likeness | None,
    file: Path,
    report: Callable[[int], None],
) -> None:
    """Write reason, fingerprint and, where asked for, signature of each document; leaks of all.

    Args:
        likeness: the learned filter, if there is one; validation text of one's own passes it.
        file: .npz that is written.
        report: called with the characters of text read since the last call.
    """
    verdicts, prints, signatures, leaks = [], [], [], []
    found_grams = np.zeros(len(index.grams), dtype=bool)
    for found in read_piece(piece, recipe):
        reason = judge(found, recipe)
        if reason == KEPT and likeness is not None and piece.split != "validation":
            assert isinstance(found, Document)
            reason = KEPT if likeness.keeps(found.text) else "unlike_reference"
        hits = np.empty(0, dtype=np.int64)
        if reason == KEPT:
            assert isinstance(found, Document)
            prints.append(fingerprint(found.text))
            hits = index.find(found.text) if piece.split != "validation" else hits
            if recipe.duplicates == "near":
                signatures.append(signature(found.text))
            found_grams[hits] = True
        verdicts.append(CODES[reason])
        leaks.append(len(hits) > 0)
        report(len(found.text) if isinstance(found, Document) else 0)
    temporary = file.with_name(f".{file.name}.{os.getpid()}.npz")
    np.savez(
        temporary,
        verdicts=np.array(verdicts, dtype=np.uint8),  # (n_documents,)
        leaks=np.array(leaks, dtype=bool),  # (n_documents,)
        found_grams=found_grams,
        # Of documents without a reason to drop them, in order:
        fingerprints=np.frombuffer(b"".join(prints), dtype=np.uint8).reshape(-1, 16),
        signatures=np.array(signatures, dtype=np.uint32).reshape(-1, N_PERMUTATIONS),
    )
    os.replace(temporary, file)


def decide(
    surveys: Sequence[Path], recipe: Recipe, index: LeakageIndex
) -> tuple[list[np.ndarray], dict[str, Any] | None]:
    """Final reasons of each piece's documents, and the leakage report if there is one.

    Args:
        surveys: the files that `survey_piece` wrote, in the order of the pieces.
    """
    verdicts, all_prints = [], []
    found_grams, n_leaking = np.zeros(len(index.grams), dtype=bool), 0
    for path in surveys:
        with np.load(path) as survey:
            verdict = survey["verdicts"].copy()
            n_leaking += int(survey["leaks"].sum())
            found_grams |= survey["found_grams"]
            all_prints.append(survey["fingerprints"])
            if recipe.drop_leaks:
                verdict[(verdict == CODES[KEPT]) & survey["leaks"]] = CODES["leak"]
        verdicts.append(verdict)
    if recipe.duplicates != "keep":
        _drop_duplicates(surveys, verdicts, all_prints, recipe)
    leakage = index.report(found_grams, n_leaking) if recipe.evaluations else None
    return verdicts, leakage


def _drop_duplicates(
    surveys: Sequence[Path],
    verdicts: list[np.ndarray],
    all_prints: list[np.ndarray],
    recipe: Recipe,
) -> None:
    copies = exact_duplicates(np.concatenate(all_prints))
    near = NearDuplicates(recipe.similarity)
    begin = 0
    for path, verdict, prints in zip(surveys, verdicts, all_prints, strict=True):
        rows = np.flatnonzero((verdict == CODES[KEPT]) | (verdict == CODES["leak"]))
        own = copies[begin : begin + len(prints)]
        begin += len(prints)
        alive = verdict[rows] == CODES[KEPT]
        verdict[rows[alive & own]] = CODES["exact_duplicate"]
        if recipe.duplicates == "near":
            with np.load(path) as survey:
                candidates = survey["signatures"][alive & ~own]
            similar = np.array(near.flag(candidates), dtype=bool)
            verdict[rows[alive & ~own][similar]] = CODES["near_duplicate"]
