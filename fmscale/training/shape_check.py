"""One loss without arithmetic or memory: what does not fit together shows before any compute."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    DynamicOutputShapeException,
    FakeTensorMode,
)
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from fmscale.config.build import Parts, build_model
from fmscale.errors import ConfigError
from fmscale.evaluation.metric import measuring
from fmscale.objectives.next_token import NextToken
from fmscale.objectives.pair_encoding import BATCH_NORMS
from fmscale.planning.job import Job
from fmscale.sizing import Shape

N_ITEMS = 2  # in the batch that is tried: the fewest that a contrastive loss takes
TOLERANCE = 0.1  # between the FLOPs that a shape states and those that torch counts
N_CALLS = 16  # of a model and its parts, after which an evaluator has shown what it asks


def check_shapes(job: Job, parts: Parts) -> None:
    """Build the model, count it and take the loss of two items, on tensors that have shapes alone;
    begin each evaluator.

    Raises:
        ConfigError: for an objective of another kind of model, a vocabulary that is too small, a
            model that is not what its shape says, and whatever the model, the optimizer, the
            objective or an evaluator refuses or finds missing.
    """
    families = getattr(parts.objective, "families", (job.shape.family,))
    # A user's own family is judged by trying it.
    if _is_ours(job.shape) and job.shape.family not in families:
        raise ConfigError(
            f"objective {type(parts.objective).__name__} trains {' or '.join(families)} models, "
            f"not {job.shape.family}; choose an objective of the model's kind"
        )
    known, needed = job.shape.vocabulary, getattr(parts.data, "vocab_size", None)
    if known is not None and needed is not None and needed > known:
        raise ConfigError(
            f"the data have {needed} tokens, the model knows {known}; set the model's vocab_size "
            "to that of the data"
        )
    items = parts.data.train_batch(np.arange(min(N_ITEMS, parts.data.n_items)))
    with FakeTensorMode(allow_non_fake_inputs=True) as fake:
        model = build_model(job.config)
        _check_norms(model, job.trainer.strategy)
        _check_parameters(model, job.shape)
        try:
            parts.optimizer(model)
        except (ValueError, TypeError, AttributeError) as error:
            raise ConfigError(f"section optimizer: {error}") from error
        _try_loss(model, job.shape, parts, {k: fake.from_tensor(v) for k, v in items.items()})
    if not all(map(_is_ours, (model, job.shape, parts.data))):
        _try_evaluators(job, parts)


def _check_norms(model: nn.Module, strategy: str) -> None:
    """Batch norms take statistics of the pairs at hand: a part of a batch has others."""
    if strategy != "single" and any(isinstance(part, BATCH_NORMS) for part in model.modules()):
        raise ConfigError(
            f"trainer.strategy={strategy} divides the batch, and this model's batch norms would "
            "normalize each part by itself and so change the numbers; use a model without them, "
            "such as model=clip/2x32, or one process (trainer.strategy=single)"
        )


def _check_parameters(model: nn.Module, shape: Shape) -> None:
    """Every law is fitted to what the shape counts, so it must be what the module has."""
    name, stated = type(model).__name__, shape.param_groups()
    if not callable(getattr(model, "param_groups", None)):
        raise ConfigError(
            f"{name} lacks param_groups(); return its parameters by the groups of its shape "
            f"({', '.join(stated)}), as fmscale.models.GPT does"
        )
    groups: dict[str, list[Tensor]] = model.param_groups()  # type: ignore[operator]
    held = {group: sum(p.numel() for p in found) for group, found in groups.items()}
    for group in (*stated, *held):
        if stated.get(group, 0) != held.get(group, 0):
            raise ConfigError(
                f"{type(shape).__name__} counts {stated.get(group, 0):,} parameters of group "
                f"{group}, {name} has {held.get(group, 0):,}; correct param_groups of one of them"
            )
    grouped = [id(parameter) for found in groups.values() for parameter in found]
    if sorted(grouped) != sorted(id(parameter) for parameter in model.parameters()):
        total = sum(parameter.numel() for parameter in model.parameters())
        raise ConfigError(
            f"{name}.param_groups() holds {sum(held.values()):,} of the module's {total:,} "
            "parameters; name each once"
        )


def _try_loss(model: nn.Module, shape: Shape, parts: Parts, items: dict[str, Tensor]) -> None:
    counter = FlopCounterMode(display=False)
    try:
        with counter, sdpa_kernel(SDPBackend.MATH):  # fused attention is not counted on the CPU
            parts.objective(model, items)
    except (DataDependentOutputException, DynamicOutputShapeException):
        return  # an objective that looks at numbers can only be tried in earnest
    except (ValueError, RuntimeError, KeyError, IndexError, AttributeError, TypeError) as error:
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        raise ConfigError(f"model, objective and data do not fit together: {reason}") from error
    if _is_ours(model) and _is_ours(shape):
        return  # counted exactly where they are tested
    n_units = len(next(iter(items.values()))) * shape.units_per_item
    stated = shape.train_flops_per_unit(N_ITEMS)["flops"]
    counted = 3 * counter.get_total_flops() / n_units  # the backward pass as twice the forward one
    if counted and abs(stated / counted - 1) > TOLERANCE:
        raise ConfigError(
            f"{type(shape).__name__} states {stated:,} training FLOPs by {shape.unit[:-1]}, torch "
            f"counts {counted:,.0f}; correct train_flops_per_unit (a multiply-add is two FLOPs)"
        )


class _Enough(Exception):
    """An evaluator has asked the model often enough."""


def _try_evaluators(job: Job, parts: Parts) -> None:
    """Begin each evaluator in earnest, untrained, where a part of one's own may lack what it asks.

    Raises:
        ConfigError: naming the evaluator and what went wrong; also for a language model that sees
            what it is to predict.
    """
    with torch.random.fork_rng():
        model = build_model(job.config)
    if isinstance(parts.objective, NextToken):
        _check_causal(model, job.shape)
    n_calls = 0

    def count(*_: Any) -> None:
        nonlocal n_calls
        n_calls += 1
        if n_calls > N_CALLS:
            raise _Enough

    for module in (model, *model.children()):
        module.register_forward_hook(count)
    for name, evaluator in parts.evaluators.items():
        n_calls = 0
        try:
            for _ in evaluator(model, parts.data, parts.objective):
                pass
        except _Enough:
            continue
        except Exception as error:
            reason = f"{type(error).__name__}: {error}".splitlines()[0]
            raise ConfigError(
                f"evaluation.evaluators.{name} cannot measure {type(model).__name__}: {reason}; "
                "complete the model, or leave this evaluator out"
            ) from error


def _check_causal(model: nn.Module, shape: Any) -> None:
    """A model that sees the token it predicts has a loss that says nothing."""
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randint(shape.vocab_size, (1, shape.seq_len), generator=generator)
    later = tokens.clone()
    later[:, -1] = (later[:, -1] + 1) % shape.vocab_size
    with measuring(model):
        before, after = model(tokens)[:, :-1], model(later)[:, :-1]
    if not torch.allclose(before, after, rtol=1e-4, atol=1e-5):
        raise ConfigError(
            f"{type(model).__name__} sees later tokens: its predictions change with the last token "
            "of the input, so its loss is not that of predicting them; mask what comes later"
        )


def _is_ours(part: Any) -> bool:
    return type(part).__module__.partition(".")[0] == "fmscale"
