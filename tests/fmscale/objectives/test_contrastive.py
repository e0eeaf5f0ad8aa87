"""Contrastive loss against a double loop, the paper's pseudocode, and its limits."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from fmscale.objectives.contrastive import contrastive_loss


def unit(n: int, d: int, seed: int) -> torch.Tensor:
    return F.normalize(torch.randn(n, d, generator=torch.Generator().manual_seed(seed)), dim=-1)


def test_loss_equals_a_double_loop():
    a, b, scale = unit(6, 4, 0), unit(6, 4, 1), 5.0
    total = 0.0
    for i in range(6):
        row, column = [[scale * float(x @ y) for x, y in p] for p in (
            [(a[i], b[j]) for j in range(6)], [(a[j], b[i]) for j in range(6)])]  # fmt: skip
        total += sum(math.log(sum(map(math.exp, side))) - side[i] for side in (row, column)) / 2
    assert contrastive_loss(a, b, torch.tensor(scale)).item() == pytest.approx(total / 6)


def test_loss_equals_the_pseudocode_of_the_paper():
    # Radford et al. 2021, Fig. 3, in numpy: I_e and T_e are the normalised embeddings.
    I_e, T_e, t = unit(7, 5, 2).numpy(), unit(7, 5, 3).numpy(), math.log(1 / 0.07)
    logits = np.dot(I_e, T_e.T) * np.exp(t)
    labels = np.arange(7)

    def cross_entropy_loss(logits, labels, axis):
        log_p = logits - np.log(np.exp(logits).sum(axis=axis, keepdims=True))
        return -np.mean(log_p[labels, labels])

    loss_i = cross_entropy_loss(logits, labels, axis=0)
    loss_t = cross_entropy_loss(logits, labels, axis=1)
    ours = contrastive_loss(torch.tensor(I_e), torch.tensor(T_e), torch.tensor(math.exp(t)))
    assert ours.item() == pytest.approx((loss_i + loss_t) / 2, rel=1e-5)


def test_indistinct_pairs_cost_log_batch():
    same = unit(1, 4, 0).expand(9, 4)
    assert contrastive_loss(same, same, torch.tensor(14.0)).item() == pytest.approx(math.log(9))


def test_autocast_does_not_blur_the_logits():
    a, b, scale = unit(32, 16, 0), unit(32, 16, 1), torch.tensor(100.0)
    with torch.autocast("cpu", torch.bfloat16):
        blurred = contrastive_loss(a, b, scale)
    assert torch.equal(blurred, contrastive_loss(a, b, scale))
