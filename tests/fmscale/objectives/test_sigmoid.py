"""The pairwise sigmoid loss against a double loop, and the bias it needs."""

import math

import pytest
import torch

from fmscale.models.clip import CLIP
from fmscale.objectives.sigmoid import PairwiseSigmoid, sigmoid_loss
from fmscale.sizing import CLIPShape
from tests.helpers.small_clip import pairs, tiny


def test_loss_equals_a_loop_over_pairs():
    torch.manual_seed(0)
    z_image, z_text = (torch.nn.functional.normalize(torch.randn(5, 8), dim=1) for _ in range(2))
    total = 0.0
    for i in range(5):
        for j in range(5):
            logit = 7.0 * float(z_image[i] @ z_text[j]) - 3.0
            total += math.log1p(math.exp(-logit if i == j else logit))
    loss = sigmoid_loss(z_image, z_text, torch.tensor(7.0), torch.tensor(-3.0))
    assert float(loss) == pytest.approx(total / 5, rel=1e-5)


def test_scale_and_bias_start_where_the_paper_starts_them_and_learn():
    torch.manual_seed(0)
    shape = tiny()
    model = CLIP(CLIPShape(d_embed=8, image=shape.image, text=shape.text, n_scalars=2))
    assert model.scale().item() == pytest.approx(10)
    assert model.logit_bias.item() == -10
    out = PairwiseSigmoid()(model, pairs(4))
    out["loss"].backward()
    assert model.logit_bias.grad.abs() > 0
    assert sum(p.numel() for p in model.parameters()) == model.shape.n_params_total


def test_a_model_without_a_bias_is_refused():
    with pytest.raises(ValueError, match="n_scalars=2"):
        PairwiseSigmoid()(CLIP(tiny()), pairs(2))
