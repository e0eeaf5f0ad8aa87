"""Attention of a batched step: `torch.func.vmap` has no rule for the fused one on a CPU.

Left to itself, vmap takes the plain form, with a table of scores for every member, row and head.
Here the members' axis is folded into the batch, whose rows do not meet in attention either: the
same kernel as in a lone run, a quarter to a third off the time of a step at 256 positions.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch.nn.functional as F
from torch import Tensor
from torch._C import _functorch
from torch.overrides import TorchFunctionMode


class FoldedAttention(TorchFunctionMode):
    """Inside, within `vmap`, attention sees the members as further rows of the batch.

    Args:
        n_members: size of the axis that `vmap` goes along, M below.
    """

    def __init__(self, n_members: int) -> None:
        super().__init__()
        self.n_members = n_members

    def __torch_function__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        options = kwargs or {}
        if func is not F.scaled_dot_product_attention or options.get("dropout_p"):
            return func(*args, **options)
        return self._attention(*args, **options)

    def _attention(
        self, q: Tensor, k: Tensor, v: Tensor, attn_mask: Tensor | None = None, **options: Any
    ) -> Any:
        """Of each member's (B, n_head, T, d_head)."""
        level = max(_functorch.maybe_get_level(tensor) or 0 for tensor in (q, k, v))
        assert level, "attention of a group happens within vmap"
        q, k, v = (self._members_first(tensor) for tensor in (q, k, v))
        rows = q.shape[:2]  # (M, B)
        if attn_mask is not None:
            mask = self._members_first(attn_mask)
            missing = [1] * (q.dim() - mask.dim())
            mask = mask.reshape(self.n_members, *missing, *mask.shape[1:])
            attn_mask = mask.expand(*rows, *mask.shape[2:]).flatten(0, 1)
        q, k, v = (tensor.flatten(0, 1) for tensor in (q, k, v))
        y = F.scaled_dot_product_attention(q, k, v, attn_mask, **options)
        return _functorch._add_batch_dim(y.unflatten(0, rows), 0, level)

    def _members_first(self, tensor: Tensor) -> Tensor:
        """A tensor with the members' axis in front; what they share is repeated by a view."""
        if not _functorch.is_batchedtensor(tensor):
            return tensor.expand(self.n_members, *tensor.shape)
        return _functorch.get_unwrapped(tensor).movedim(_functorch.maybe_get_bdim(tensor), 0)
