"""The pre-LN transformer block shared by GPT and both CLIP towers.

Pre-LN (the norm inside the residual branch) as in GPT-2 and CLIP; GPT-1 normalised after the
addition. Letters in shapes: B batch, T positions.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class KeyValueCache:
    """Keys and values of the tokens read so far, so that one more token costs one position.

    One entry a block, filled as the blocks run; `length` tokens are in it.
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


class Attention(nn.Module):
    """Multi-head self-attention with one fused product for query, key and value."""

    def __init__(self, n_head: int, d_model: int, causal: bool, dropout: float = 0.0) -> None:
        super().__init__()
        self.n_head = n_head
        self.causal = causal
        self.dropout = dropout
        self.qkv = nn.Linear(d_model, 3 * d_model)
        self.out = nn.Linear(d_model, d_model)

    def forward(self, x: Tensor, cache: KeyValueCache | None = None, layer: int = 0) -> Tensor:
        B, T, d_model = x.shape
        qkv = self.qkv(x).view(B, T, 3, self.n_head, d_model // self.n_head)
        # One unbind, so that the backward pass writes one gradient instead of adding three.
        q, k, v = qkv.transpose(1, 3).unbind(2)  # each (B, n_head, T, d_head)
        if cache is None:
            y = F.scaled_dot_product_attention(
                q, k, v, is_causal=self.causal, dropout_p=self.dropout if self.training else 0.0
            )
        else:
            k, v = cache.extend(layer, k, v)
            seen = k.shape[2]  # new token t of T sees all but the T - 1 - t tokens after it
            mask = torch.ones(T, seen, dtype=torch.bool, device=x.device).tril(seen - T)
            y = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        out: Tensor = self.out(y.transpose(1, 2).reshape(B, T, d_model))  # (B, T, d_model)
        return out


class MLP(nn.Module):
    """Two matrices around a GELU, in its tanh form as in GPT-1, GPT-2 and their descendants."""

    def __init__(self, d_model: int, d_hidden: int) -> None:
        super().__init__()
        self.expand = nn.Linear(d_model, d_hidden)
        self.out = nn.Linear(d_hidden, d_model)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.out(F.gelu(self.expand(x), approximate="tanh"))
        return out


class Block(nn.Module):
    """Attention, then MLP, each normalised on the way in and added to the residual stream."""

    def __init__(
        self, n_head: int, d_model: int, d_hidden: int, causal: bool, dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.norm_attention = nn.LayerNorm(d_model)
        self.attention = Attention(n_head, d_model, causal, dropout)
        self.norm_mlp = nn.LayerNorm(d_model)
        self.mlp = MLP(d_model, d_hidden)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, cache: KeyValueCache | None = None, layer: int = 0) -> Tensor:
        x = x + self.dropout(self.attention(self.norm_attention(x), cache, layer))
        x = x + self.dropout(self.mlp(self.norm_mlp(x)))
        return x


def block_roles(blocks: nn.ModuleList) -> dict[str, list[Tensor]]:
    """Parameters of a stack of blocks by what they do; initialization differs between roles.

    Returns:
        qkv, attention_out, mlp_in, mlp_out (matrices), bias, norm (gains and shifts).
    """
    roles: dict[str, list[Tensor]] = {
        name: [] for name in ("qkv", "attention_out", "mlp_in", "mlp_out", "bias", "norm")
    }
    for block in blocks:
        assert isinstance(block, Block)
        attention, mlp = block.attention, block.mlp
        roles["qkv"].append(attention.qkv.weight)
        roles["attention_out"].append(attention.out.weight)
        roles["mlp_in"].append(mlp.expand.weight)
        roles["mlp_out"].append(mlp.out.weight)
        roles["bias"] += [m.bias for m in (attention.qkv, attention.out, mlp.expand, mlp.out)]
        for norm in (block.norm_attention, block.norm_mlp):
            roles["norm"] += [norm.weight, norm.bias]
    return roles


def sizing_groups(roles: dict[str, list[Tensor]]) -> dict[str, list[Tensor]]:
    """Merge roles into the groups that `fmscale.sizing` counts: attention and mlp matrices."""
    groups = dict(roles)
    groups["attention"] = groups.pop("qkv") + groups.pop("attention_out")
    groups["mlp"] = groups.pop("mlp_in") + groups.pop("mlp_out")
    return groups
