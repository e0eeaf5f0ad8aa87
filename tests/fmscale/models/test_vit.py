"""The image tower: patches, pixel range, refusal of other sizes."""

import pytest
import torch
import torch.nn.functional as F

from fmscale.models.vit import UNIT, Pixels, VisionTransformer
from fmscale.sizing import VisionShape

SHAPE = VisionShape(image_size=12, patch_size=4, n_layer=1, n_head=2, d_model=16)


def test_cutting_patches_and_a_matrix_equal_a_strided_convolution():
    torch.manual_seed(0)
    tower = VisionTransformer(SHAPE)
    image = torch.randn(2, 3, 12, 12)
    conv = F.conv2d(image, tower.patch.weight.view(16, 3, 4, 4), stride=4)
    torch.testing.assert_close(
        tower.patch(tower.patches(image)), conv.flatten(2).transpose(1, 2), atol=1e-5, rtol=1e-5
    )


def test_bytes_become_minus_one_to_one_and_floats_pass():
    pixels = torch.tensor([0, 51, 255], dtype=torch.uint8)
    torch.testing.assert_close(UNIT.normalize(pixels), torch.tensor([-1.0, -0.6, 1.0]))
    values = torch.tensor([-1.0, 0.3])
    assert UNIT.normalize(values) is values


def test_every_patch_reaches_the_class_token():
    torch.manual_seed(0)
    tower = VisionTransformer(SHAPE)
    with torch.no_grad():
        tower.class_embedding.normal_()
        tower.position_embedding.normal_()
    image = torch.randn(1, 3, 12, 12, requires_grad=True)
    tower(image).pow(3).sum().backward()
    assert (image.grad.abs().sum(1) > 0).all()


def test_images_of_another_size_are_refused():
    with pytest.raises(ValueError, match="built for \\(3, 12, 12\\)"):
        VisionTransformer(SHAPE)(torch.zeros(1, 3, 16, 16))


def test_pixels_of_another_model_are_normalised_by_its_mean_and_deviation():
    clip = Pixels((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))
    image = torch.randint(256, (2, 3, 4, 4), dtype=torch.uint8)
    for channel, (mean, std) in enumerate(zip(clip.mean, clip.std, strict=True)):
        expected = (image[:, channel].double() / 255 - mean) / std
        torch.testing.assert_close(
            clip.normalize(image)[:, channel].double(), expected, atol=1e-5, rtol=1e-5
        )
