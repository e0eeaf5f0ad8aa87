"""How much of the evaluation sets lies in the training text: overlap of 13-grams.

An evaluation example is leaked if any 13 words of it, lower-cased and without punctuation, stand
in the text (Brown et al. 2020, appendix C). Shorter examples cannot be checked and are counted.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from fmscale.data.preparation.document import Document, Piece
from fmscale.data.preparation.ngrams import ngram_hashes, word_hashes
from fmscale.data.preparation.parts import list_parts
from fmscale.data.preparation.readers import read_piece
from fmscale.data.preparation.settings import Recipe

LENGTH = 13  # words


@dataclass(frozen=True)
class EvaluationSet:
    """The 13-grams of each example of one evaluation set."""

    path: str
    examples: list[np.ndarray]  # of hashes (n,) uint64, distinct
    names: list[str]  # file and row of each


class LeakageIndex:
    """All 13-grams of some evaluation sets, to be looked for in any text."""

    def __init__(self, sets: list[EvaluationSet]) -> None:
        self.sets = sets
        every = [grams for one in sets for grams in one.examples]
        self.grams = np.unique(np.concatenate(every)) if every else np.empty(0, dtype=np.uint64)

    @staticmethod
    def read(recipe: Recipe) -> LeakageIndex:
        """Read the recipe's evaluation sets; a text file is one example a line.

        Raises:
            ValueError: naming file and line, for one that cannot be read.
        """
        sets = []
        for path in recipe.evaluations:
            one = EvaluationSet(path, [], [])
            plain = recipe.plain(path)
            piece = Piece(tuple(list_parts(path, plain)), None)
            for found in read_piece(piece, plain):
                assert isinstance(found, Document), found  # it stops at others
                is_text = piece.parts[0].kind == "text"
                texts = found.text.splitlines() if is_text else [found.text]
                for row, text in enumerate(texts, start=1):
                    if text.strip():
                        one.examples.append(np.unique(ngram_hashes(word_hashes(text), LENGTH)))
                        one.names.append(f"{found.where}, line {row}" if is_text else found.where)
            sets.append(one)
        return LeakageIndex(sets)

    def find(self, text: str) -> np.ndarray:
        """Positions in `grams` of those that stand in the text, (n,) int64, distinct."""
        if not len(self.grams):
            return np.empty(0, dtype=np.int64)
        own = np.unique(ngram_hashes(word_hashes(text), LENGTH))
        place = np.minimum(np.searchsorted(self.grams, own), len(self.grams) - 1)
        return place[self.grams[place] == own]

    def report(self, found: np.ndarray, n_documents: int) -> dict[str, Any]:
        """Counts for the manifest.

        Args:
            found: which of `grams` stand anywhere in the text, (n_grams,) bool.
            n_documents: documents that hold at least one.
        """
        report: dict[str, Any] = {"n_gram": LENGTH, "n_documents": n_documents, "sets": {}}
        for one in self.sets:
            shares = []  # of each example's 13-grams
            for grams in one.examples:
                hits = found[np.searchsorted(self.grams, grams)]
                shares.append(float(hits.mean()) if len(grams) else None)
            checked = [share for share in shares if share is not None]
            worst = sorted(
                ((share, name) for share, name in zip(shares, one.names, strict=True) if share),
                key=lambda row: (-row[0], row[1]),
            )
            report["sets"][one.path] = {
                "n_examples": len(shares),
                "n_too_short": len(shares) - len(checked),
                "n_leaked": len(worst),
                "share_leaked": len(worst) / len(checked) if checked else None,
                "worst": [{"example": name, "share": share} for share, name in worst[:10]],
            }
        return report
