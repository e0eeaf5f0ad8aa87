"""One measured number, and what measures it."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor, nn

Objective = Callable[[nn.Module, dict[str, Tensor]], dict[str, Tensor]]


class Metric(NamedTuple):
    """A number with its unit, named `split/what`: what it was measured on, then the quantity.

    That is the key it is logged under; trackers put what has the same split under one heading.
    """

    name: str
    value: float
    unit: str

    @property
    def column(self) -> str:
        """Its name in run records and tables."""
        return self.name.replace("/", "_")


class Rows(NamedTuple):
    """A table for a person to read, such as sampled texts; kept beside the record, not in it."""

    name: str
    rows: list[dict[str, Any]]  # the same keys in each


class Evaluator(Protocol):
    """Measures a model and yields metrics; built from `cfg.evaluation.evaluators`.

    Besides `TrainingData`, an evaluator may need more of its data, and then says so.
    """

    def __call__(self, model: Any, data: Any, objective: Objective) -> Iterator[Metric | Rows]: ...


@runtime_checkable
class Checked(Protocol):
    """An evaluator that can tell before any compute is spent that it does not fit the data."""

    def check(self, data: Any) -> None:
        """Raise ValueError naming field, value and remedy."""


@contextmanager
def measuring(model: nn.Module) -> Iterator[torch.device]:
    """Evaluation mode without gradients or autocast; yields the model's device.

    Every loss is measured in float32 with dropout off, whatever the precision of training, so
    that runs of different precision can be compared. The mode of every part of the model is
    restored at the end, so that a part which was frozen in evaluation mode stays so.
    """
    was_training = [(part, part.training) for part in model.modules()]
    device = next(model.parameters()).device
    model.eval()
    try:
        with torch.no_grad(), torch.autocast(device.type, enabled=False):
            yield device
    finally:
        for part, training in was_training:
            part.training = training  # not train(), which would change the parts below as well


def mean_and_standard_error(values: Tensor) -> tuple[float, float]:
    """Mean of independent values (n,) and its standard error, in float64; nan for one value."""
    values = values.double()
    mean = float(values.mean())
    if len(values) < 2:
        return mean, math.nan
    return mean, float(values.std()) / math.sqrt(len(values))


def mean_metrics(name: str, values: Tensor, unit: str) -> list[Metric]:
    """The mean of independent values (n,) and, of more than one, its standard error."""
    mean, error = mean_and_standard_error(values)
    found = [Metric(name, mean, unit), Metric(f"{name}_standard_error", error, unit)]
    return found if math.isfinite(error) else found[:1]


def accuracy_metrics(prefix: str, hits: np.ndarray) -> Iterator[Metric]:
    """The share of hits (n,) and its standard error."""
    value = float(hits.mean())
    yield Metric(f"{prefix}_accuracy", value, "fraction")
    error = math.sqrt(value * (1 - value) / len(hits))
    yield Metric(f"{prefix}_accuracy_standard_error", error, "fraction")


def name_of(file: str | None) -> str:
    """What a file is called in the names of metrics."""
    return re.sub(r"\W+", "_", Path(str(file)).name.split(".")[0]).lower()
