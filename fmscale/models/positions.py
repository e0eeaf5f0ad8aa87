"""Which positions a token sees, and how rotary embeddings tell it where they are."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Rotation = tuple[Tensor, Tensor]  # cosine and sine, each (T, rotated width / 2)


class Rotary(nn.Module):
    """Angles of rotary position embeddings (Su et al. 2021); nothing is trained.

    Args:
        width: rotated components of each head, even.
        base: the slowest pair turns once in about 2 pi * base positions.
        seq_len: the longest context.
    """

    cos: Tensor
    sin: Tensor

    def __init__(self, width: int, base: float, seq_len: int) -> None:
        super().__init__()
        frequencies = base ** (-torch.arange(0, width, 2, dtype=torch.float64) / width)
        angles = torch.outer(torch.arange(seq_len, dtype=torch.float64), frequencies)
        # Not persistent: they follow from the sizes, and old checkpoints need not know them.
        self.register_buffer("cos", angles.cos().float(), persistent=False)
        self.register_buffer("sin", angles.sin().float(), persistent=False)

    def forward(self, first: int, last: int) -> Rotation:
        """Of positions first .. last - 1."""
        return self.cos[first:last], self.sin[first:last]


def rotate(x: Tensor, rotation: Rotation) -> Tensor:
    """Turn the first components of each head by its position's angles.

    Component i is paired with component i + width / 2, as transformers' Llama and GPT-NeoX do.
    x is (B, n_head, T, d_head), and the rotation is of these T positions.
    """
    cos, sin = (part.to(x.dtype) for part in rotation)
    half = cos.shape[-1]
    first, second, rest = x[..., :half], x[..., half : 2 * half], x[..., 2 * half :]
    turned = [first * cos - second * sin, second * cos + first * sin]
    return torch.cat([*turned, rest] if rest.shape[-1] else turned, dim=-1)


def visible(n_new: int, n_all: int, window: int | None, device: torch.device) -> Tensor:
    """Which of `n_all` positions the last `n_new` see: (n_new, n_all) bool, causal."""
    mask = torch.ones(n_new, n_all, dtype=torch.bool, device=device).tril(n_all - n_new)
    return mask if window is None else mask.triu(n_all - n_new - window + 1)


def banded_attention(
    q: Tensor, k: Tensor, v: Tensor, window: int, dropout: float, scale: float | None
) -> Tensor:
    """Causal attention to the last `window` positions, itself included.

    Queries are taken in chunks of `window`, each of which meets its own chunk of keys and the one
    before: 2 * window products a query instead of T. q, k and v are (B, n_head, T, d_head).
    """
    T = q.shape[2]
    missing = -T % window
    if missing:  # padding at the end is seen by nobody before it
        q, k, v = (F.pad(x, (0, 0, 0, missing)) for x in (q, k, v))
    n_chunk = (T + missing) // window

    def with_previous(x: Tensor) -> Tensor:
        chunks = F.pad(x, (0, 0, window, 0)).unflatten(2, (n_chunk + 1, window))
        return torch.cat([chunks[:, :, :-1], chunks[:, :, 1:]], dim=3)

    mask = visible(window, 2 * window, window, q.device)  # (window, 2 * window)
    mask = mask.expand(n_chunk, -1, -1).clone()
    mask[0, :, :window] = False  # before the first chunk lies nothing
    y = F.scaled_dot_product_attention(
        q.unflatten(2, (n_chunk, window)), with_previous(k), with_previous(v),
        attn_mask=mask, dropout_p=dropout, scale=scale,
    )  # fmt: skip
    return y.flatten(2, 3)[:, :, :T]
