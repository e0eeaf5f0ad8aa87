"""Text from a language model: temperature, top-k and nucleus sampling with a key-value cache."""

from __future__ import annotations

import torch
from torch import Tensor

from fmscale.evaluation.metric import measuring
from fmscale.models.gpt import GPT
from fmscale.models.layers import KeyValueCache


def generate(
    model: GPT,
    prompt: Tensor,
    n_tokens: int,
    *,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    seed: int = 0,
) -> Tensor:
    """Continue each row of a prompt.

    When the context is full, its older half is dropped and the rest read again, as positions are
    absolute.

    Args:
        prompt: (B, T) int64, T at least 1; only the last shape.seq_len tokens are read.
        temperature: 0 takes the likeliest token.
        top_k: sample among the k likeliest tokens only (GPT-2's samples: 40).
        top_p: sample among the likeliest tokens that hold this much probability together
            (Holtzman et al. 2020).

    Returns:
        (B, T + n_tokens) int64; the same seed gives the same text.
    """
    if prompt.shape[1] < 1:
        raise ValueError("the prompt is empty: give at least one token")
    if temperature < 0:
        raise ValueError(f"temperature = {temperature}: give 0 or more")
    if top_k is not None and top_k < 1:
        raise ValueError(f"top_k = {top_k}: give at least 1")
    if top_p is not None and not 0 < top_p <= 1:
        raise ValueError(f"top_p = {top_p}: give a share above 0, at most 1")
    longest = model.shape.seq_len
    generator = torch.Generator().manual_seed(seed)
    with measuring(model) as device:
        tokens = prompt.to(device)
        cache, unread = KeyValueCache(model.shape.n_layer), tokens[:, -longest:]
        for _ in range(n_tokens):
            if cache.length + unread.shape[1] > longest:
                cache = KeyValueCache(model.shape.n_layer)
                unread = tokens[:, -(longest // 2 + 1) :]
            logits = model(unread, cache)[:, -1].float().cpu()  # (B, vocab_size)
            unread = _pick(logits, temperature, top_k, top_p, generator).to(device)
            tokens = torch.cat([tokens, unread], dim=1)
    return tokens.cpu()


def _pick(
    logits: Tensor,
    temperature: float,
    top_k: int | None,
    top_p: float | None,
    generator: torch.Generator,
) -> Tensor:
    """One token a row, (B, 1)."""
    if temperature == 0:
        return logits.argmax(dim=1, keepdim=True)
    probabilities = (logits / temperature).softmax(dim=1)
    ranked, order = probabilities.sort(dim=1, descending=True)
    keep = torch.ones_like(ranked, dtype=torch.bool)
    if top_k is not None:
        keep[:, top_k:] = False
    if top_p is not None:
        keep &= ranked.cumsum(dim=1) - ranked < top_p  # the first token always stays
    chosen = torch.multinomial(ranked * keep, 1, generator=generator)
    return order.gather(1, chosen)
