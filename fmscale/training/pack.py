"""Several runs of one shape as one batched step: seeds and learning rates side by side.

A small model leaves a processor idle: most of a step is the overhead of many tiny kernels. Here the
weights of M runs are stacked and `torch.func.vmap` takes the step of all of them at once. Members
share shape, objective, batch size and number of steps, and differ in seed and learning rate; each
has its own batches, gradient norm, rate and optimizer moments, so it ends where its lone run ends,
up to rounding. (The exception is the bias of attention keys, which no output depends on: its
gradient is rounding alone, and Adam makes steps of it in the lone run as well.)
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad_and_value, stack_module_state, vmap
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.optim import AdamW, Optimizer

Objective = Callable[[nn.Module, dict[str, Tensor]], dict[str, Tensor]]


class PackError(ValueError):
    """These runs cannot be trained as one; they are trained one by one instead."""


class Pack:
    """Models and optimizers of several runs, stepped together.

    The members' own modules and optimizers are the truth between steps only after `unstack`.

    Args:
        models: of one shape; their weights may differ.
        optimizers: one AdamW for each, over the same parameters in the same groups.
        objective: (model, batch) -> dict with the scalar "loss".
        clip: largest gradient norm of each member; None: no limit.
        compile: run the batched step through torch.compile.

    Raises:
        PackError: for models with buffers that training changes, with dropout, or optimizers that
            are not AdamW.
    """

    def __init__(
        self,
        models: Sequence[nn.Module],
        optimizers: Sequence[Optimizer],
        objective: Objective,
        *,
        clip: float | None = None,
        compile: bool = False,
    ) -> None:
        self.models, self.optimizers = list(models), list(optimizers)
        self.clip = clip
        _check(self.models, self.optimizers)
        stacked, self.buffers = stack_module_state(self.models)  # each (M, ...)
        self.weights = {name: value.detach().clone() for name, value in stacked.items()}
        self.peaks = {name: self._setting(name, "lr") for name in self.weights}
        self.decays = {name: self._setting(name, "weight_decay") for name in self.weights}
        self.means, self.squares = self._moments("exp_avg"), self._moments("exp_avg_sq")
        group = self.optimizers[0].param_groups[0]
        self.betas, self.eps = group["betas"], group["eps"]
        self.n_updates = int(_any_state(self.optimizers[0]))
        skeleton = _Loss(self.models[0], objective)

        def loss(weights: dict[str, Tensor], buffers: dict[str, Tensor], batch: Any) -> Tensor:
            named = {f"model.{name}": value for name, value in {**weights, **buffers}.items()}
            result: Tensor = functional_call(skeleton, named, (batch,))
            return result

        step = vmap(grad_and_value(loss))
        self._gradients: Any = torch.compile(step) if compile else step

    def __len__(self) -> int:
        return len(self.models)

    def step(self, batches: Sequence[Sequence[dict[str, Tensor]]], factor: float) -> list[float]:
        """One update of every member.

        Args:
            batches: for each micro-batch, one batch a member.
            factor: of the schedule, on every peak learning rate.

        Returns:
            Mean loss of each member over its micro-batches, before the update.
        """
        losses = torch.zeros(len(self))
        total: dict[str, Tensor] | None = None
        for micro in batches:
            batch = {name: torch.stack([b[name] for b in micro]) for name in micro[0]}
            gradients, loss = self._differentiate(batch)
            losses += loss.detach() / len(batches)
            if total is None:
                total = gradients
            else:
                for name, gradient in gradients.items():
                    total[name] = total[name] + gradient
        assert total is not None
        if len(batches) > 1:
            total = {name: gradient / len(batches) for name, gradient in total.items()}
        self._update(self._clipped(total), factor)
        return [float(value) for value in losses]

    @torch.no_grad()
    def unstack(self) -> None:
        """Write weights and moments back into the members' modules and optimizers."""
        for row, (model, optimizer) in enumerate(zip(self.models, self.optimizers, strict=True)):
            for name, parameter in model.named_parameters():
                parameter.copy_(self.weights[name][row])
                if self.n_updates:
                    optimizer.state[parameter] = {
                        "step": torch.tensor(float(self.n_updates)),
                        "exp_avg": self.means[name][row].clone(),
                        "exp_avg_sq": self.squares[name][row].clone(),
                    }

    def _differentiate(self, batch: dict[str, Tensor]) -> tuple[dict[str, Tensor], Tensor]:
        with sdpa_kernel(SDPBackend.MATH), warnings.catch_warnings():
            # The fused attention has no batching rule on the CPU; its plain form has.
            warnings.filterwarnings("ignore", message=".*performance drop.*")
            gradients, loss = self._gradients(self.weights, self.buffers, batch)
        return gradients, loss

    def _clipped(self, gradients: dict[str, Tensor]) -> dict[str, Tensor]:
        """Gradients with the norm of each member at most `clip`, as `clip_grad_norm_` does."""
        if self.clip is None:
            return gradients
        norms = [gradient.reshape(len(self), -1).norm(dim=1) for gradient in gradients.values()]
        norm = torch.stack(norms).norm(dim=0)  # (M,)
        scale = (self.clip / (norm + 1e-6)).clamp(max=1.0)
        return {name: gradient * _like(scale, gradient) for name, gradient in gradients.items()}

    @torch.no_grad()
    def _update(self, gradients: dict[str, Tensor], factor: float) -> None:
        """AdamW (Loshchilov & Hutter 2019, Algorithm 2) with one rate and decay a member."""
        self.n_updates += 1
        beta1, beta2 = self.betas
        correction1 = 1 - beta1**self.n_updates
        correction2 = math.sqrt(1 - beta2**self.n_updates)
        for name, weight in self.weights.items():
            gradient, mean, square = gradients[name], self.means[name], self.squares[name]
            rate = _like(self.peaks[name], weight) * factor
            weight.mul_(1 - rate * _like(self.decays[name], weight))
            mean.lerp_(gradient, 1 - beta1)
            square.mul_(beta2).addcmul_(gradient, gradient, value=1 - beta2)
            divisor = square.sqrt().div_(correction2).add_(self.eps)
            weight.sub_(rate / correction1 * mean / divisor)

    def _setting(self, name: str, key: str) -> Tensor:
        """A setting of the group that holds parameter `name`, (M,)."""
        values = []
        for model, optimizer in zip(self.models, self.optimizers, strict=True):
            wanted = model.get_parameter(name)
            (group,) = (g for g in optimizer.param_groups if any(p is wanted for p in g["params"]))
            values.append(float(group[key]))
        return torch.tensor(values, device=self.weights[name].device)

    def _moments(self, key: str) -> dict[str, Tensor]:
        """A running moment of every parameter, (M, ...); zeros before the first update."""
        stacked = {}
        for name, weight in self.weights.items():
            rows = [
                o.state.get(m.get_parameter(name), {}).get(key, torch.zeros_like(weight[0]))
                for m, o in zip(self.models, self.optimizers, strict=True)
            ]
            stacked[name] = torch.stack(rows).to(weight)
        return stacked


