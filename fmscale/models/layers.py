"""The transformer block shared by GPT and both CLIP towers.

A `Recipe` says what it is made of; by default it is the pre-LN block of GPT-2 and CLIP. Letters in
shapes: B batch, T positions.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fmscale.models.positions import Rotation, banded_attention, rotate, visible
from fmscale.sizing.architecture import GPT2, Recipe

RMS_EPS = 1e-6
SHORT = 256  # positions


class KeyValueCache:
    """Keys and values of the tokens read so far, so that one more token costs one position.

    One entry a block, filled as the blocks run; `length` tokens are in it. Rotary keys are kept
    rotated.
    """

    def __init__(self, n_layer: int) -> None:
        self.keys: list[Tensor | None] = [None] * n_layer
        self.values: list[Tensor | None] = [None] * n_layer

    @property
    def length(self) -> int:
        return 0 if self.keys[-1] is None else self.keys[-1].shape[2]

    def extend(self, layer: int, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Add (B, n_head, T, d_head) of new tokens; returns those of all tokens."""
        old_key, old_value = self.keys[layer], self.values[layer]
        if old_key is not None and old_value is not None:
            key, value = torch.cat([old_key, key], 2), torch.cat([old_value, value], 2)
        self.keys[layer], self.values[layer] = key, value
        return key, value


class RMSNorm(nn.RMSNorm):
    """Computed in float32 whatever comes in; under autocast torch's own takes a slow way there."""

    def forward(self, x: Tensor) -> Tensor:
        y = F.rms_norm(x.float(), self.normalized_shape, self.weight, self.eps)
        return y.type_as(x)


def norm_of(recipe: Recipe, width: int) -> nn.Module:
    """The recipe's norm over the last `width` components."""
    if recipe.norm == "rms":
        return RMSNorm(width, eps=RMS_EPS)
    return nn.LayerNorm(width)


def attend(q: Tensor, k: Tensor, v: Tensor, **options: Any) -> Tensor:
    """`F.scaled_dot_product_attention`, over short sequences on a CPU in float32.

    There torch's backward pass in bfloat16 takes 2 to 6 times as long as in float32, at 37
    positions more than all matrix products of a block; from some 500 positions on it is as fast.
    q, k and v are (B, n_head, T, d_head).
    """
    mixed = torch.is_autocast_enabled("cpu") or v.dtype == torch.bfloat16
    if q.device.type == "cpu" and mixed and k.shape[2] <= SHORT:
        with torch.autocast("cpu", enabled=False):
            y = F.scaled_dot_product_attention(q.float(), k.float(), v.float(), **options)
        return y.to(v.dtype)
    return F.scaled_dot_product_attention(q, k, v, **options)


