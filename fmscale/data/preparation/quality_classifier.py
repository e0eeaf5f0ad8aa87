"""A learned filter for quality: does a document read like a reference that is known to be good?

Brown et al. 2020, appendix A: a logistic regression on hashed words tells the reference from the
raw text, and a document of score s is kept if a Pareto number exceeds 1 - s. So most of what is
unlike the reference goes, and some of it stays. Here the number is a function of the document's
text: the same ones are kept whatever the order or the number of workers.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fmscale.data.preparation.document import Piece
from fmscale.data.preparation.keep_or_drop import fingerprint
from fmscale.data.preparation.parts import list_pieces
from fmscale.data.preparation.readers import kept_documents
from fmscale.data.preparation.settings import Recipe

N_FEATURES = 1 << 18  # that words are hashed to
N_DOCUMENTS = 10_000  # of either kind that it learns from, at most
MIN_DOCUMENTS = 20
N_FOLDS = 2
PENALTIES = (1.0, 10.0, 100.0)  # tried: inverse strengths


@dataclass(frozen=True)
class QualityClassifier:
    """The trained filter: two of them, each for the documents that the other has learned from.

    One filter alone would tell the raw documents it has seen from all others.

    Args:
        weights: (N_FOLDS, N_FEATURES) float32 of hashed words.
        biases: (N_FOLDS,).
        alpha: of the Pareto rule; larger: stricter.
        report: what it learned from, and the area under its ROC curve on documents not seen.
    """

    weights: np.ndarray
    biases: np.ndarray
    alpha: float
    report: dict[str, Any]

    def score(self, text: str) -> float:
        """How much a text is like the reference, from 0 to 1."""
        other = 1 - fold_of(text)
        return float(1 / (1 + np.exp(-(features([text]) @ self.weights[other])[0]
                                     - self.biases[other])))  # fmt: skip

    def keeps(self, text: str) -> bool:
        """Whether a document stays: numpy's Pareto number, drawn from its text, exceeds 1 - score.

        The bits are not those that decide about validation or the fold.
        """
        uniform = (int.from_bytes(fingerprint(text)[8:15], "big") + 1) / 2.0**56
        return uniform ** (-1 / self.alpha) - 1 > 1 - self.score(text)

    def save(self, path: Path) -> None:
        """Write to `path`, an .npz."""
        np.savez(path, weights=self.weights, biases=self.biases, alpha=self.alpha,
                 report=json.dumps(self.report))  # fmt: skip

    @staticmethod
    def load(path: Path) -> QualityClassifier:
        """Read back what `save` wrote."""
        with np.load(path) as file:
            return QualityClassifier(file["weights"], file["biases"], float(file["alpha"]),
                            json.loads(str(file["report"])))  # fmt: skip


def fold_of(text: str) -> int:
    """Which of the two filters a document teaches."""
    return fingerprint(text)[15] % N_FOLDS


def features(texts: Sequence[str]) -> Any:
    """Sparse (n, N_FEATURES) counts of hashed words, each row of length one."""
    from sklearn.feature_extraction.text import HashingVectorizer

    return HashingVectorizer(
        n_features=N_FEATURES, alternate_sign=False, token_pattern=r"(?u)\b\w+\b", dtype=np.float32
    ).transform(texts)


def reference_pieces(recipe: Recipe) -> list[Piece]:
    """The files of the reference, read like the input itself."""
    return list_pieces(recipe.plain(*recipe.reference))


def train_classifier(recipe: Recipe, pieces: Sequence[Piece]) -> QualityClassifier:
    """Train on the reference against the raw text, an equal share of every piece of either.

    Raises:
        ValueError: if there are too few documents to learn from.
    """
    from sklearn.linear_model import LogisticRegressionCV
    from sklearn.metrics import roc_auc_score

    good = list(_sample(recipe.plain(*recipe.reference), reference_pieces(recipe)))
    raw = list(_sample(recipe, [piece for piece in pieces if piece.split != "validation"]))
    for name, found in (("--reference", good), ("the text", raw)):
        if len(found) < MIN_DOCUMENTS:
            raise ValueError(
                f"{name} holds {len(found)} documents, too few to learn what is like the "
                f"reference (at least {MIN_DOCUMENTS}). A plain text file is one document up to "
                "4 MB; give JSONL, or more files"
            )
    texts = [*good, *raw]
    x, y = features(texts), np.repeat([1, 0], [len(good), len(raw)])
    folds, margins = np.array([fold_of(text) for text in texts]), np.empty(len(texts))
    weights = np.empty((N_FOLDS, N_FEATURES), dtype=np.float32)
    biases = np.empty(N_FOLDS)
    for fold in range(N_FOLDS):
        own = folds == fold
        # The penalty is chosen by the likelihood of documents left out.
        model = LogisticRegressionCV(
            Cs=PENALTIES, cv=3, scoring="neg_log_loss", class_weight="balanced", max_iter=300,
            use_legacy_attributes=False, l1_ratios=(0,),
        ).fit(x[own], y[own])  # fmt: skip
        weights[fold], biases[fold] = model.coef_[0], model.intercept_[0]
        margins[~own] = model.decision_function(x[~own])
    report = {
        "n_reference": len(good),
        "n_raw": len(raw),
        "held_out_auc": float(roc_auc_score(y, margins)),
        "alpha": recipe.pareto,
    }
    return QualityClassifier(weights, biases, recipe.pareto, report)


def _sample(recipe: Recipe, pieces: Sequence[Piece]) -> Iterator[str]:
    for piece in pieces:
        left = max(1, N_DOCUMENTS // len(pieces))
        for document in itertools.islice(kept_documents(piece, recipe), left):
            yield document.text
