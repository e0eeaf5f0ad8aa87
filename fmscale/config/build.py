"""From configuration to objects: the one place that instantiates `_target_`s."""

from __future__ import annotations

import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hydra.errors import InstantiationException
from hydra.utils import instantiate

from fmscale.errors import ConfigError
from fmscale.public import with_public_names
from fmscale.runs.identity import canonical
from fmscale.sizing import Shape
from fmscale.sizing.shape import check_shape

if TYPE_CHECKING:
    from torch import nn

    from fmscale.data.protocol import TrainingData
    from fmscale.tracking.tracker import Tracker


@dataclass(frozen=True)
class Parts:
    """Everything a run is made of, except the model, which each run builds anew."""

    data: TrainingData
    objective: Callable[..., dict[str, Any]]
    optimizer: Callable[..., Any]  # model -> torch.optim.Optimizer
    multiplier: Callable[..., float]  # (step, warmup_steps=, n_steps=, cooldown_steps=)
    evaluators: dict[str, Callable[..., Any]]
    tracker: Tracker


def complete_data(section: Mapping[str, Any]) -> dict[str, Any]:
    """The data section with what the data themselves state: null is filled in, nothing changed.

    Prepared data know their vocabulary; the model and a run's id need it before anything is built.
    A class takes part by a static method `complete(settings)` that returns the missing values.

    Raises:
        ConfigError: naming field and folder, if the data cannot be found or do not say.
    """
    completed = with_public_names(section)
    for name, source in (completed.get("sources") or {}).items():
        filled = {**source, "data": complete_data(source["data"])}
        completed["sources"] = {**completed["sources"], name: filled}
    complete = getattr(target_of(completed), "complete", None)
    if complete is not None:
        try:
            completed |= complete(completed)
        except (ValueError, OSError) as error:
            raise ConfigError(str(error)) from error
    return completed


def target_of(section: Mapping[str, Any]) -> Any:
    """The class or function that a section names.

    Raises:
        ConfigError: if there is none.
    """
    name = with_public_names(section)["_target_"]
    try:
        return pkgutil.resolve_name(name)
    except Exception as error:  # also whatever importing a module of one's own raises
        raise ConfigError(f"_target_={name}: {error}") from error


def build_shape(config: Mapping[str, Any]) -> Shape:
    """The model's sizes; needs no torch.

    Raises:
        ConfigError: for sizes that do not fit together, keys the shape does not know, or a shape
            of one's own that does not answer what plans and records ask.
    """
    shape: Shape = _instantiate(config["model"]["shape"], "model.shape")
    try:
        check_shape(shape)
    except ValueError as error:
        raise ConfigError(f"section model.shape: {error}") from error
    return shape


def build_model(config: Mapping[str, Any]) -> nn.Module:
    """The model with fresh weights, drawn from torch's global generator."""
    model: nn.Module = _instantiate(config["model"], "model")
    return model


# A warm worker runs many jobs on the same data: it is opened once.
_opened: dict[str, TrainingData] = {}


def build_data(config: Mapping[str, Any]) -> TrainingData:
    """The training data, prepared; opened once in a process.

    Raises:
        ConfigError: for settings or files that cannot be used.
    """
    key = canonical(config["data"])
    if key not in _opened:
        data: TrainingData = _instantiate(config["data"], "data")
        try:
            data.prepare()
        except (ValueError, OSError) as error:
            raise ConfigError(f"section data: {error}") from error
        _opened[key] = data
    return _opened[key]


def build_tracker(config: Mapping[str, Any]) -> Tracker:
    """Where metrics go besides the run store.

    Raises:
        ConfigError: for settings that it refuses.
    """
    tracker: Tracker = _instantiate(config["logger"], "logger")
    return tracker


def build_parts(config: Mapping[str, Any]) -> Parts:
    """Build all parts of a run.

    Raises:
        ConfigError: naming the section, for unknown keys or values a constructor refuses.
    """
    evaluators = config["evaluation"]["evaluators"]
    return Parts(
        data=build_data(config),
        objective=_instantiate(config["objective"], "objective"),
        optimizer=_instantiate(config["optimizer"], "optimizer"),
        multiplier=_instantiate(config["schedule"]["multiplier"], "schedule.multiplier"),
        evaluators={
            name: _instantiate(evaluator, f"evaluation.evaluators.{name}")
            for name, evaluator in evaluators.items()
        },
        tracker=build_tracker(config),
    )


def _instantiate(section: Mapping[str, Any] | None, name: str) -> Any:
    if section is None:
        raise ConfigError(f"section {name} is null; to leave it out, write ~{name}")
    try:
        return instantiate(with_public_names(section))
    except InstantiationException as error:
        # Hydra wraps what the constructor raised; a person wants that, not the wrapping.
        cause = error.__cause__ or error
        raise ConfigError(f"section {name} ({section.get('_target_')}): {cause}") from error
