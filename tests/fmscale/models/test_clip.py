"""CLIP: unit features, temperature, loss at the start."""

import math

import pytest
import torch

from fmscale.models.clip import CLIP
from fmscale.objectives.contrastive import Contrastive
from tests.helpers.small_clip import pairs, tiny


def test_features_have_unit_length_also_under_autocast():
    torch.manual_seed(0)
    model, batch = CLIP(tiny()), pairs(4)
    for enabled in (False, True):
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            z_image, z_text, _ = model(**batch)
        for z in (z_image, z_text):
            assert z.shape == (4, 8)
            assert z.dtype == torch.float32
            torch.testing.assert_close(z.norm(dim=-1), torch.ones(4))


def test_bytes_and_their_normalised_floats_are_the_same_image():
    torch.manual_seed(0)
    model, image = CLIP(tiny()), pairs(2)["image"]
    torch.testing.assert_close(
        model.encode_image(image), model.encode_image(image.float() / 127.5 - 1)
    )


def test_temperature_starts_at_seven_hundredths():
    model = CLIP(tiny())
    assert model.log_scale.item() == pytest.approx(math.log(1 / 0.07))
    assert model.scale().item() == pytest.approx(1 / 0.07)


def test_scale_is_capped_and_can_come_back_from_the_cap():
    model = CLIP(tiny())
    with torch.no_grad():
        model.log_scale.fill_(7.0)
    scale = model.scale()
    assert scale.item() == pytest.approx(100.0)
    scale.backward()
    assert model.log_scale.grad.item() == pytest.approx(100.0)  # not stuck at a zero gradient
    assert model.log_scale.item() == pytest.approx(math.log(100.0))


@pytest.mark.parametrize("d_model", [16, 64, 192])
def test_untrained_loss_is_near_log_batch_at_every_width(d_model):
    torch.manual_seed(0)
    model = CLIP(tiny(d_model))
    with torch.no_grad():
        model.log_scale.zero_()  # cosines unmultiplied, so that chance is what remains
        loss = Contrastive()(model, pairs(64))["loss"].item()
    assert loss == pytest.approx(math.log(64), abs=0.1)


def test_both_towers_and_the_temperature_learn():
    torch.manual_seed(0)
    model = CLIP(tiny())
    Contrastive()(model, pairs(8))["loss"].backward()
    assert all(p.grad is not None for p in model.parameters())
    assert model.log_scale.grad.item() != 0
