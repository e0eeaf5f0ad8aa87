"""A CLIP's features of images and captions, computed once and shared by all its evaluators.

Zero-shot, probe, neighbours and few-shot look at the same images, and loss and retrieval at the
same pairs. `shared_features` opens a scope in which each is encoded once; outside of it every call
encodes again, so that nothing outlives a change of the weights.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from fmscale.data.protocol import PairData
from fmscale.data.zero_shot_task import Images, ZeroShotTask
from fmscale.evaluation.metric import measuring

# (id of the model, id of the images or data) -> (both, to keep the ids theirs, and the result)
_scope: ContextVar[dict[tuple[int, int], tuple[Any, Any, Any]] | None] = ContextVar(
    "_scope", default=None
)


class PairVectors(NamedTuple):
    """Unit vectors of the validation pairs, in order."""

    image: Tensor  # (n, d_embed)
    text: Tensor  # (n, d_embed)
    scale: Tensor  # (n_batches,) factor on the cosines
    captions: Tensor  # (n, T) token ids


def check_pairs(data: Any) -> None:
    """Raise ValueError for data that are not image-text pairs."""
    if getattr(data, "unit", None) != "samples":
        raise ValueError(
            f"data {getattr(data, 'name', data)!r} has no image-text pairs; choose an evaluation "
            "of text, such as evaluation=language, or data such as data=scenes"
        )


def check_tasks(data: Any) -> list[ZeroShotTask]:
    """The tasks of image classification of some data, which must have one."""
    check_pairs(data)
    tasks = list(getattr(data, "zero_shot_tasks", ()))
    if not tasks:
        raise ValueError(
            f"data {getattr(data, 'name', data)!r} has no task of image classification; name "
            "folders of images in data.tasks, or choose evaluation=pairs"
        )
    return tasks


@contextmanager
def shared_features() -> Iterator[None]:
    """Within this scope the same model encodes the same images only once."""
    token = _scope.set({})
    try:
        yield
    finally:
        _scope.reset(token)


def image_features(model: Any, images: Images, batch_size: int) -> Tensor:
    """Features (n, d_model) float32 of the image tower, before the joint space; on the CPU."""
    return _once(model, images, lambda: encoded(model, model.image, images, batch_size))


def image_vectors(model: Any, images: Images, batch_size: int) -> Tensor:
    """Unit vectors (n, d_embed) in the joint space; on the CPU."""
    if not hasattr(model, "image_projection"):  # no linear map on features that could be shared
        return encoded(model, model.encode_image, images, batch_size)
    features = image_features(model, images, batch_size)
    with measuring(model) as device:
        return F.normalize(model.image_projection(features.to(device)).float(), dim=-1).cpu()


def encoded(
    model: Any, encoder: Callable[[Tensor], Tensor], images: Images, batch_size: int
) -> Tensor:
    """`encoder` of all images, batch by batch; float32, on the CPU."""
    with measuring(model) as device:
        parts = [
            encoder(torch.from_numpy(images[first : first + batch_size]).to(device)).float().cpu()
            for first in range(0, len(images), batch_size)
        ]
    return torch.cat(parts)


def pair_vectors(model: Any, data: PairData) -> PairVectors:
    """All validation pairs, encoded batch by batch."""

    def encode() -> PairVectors:
        images, texts, scales, captions = [], [], [], []
        with measuring(model) as device:
            for batch in data.validation_batches(data.val_batch_size):
                image, text, scale = model(batch["image"].to(device), batch["text"].to(device))
                images.append(image.detach().float().cpu())
                texts.append(text.detach().float().cpu())
                scales.append(scale.detach().float().cpu())
                captions.append(batch["text"])
        return PairVectors(
            torch.cat(images), torch.cat(texts), torch.stack(scales), torch.cat(captions)
        )

    return _once(model, data, encode)


def _once(model: Any, of: Any, encode: Callable[[], Any]) -> Any:
    scope = _scope.get()
    if scope is None:
        return encode()
    key = (id(model), id(of))
    if key not in scope:
        scope[key] = (model, of, encode())
    return scope[key][2]