class Attention(nn.Module):
    """Multi-head self-attention with one fused product for query, key and value.

    Args:
        scale: factor on the scores; None: 1 / sqrt(d_head).
        window: positions a token sees, itself included; None: all.
    """

    def __init__(
        self,
        n_head: int,
        d_model: int,
        causal: bool,
        dropout: float = 0.0,
        recipe: Recipe = GPT2,
        *,
        scale: float | None = None,
        window: int | None = None,
    ) -> None:
        super().__init__()
        self.n_head = n_head
        self.causal = causal
        self.dropout = dropout
        self.scale = scale
        self.window = window
        self.qkv = nn.Linear(d_model, 3 * d_model, bias=recipe.bias)
        self.out = nn.Linear(d_model, d_model, bias=recipe.bias)
        d_head = d_model // n_head
        self.norm_query = RMSNorm(d_head, eps=RMS_EPS) if recipe.qk_norm else None
        self.norm_key = RMSNorm(d_head, eps=RMS_EPS) if recipe.qk_norm else None

    def forward(
        self,
        x: Tensor,
        cache: KeyValueCache | None = None,
        layer: int = 0,
        rotation: Rotation | None = None,
    ) -> Tensor:
        B, T, d_model = x.shape
        qkv = self.qkv(x).view(B, T, 3, self.n_head, d_model // self.n_head)
        # One unbind, so that the backward pass writes one gradient instead of adding three; and
        # before the transposition, so that it writes it as the product above reads it.
        q, k, v = (part.transpose(1, 2) for part in qkv.unbind(2))  # each (B, n_head, T, d_head)
        if self.norm_query is not None and self.norm_key is not None:
            q, k = self.norm_query(q), self.norm_key(k)
        if rotation is not None:
            q, k = rotate(q, rotation), rotate(k, rotation)
        if cache is not None:
            k, v = cache.extend(layer, k, v)
            mask = visible(T, k.shape[2], self.window, x.device)
            y = attend(q, k, v, attn_mask=mask, scale=self.scale)
        elif self.window is not None and self.window < T:
            y = banded_attention(q, k, v, self.window, self._dropout, self.scale)
        else:
            y = attend(q, k, v, is_causal=self.causal, dropout_p=self._dropout, scale=self.scale)
        return self.out(y.transpose(1, 2).reshape(B, T, d_model))  # (B, T, d_model)

    def at(self, x: Tensor, position: Tensor | None) -> Tensor:
        """What `forward` gives at one position of each row, (B, d_model); see `Block.at`."""
        B, T, d_model = x.shape
        d_head = d_model // self.n_head
        weight, bias = self.qkv.weight, self.qkv.bias
        in_query, in_rest = (None, None) if bias is None else bias.split([d_model, 2 * d_model])
        q = F.linear(row_at(x, position), weight[:d_model], in_query)
        kv = F.linear(x, weight[d_model:], in_rest).view(B, T, 2, self.n_head, d_head)
        k, v = (part.transpose(1, 2) for part in kv.unbind(2))  # each (B, n_head, T, d_head)
        q = q.view(B, self.n_head, 1, d_head)
        if self.norm_query is not None and self.norm_key is not None:
            q, k = self.norm_query(q), self.norm_key(k)
        mask = None
        if self.causal:
            last = 0 if position is None else position[:, None, None, None]
            mask = torch.arange(T, device=x.device)[None] <= last  # (B, 1, 1, T), or (1, T)
        y = attend(q, k, v, attn_mask=mask, dropout_p=self._dropout, scale=self.scale)
        return self.out(y.reshape(B, d_model))

    @property
    def _dropout(self) -> float:
        return self.dropout if self.training else 0.0


class MLP(nn.Module):
    """Two matrices around a GELU in one of its forms, or SwiGLU's three.

    SwiGLU's gate and its other factor come from one product, the gate first.
    """

    def __init__(self, d_model: int, d_hidden: int, recipe: Recipe = GPT2) -> None:
        super().__init__()
        self.gated = recipe.mlp == "swiglu"
        self.activation = recipe.mlp
        n_in = 2 if self.gated else 1
        self.expand = nn.Linear(d_model, n_in * d_hidden, bias=recipe.bias)
        self.out = nn.Linear(d_hidden, d_model, bias=recipe.bias)

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.expand(x)
        if self.gated:
            gate, hidden = hidden.chunk(2, dim=-1)
            hidden = F.silu(gate) * hidden
        elif self.activation == "quick_gelu":
            hidden = hidden * torch.sigmoid(1.702 * hidden)
        else:
            exact = self.activation == "gelu_exact"
            hidden = F.gelu(hidden, approximate="none" if exact else "tanh")
        return self.out(hidden)


class Block(nn.Module):
    """Attention, then MLP, each normalised and added to the residual stream as the recipe says."""

    def __init__(
        self,
        n_head: int,
        d_model: int,
        d_hidden: int,
        causal: bool,
        dropout: float = 0.0,
        recipe: Recipe = GPT2,
        *,
        scale: float | None = None,
        window: int | None = None,
    ) -> None:
        super().__init__()
        self.residual = recipe.residual
        self.norm_attention = norm_of(recipe, d_model)
        self.attention = Attention(
            n_head, d_model, causal, dropout, recipe, scale=scale, window=window
        )
        self.norm_mlp = norm_of(recipe, d_model)
        self.mlp = MLP(d_model, d_hidden, recipe)
        self.dropout = nn.Dropout(dropout)

    def forward(
        self,
        x: Tensor,
        cache: KeyValueCache | None = None,
        layer: int = 0,
        rotation: Rotation | None = None,
    ) -> Tensor:
        return self._join(x, self.attention(self._attended(x), cache, layer, rotation))

    def at(self, x: Tensor, position: Tensor | None = None) -> Tensor:
        """What `forward` gives at one position of each row, (B, d_model) from (B, T, d_model).

        For the last block of a tower that is read at one token: its query, its MLP and the rest of
        the block are needed there alone.

        Args:
            position: (B,) int64; None: the first position of every row.
        """
        return self._join(row_at(x, position), self.attention.at(self._attended(x), position))

    def _attended(self, x: Tensor) -> Tensor:
        """What the attention sees of the residual stream."""
        return x if self.residual == "post" else self.norm_attention(x)

    def _join(self, x: Tensor, attended: Tensor) -> Tensor:
        """The block's output, given the residual stream and its attention; both (..., d_model)."""
        attended = self.dropout(attended)
        if self.residual == "post":
            x = self.norm_attention(x + attended)
            return self.norm_mlp(x + self.dropout(self.mlp(x)))
        if self.residual == "parallel":
            return x + attended + self.dropout(self.mlp(self.norm_mlp(x)))
        x = x + attended
        return x + self.dropout(self.mlp(self.norm_mlp(x)))


def read_at(blocks: nn.ModuleList, x: Tensor, position: Tensor | None = None) -> Tensor:
    """Output of a stack of blocks at one position of each row, (B, d_model); see `Block.at`."""
    for block in blocks[:-1]:
        x = block(x)
    last = blocks[-1]
    assert isinstance(last, Block)
    return last.at(x, position)


def row_at(x: Tensor, position: Tensor | None) -> Tensor:
    """Row `position` (B,) of each (T, width) of x (B, T, width): (B, width); None: the first."""
    if position is None:
        return x[:, 0]
    return x.gather(1, position[:, None, None].expand(-1, 1, x.shape[2]))[:, 0]


def block_roles(blocks: nn.ModuleList) -> dict[str, list[Tensor]]:
    """Parameters of a stack of blocks by what they do; initialization differs between roles."""
    roles: dict[str, list[Tensor]] = {
        name: [] for name in ("qkv", "attention_out", "mlp_in", "mlp_out", "bias", "norm")
    }
    for block in blocks:
        assert isinstance(block, Block)
        attention, mlp = block.attention, block.mlp
        matrices = (attention.qkv, attention.out, mlp.expand, mlp.out)
        for role, matrix in zip(roles, matrices, strict=False):
            roles[role].append(matrix.weight)
        roles["bias"] += [matrix.bias for matrix in matrices if matrix.bias is not None]
        norms = (block.norm_attention, block.norm_mlp, attention.norm_query, attention.norm_key)
        for norm in norms:
            roles["norm"] += list(norm.parameters()) if norm is not None else []
    return roles


def sizing_groups(roles: dict[str, list[Tensor]]) -> dict[str, list[Tensor]]:
    """Merge roles into the groups that `fmscale.sizing` counts: attention and mlp matrices."""
    groups = dict(roles)
    groups["attention"] = groups.pop("qkv") + groups.pop("attention_out")
    groups["mlp"] = groups.pop("mlp_in") + groups.pop("mlp_out")
    return groups
