"""Finding the caption of an image among many, and the image of a caption."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from torch import Tensor

from fmscale.data.protocol import PairData
from fmscale.evaluation.image_text.features import check_pairs, pair_vectors
from fmscale.evaluation.image_text.likelihood import predicts_captions
from fmscale.evaluation.metric import Metric, Objective


class Retrieval:
    """Recall@K in both directions over one fixed pool of validation pairs.

    A caption that comes more than once in the pool counts as found when any of its images is, so
    that the best model reaches 1. A model without a joint space yields nothing.

    Args:
        n_pairs: size of the pool; recalls of different pools must not be compared.
        cutoffs: values of K.
    """

    def __init__(self, n_pairs: int = 1024, cutoffs: Sequence[int] = (1, 5, 10)) -> None:
        if n_pairs < 2 or not cutoffs or min(cutoffs) < 1:
            raise ValueError(
                f"n_pairs = {n_pairs}, cutoffs = {list(cutoffs)}: give at least two pairs and "
                "cutoffs from 1."
            )
        self.n_pairs = n_pairs
        self.cutoffs = tuple(cutoffs)

    def check(self, data: Any) -> None:
        """Refuse data with too few validation pairs."""
        check_pairs(data)
        n_pairs = data.n_val_samples // data.val_batch_size * data.val_batch_size
        if n_pairs < self.n_pairs:
            raise ValueError(
                f"n_pairs = {self.n_pairs}, but there are only {n_pairs} validation pairs. Lower "
                "it or raise data.n_val_samples."
            )

    def __call__(self, model: Any, data: PairData, objective: Objective) -> Iterator[Metric]:
        self.check(data)
        if predicts_captions(model):  # every caption for every image would cost n_pairs^2
            return
        vectors = pair_vectors(model, data)
        cosines = vectors.image[: self.n_pairs] @ vectors.text[: self.n_pairs].T
        text = vectors.captions[: self.n_pairs]
        right = (text[:, None] == text[None]).all(dim=2)  # (n, n): same caption
        yield Metric("retrieval/n_pairs", self.n_pairs, "1")
        for k in self.cutoffs:
            yield Metric(f"retrieval/text_recall_at_{k}", recall(cosines, right, k), "fraction")
            yield Metric(
                f"retrieval/image_recall_at_{k}", recall(cosines.T, right.T, k), "fraction"
            )


def recall(cosines: Tensor, right: Tensor, k: int) -> float:
    """Share of rows (n, m) that have a right answer among their k highest."""
    top = cosines.topk(min(k, cosines.shape[1]), dim=1).indices
    return float(right.gather(1, top).any(dim=1).double().mean())