class _Loss(nn.Module):
    """The objective's scalar as a module, so that `functional_call` can swap the weights."""

    def __init__(self, model: nn.Module, objective: Objective) -> None:
        super().__init__()
        self.model = model
        self.objective = objective

    def forward(self, batch: dict[str, Tensor]) -> Tensor:
        return self.objective(self.model, batch)["loss"]


def _check(models: Sequence[nn.Module], optimizers: Sequence[Optimizer]) -> None:
    for module in models[0].modules():
        if isinstance(module, nn.Dropout) and module.p > 0:
            raise PackError(
                "runs with dropout cannot be packed: each draws its own masks; set dropout to 0"
            )
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            raise PackError("models with batch normalization cannot be packed")
    for optimizer in optimizers:
        if not isinstance(optimizer, AdamW):
            raise PackError(f"{type(optimizer).__name__} cannot be packed; use AdamW")
        groups = [(group["betas"], group["eps"]) for group in optimizer.param_groups]
        if any(group != groups[0] for group in groups):
            raise PackError("groups with different betas or eps cannot be packed")
    if len({float(_any_state(optimizer)) for optimizer in optimizers}) != 1:
        raise PackError("runs after different numbers of steps cannot be packed")


def _any_state(optimizer: Optimizer) -> float:
    """Updates made so far."""
    steps = {float(state["step"]) for state in optimizer.state.values()}
    return max(steps, default=0.0)


def _like(values: Tensor, weight: Tensor) -> Tensor:
    """(M,) reshaped to broadcast over (M, ...)."""
    return values.view(-1, *[1] * (weight.dim() - 1))
