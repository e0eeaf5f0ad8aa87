"""Several runs of one shape as one batched step: seeds and learning rates side by side.

A small model leaves a processor idle: most of a step is the overhead of many tiny kernels. Here the
weights of M runs are stacked and `torch.func.vmap` makes one batched computation of all. Members
share shape, objective, batch size and number of steps, and differ in seed and learning rate; each
has its own batches, gradient norm, rate and optimizer moments, so it ends where its lone run ends,
up to rounding. (The exception is the bias of attention keys, which no output depends on: its
gradient is rounding alone, and Adam makes steps of it in the lone run as well.)
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state, vmap
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.optim import AdamW, Optimizer
from torch.optim.adamw import adamw

from fmscale.training.vmapped.attention_internals import FoldedAttention

Objective = Callable[[nn.Module, dict[str, Tensor]], dict[str, Tensor]]


class VmapError(ValueError):
    """These runs cannot be trained as one; they are trained one by one instead."""


class VmappedGroup:
    """Models and optimizers of several runs, stepped together.

    The members' own modules and optimizers are the truth between steps only after `unstack`.

    Args:
        models: of one shape; their weights may differ.
        optimizers: one AdamW for each, over the same parameters in the same groups.
        objective: (model, batch) -> dict with the scalar "loss".
        clip: largest gradient norm of each member; None: no limit.
        compile: run the batched step through torch.compile.

    Raises:
        VmapError: for models with buffers that training changes, with dropout, or optimizers that
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
        # All weights lie in one matrix, a row a member, so that norms, moments and updates are a
        # few operations on it; the parameters of an optimizer group are neighbours.
        self.groups = self._groups()
        names = [name for group in self.groups for name in group]
        self.flat = _rows([stacked[name].detach() for name in names])
        sizes = [stacked[name][0].numel() for name in names]
        parts = self.flat.split(sizes, dim=1)
        # By `data`, autograd sees each change alone: CLIP caps its temperature on the way forward.
        self.weights = {
            name: part.view(stacked[name].shape).data.requires_grad_()
            for name, part in zip(names, parts, strict=True)
        }
        self.means, self.squares = self._moments("exp_avg"), self._moments("exp_avg_sq")
        self.n_updates = self._unstacked_after = int(_any_state(self.optimizers[0]))
        self._slots = self._member_groups()
        skeleton = _Loss(self.models[0], objective)

        def loss(weights: dict[str, Tensor], buffers: dict[str, Tensor], batch: Any) -> Tensor:
            named = {f"model.{name}": value for name, value in {**weights, **buffers}.items()}
            result: Tensor = functional_call(skeleton, named, (batch,))
            return result

        # Only the way forward is mapped: the way back through it is plain autograd, as one batch.
        mapped = vmap(loss)
        self._losses: Any = torch.compile(mapped) if compile else mapped
        self._compiles = compile

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
        total: Tensor | None = None  # gradients, as `flat`
        for micro in batches:
            batch = {name: torch.stack([b[name] for b in micro]) for name in micro[0]}
            loss, gradient = self._differentiate(batch)
            losses += loss.cpu() / len(batches)
            total = gradient if total is None else total.add_(gradient)
        assert total is not None
        if len(batches) > 1:
            total /= len(batches)
        if self.clip is not None:  # as `clip_grad_norm_` does, member by member
            scale = (self.clip / (total.norm(dim=1, keepdim=True) + 1e-6)).clamp(max=1.0)
            total *= scale
        self._update(total, factor)
        return [float(value) for value in losses]

    @torch.no_grad()
    def unstack(self) -> None:
        """Write weights and moments back into the members' modules and optimizers."""
        if self._unstacked_after == self.n_updates:
            return
        self._unstacked_after = self.n_updates
        sizes = [weight[0].numel() for weight in self.weights.values()]
        for row, (model, optimizer) in enumerate(zip(self.models, self.optimizers, strict=True)):
            parts = zip(*(m[row].split(sizes) for m in (self.means, self.squares)), strict=True)
            for (name, weight), (mean, square) in zip(self.weights.items(), parts, strict=True):
                parameter = model.get_parameter(name)
                parameter.copy_(weight[row])
                optimizer.state[parameter] = {
                    "step": torch.tensor(float(self.n_updates)),
                    "exp_avg": mean.view_as(parameter).clone(),
                    "exp_avg_sq": square.view_as(parameter).clone(),
                }

    def _differentiate(self, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Losses (M,) and gradients, as `flat`."""
        # A compiler fuses by itself, but can trace what vmap has rules for alone: plain attention.
        mapping = sdpa_kernel(SDPBackend.MATH) if self._compiles else FoldedAttention(len(self))
        with mapping, warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*performance drop.*")  # of scalars
            losses = self._losses(self.weights, self.buffers, batch)
        # No loss depends on another member's weights, so the sum has the gradients of all.
        gradients = torch.autograd.grad(
            losses.sum(), list(self.weights.values()), materialize_grads=True
        )
        return losses.detach(), _rows(gradients)

    @torch.no_grad()
    def _update(self, gradients: Tensor, factor: float) -> None:
        """AdamW (Loshchilov & Hutter 2019, Algorithm 2), by the kernel that lone runs use."""
        self.n_updates += 1
        for row, columns, group, n_updates in self._slots:
            adamw(
                [self.flat[row, columns]],
                [gradients[row, columns]],
                [self.means[row, columns]],
                [self.squares[row, columns]],
                [],
                [n_updates],
                fused=True,
                amsgrad=False,
                beta1=group["betas"][0],
                beta2=group["betas"][1],
                lr=group["lr"] * factor,
                weight_decay=group["weight_decay"],
                eps=group["eps"],
                maximize=False,
            )

    def _groups(self) -> list[list[str]]:
        """Names of the parameters in each optimizer group; the same for every member."""
        names = {parameter: name for name, parameter in self.models[0].named_parameters()}
        return [[names[p] for p in group["params"]] for group in self.optimizers[0].param_groups]

    def _member_groups(self) -> list[tuple[int, slice, dict[str, Any], Tensor]]:
        """Each member's groups: row and columns of `flat`, peak settings, updates so far."""
        slots, end = [], 0
        for place, names in enumerate(self.groups):
            begin, end = end, end + sum(self.weights[name][0].numel() for name in names)
            for row, optimizer in enumerate(self.optimizers):
                group = optimizer.param_groups[place]
                settings = {k: group[k] for k in ("lr", "weight_decay", "betas", "eps")}
                done = torch.tensor(float(self.n_updates), device=self.flat.device)
                slots.append((row, slice(begin, end), settings, done))
        return slots

    def _moments(self, key: str) -> Tensor:
        """A running moment of every parameter, as `flat`; zeros before the first update."""
        rows = []
        for model, optimizer in zip(self.models, self.optimizers, strict=True):
            parameters = [model.get_parameter(name) for name in self.weights]
            moments = [optimizer.state.get(p, {}).get(key, torch.zeros_like(p)) for p in parameters]
            rows.append(torch.cat([moment.flatten() for moment in moments]))
        return torch.stack(rows).to(self.flat)


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
            raise VmapError(
                "runs with dropout cannot be vmapped: each draws its own masks; set dropout to 0"
            )
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            raise VmapError("models with batch normalization cannot be vmapped")
    for optimizer in optimizers:
        if not isinstance(optimizer, AdamW):
            raise VmapError(f"{type(optimizer).__name__} cannot be vmapped; use AdamW")
    if len({float(_any_state(optimizer)) for optimizer in optimizers}) != 1:
        raise VmapError("runs after different numbers of steps cannot be vmapped")


def _any_state(optimizer: Optimizer) -> float:
    """Updates made so far."""
    steps = {float(state["step"]) for state in optimizer.state.values()}
    return max(steps, default=0.0)


def _rows(tensors: Sequence[Tensor]) -> Tensor:
    """Tensors (M, ...) side by side: a row a member."""
    return torch.cat([tensor.reshape(len(tensor), -1) for tensor in tensors], dim=1)
