"""Fully sharded data parallelism (FSDP2): each process holds a part of every weight and moment.

The state is put together again where single processes want it whole, and saved in parts by
`torch.distributed.checkpoint` while training continues.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import fully_shard, register_fsdp_forward_method
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.optim import Optimizer
from torch.utils._pytree import tree_map

from fmscale.models.layers import Block


def shard(model: nn.Module, mesh: DeviceMesh) -> None:
    """Divide a model's parameters among the processes of `mesh`, block by block.

    Single numbers, such as a temperature, cannot be divided: each process keeps them.
    """
    for module in model.modules():
        if isinstance(module, Block):
            fully_shard(module, mesh=mesh)
            register_fsdp_forward_method(module, "at")  # in place of forward, in CLIP's towers
    fully_shard(model, mesh=mesh, ignored_params=set(scalars_of(model)))


def scalars_of(model: nn.Module) -> list[nn.Parameter]:
    """Parameters that are single numbers."""
    return [p for p in model.parameters() if p.dim() == 0]


def split_groups(optimizer: Optimizer) -> None:
    """Give undivided parameters groups of their own: fused updates do not mix the two kinds.

    The parameters must keep their order, by which an optimizer's state is stored.

    Raises:
        ValueError: if they would not.
    """
    before = [p for group in optimizer.param_groups for p in group["params"]]
    groups: list[dict[str, Any]] = []
    for group in optimizer.param_groups:
        divided = [p for p in group["params"] if isinstance(p, DTensor)]
        whole = [p for p in group["params"] if not isinstance(p, DTensor)]
        groups += [{**group, "params": part} for part in (divided, whole) if part]
    after = [p for group in groups for p in group["params"]]
    if any(a is not b for a, b in zip(before, after, strict=True)):
        raise ValueError("single-number parameters must come last in their optimizer group")
    optimizer.param_groups[:] = groups


def load_optimizer(optimizer: Optimizer, state: dict[str, Any]) -> None:
    """Restore an optimizer from a whole state, dividing it as the parameters are divided.

    Hyper-parameters stay as configured; the learning rate is set before each step anyway.

    Args:
        state: of any optimizer over the same parameters, undivided; only its "state" is read.
    """
    parameters = [p for group in optimizer.param_groups for p in group["params"]]

    def place(value: Any, parameter: Tensor) -> Any:
        if not isinstance(value, Tensor) or value.dim() == 0 or not isinstance(parameter, DTensor):
            return value
        value = value.to(parameter.device)
        return distribute_tensor(value, parameter.device_mesh, parameter.placements)

    placed = {
        index: {name: place(value, parameters[int(index)]) for name, value in entry.items()}
        for index, entry in state["state"].items()
    }
    optimizer.load_state_dict(
        {"state": placed, "param_groups": optimizer.state_dict()["param_groups"]}
    )


def whole(tree: Any) -> Any:
    """Put every divided tensor of a state together, on the CPU; all processes take part."""
    return tree_map(_whole, tree)


def _whole(leaf: Any) -> Any:
    if isinstance(leaf, DTensor):
        leaf = leaf.full_tensor()
    return leaf.detach().cpu() if isinstance(leaf, Tensor) else leaf


@torch.no_grad()
def average_scalars(model: nn.Module) -> None:
    """Average the gradients that FSDP does not see."""
    for parameter in scalars_of(model):
        if parameter.grad is not None:
            dist.all_reduce(parameter.grad)
            parameter.grad /= dist.get_world_size()


@torch.no_grad()
def clip_gradients(model: nn.Module, max_norm: float) -> None:
    """Scale all gradients together so that their norm over all processes is at most `max_norm`.

    As `torch.nn.utils.clip_grad_norm_`, which does not mix divided and undivided ones.
    """
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    norms = [torch.linalg.vector_norm(gradient) for gradient in gradients]
    norms = [norm.full_tensor() if isinstance(norm, DTensor) else norm for norm in norms]
    factor = (max_norm / (torch.stack(norms).norm() + 1e-6)).clamp(max=1.0)
    for gradient in gradients:
        local = gradient.to_local() if isinstance(gradient, DTensor) else gradient
        local.mul_(factor)
