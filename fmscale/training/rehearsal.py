"""One loss without arithmetic or memory: what does not fit together shows before any compute."""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import nn
from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    DynamicOutputShapeException,
    FakeTensorMode,
)

from fmscale.build import Parts, build_model
from fmscale.job import Job
from fmscale.objectives.pair_encoding import BATCH_NORMS
from fmscale.settings import ConfigError


def rehearse(job: Job, parts: Parts) -> None:
    """Build the model and take the loss of two items, on tensors that have shapes alone.

    Raises:
        ConfigError: for an objective of another kind of model, a vocabulary that is too small, and
            with whatever the model or the objective refuses.
    """
    families = getattr(parts.objective, "families", (job.shape.family,))
    if job.shape.family not in families:
        raise ConfigError(
            f"objective {type(parts.objective).__name__} trains {' or '.join(families)} models, "
            f"not {job.shape.family}; choose an objective of the model's kind"
        )
    known, needed = _vocabulary(job.shape), _vocabulary(parts.data)
    if known is not None and needed is not None and needed > known:
        raise ConfigError(
            f"the data have {needed} tokens, the model knows {known}; set the model's vocab_size "
            "to that of the data"
        )
    items = parts.data.train_batch(np.arange(min(2, parts.data.n_items)))
    with FakeTensorMode() as fake:
        model = build_model(job.config)
        _check_norms(model, job.trainer.strategy)
        try:
            parts.objective(model, {k: fake.from_tensor(v) for k, v in items.items()})
        except (DataDependentOutputException, DynamicOutputShapeException):
            return  # an objective that looks at numbers can only be tried in earnest
        except (ValueError, RuntimeError, KeyError, IndexError) as error:
            reason = f"{type(error).__name__}: {error}".splitlines()[0]
            raise ConfigError(f"model, objective and data do not fit together: {reason}") from error


def _check_norms(model: nn.Module, strategy: str) -> None:
    """Batch norms take statistics of the pairs at hand: a part of a batch has others."""
    if strategy != "single" and any(isinstance(part, BATCH_NORMS) for part in model.modules()):
        raise ConfigError(
            f"trainer.strategy={strategy} divides the batch, and this model's batch norms would "
            "normalise each part by itself and so change the numbers; use a model without them, "
            "such as model=clip_2x32, or one process (trainer.strategy=single)"
        )


def _vocabulary(part: Any) -> int | None:
    """Tokens that a shape or a data set has; None where there is no vocabulary."""
    found: int | None = getattr(getattr(part, "text", part), "vocab_size", None)
    return found
