"""Finding the caption of an image among many, and the image of a caption."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from fmscale.data.scenes import Scenes
from fmscale.evaluation.metric import Metric, Objective, measuring


class Retrieval:
    """Recall@K in both directions over one fixed pool of validation pairs.

    A caption that comes more than once in the pool counts as found when any of its images is, so
    that the best model reaches 1.

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

    def __call__(self, model: Any, data: Scenes, objective: Objective) -> Iterator[Metric]:
        images, texts, captions, found = [], [], [], 0
        with measuring(model) as device:
            for batch in data.validation_batches(data.val_batch_size):
                z_image, z_text, _ = model(batch["image"].to(device), batch["text"].to(device))
                images.append(z_image.float().cpu())
                texts.append(z_text.float().cpu())
                captions.append(batch["text"])
                found += len(z_image)
                if found >= self.n_pairs:
                    break
        if found < self.n_pairs:
            raise ValueError(
                f"n_pairs = {self.n_pairs}, but there are only {found} validation pairs. Lower it "
                "or raise data.n_val_samples."
            )
        cosines = torch.cat(images)[: self.n_pairs] @ torch.cat(texts)[: self.n_pairs].T
        text = torch.cat(captions)[: self.n_pairs]
        right = (text[:, None] == text[None]).all(dim=2)  # (n, n): same caption
        yield Metric("retrieval_n_pairs", self.n_pairs, "1")
        for k in self.cutoffs:
            yield Metric(f"retrieval_text_recall_at_{k}", recall(cosines, right, k), "fraction")
            yield Metric(
                f"retrieval_image_recall_at_{k}", recall(cosines.T, right.T, k), "fraction"
            )


def recall(cosines: Tensor, right: Tensor, k: int) -> float:
    """Share of rows (n, m) that have a right answer among their k highest."""
    top = cosines.topk(min(k, cosines.shape[1]), dim=1).indices
    return float(right.gather(1, top).any(dim=1).double().mean())
