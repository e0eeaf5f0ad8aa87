"""Residual network and bag of words: published counts, counted work, order of words."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from fmscale.models.bag_of_words import BagOfWords
from fmscale.models.clip import CLIP
from fmscale.models.resnet import ResNet
from fmscale.objectives.contrastive import Contrastive
from fmscale.sizing import BagShape, CLIPShape, ResNetShape, TextShape, VisionShape

SMALL = ResNetShape(image_size=24, width=4, n_blocks=(1, 2))
IMAGES = {
    "vit": VisionShape(image_size=24, patch_size=8, n_layer=1, n_head=2, d_model=16),
    "resnet": SMALL,
}
TEXTS = {
    "transformer": TextShape(vocab_size=32, seq_len=6, n_layer=1, n_head=2, d_model=16),
    "bag": BagShape(vocab_size=32, seq_len=6, d_model=16),
}


@pytest.mark.parametrize(
    ("blocks", "width", "size", "d_embed", "expected"),
    [  # parameters of the image encoders released with Radford et al. 2021
        ((3, 4, 6, 3), 64, 224, 1024, 38_316_896),
        ((3, 4, 23, 3), 64, 224, 512, 56_259_936),
        ((4, 6, 10, 6), 80, 288, 640, 87_137_080),
        ((6, 8, 18, 8), 96, 384, 768, 167_328_912),
        ((3, 15, 36, 10), 128, 448, 1024, 420_380_352),
    ],
)
def test_published_residual_networks_are_counted_to_the_last_digit(
    blocks, width, size, d_embed, expected
):
    shape = ResNetShape(image_size=size, width=width, n_blocks=blocks)
    own = sum(shape.param_groups().values())
    assert own + (shape.d_model + 1) * d_embed == expected
    with torch.device("meta"):
        assert sum(p.numel() for p in ResNet(shape).parameters()) == own


@pytest.mark.parametrize("image", IMAGES)
@pytest.mark.parametrize("text", TEXTS)
def test_all_combinations_train(image, text):
    torch.manual_seed(0)
    model = CLIP(CLIPShape(d_embed=8, image=IMAGES[image], text=TEXTS[text]))
    counted = {name: sum(p.numel() for p in ps) for name, ps in model.param_groups().items()}
    assert counted == model.shape.param_groups()
    batch = {"image": torch.randint(256, (8, 3, 24, 24), dtype=torch.uint8),
             "text": torch.randint(1, 32, (8, 6))}  # fmt: skip
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    losses = []
    for _ in range(25):
        loss = Contrastive()(model, batch)["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.5 * losses[0]
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in model.parameters())


def test_forward_work_of_the_residual_network_equals_torch_counter():
    model = ResNet(SMALL).eval()
    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad(), torch.nn.attention.sdpa_kernel(
        torch.nn.attention.SDPBackend.MATH
    ):  # fmt: skip
        model(torch.rand(2, 3, 24, 24))
    assert counter.get_total_flops() == 2 * SMALL.forward_flops()


def test_a_block_is_the_identity_at_first():
    torch.manual_seed(0)
    shape = CLIPShape(d_embed=8, image=SMALL, text=TEXTS["bag"])
    model = CLIP(shape).image.eval()
    x = torch.rand(2, 32, 3, 3)
    torch.testing.assert_close(model.blocks[-1](x), x)


def test_a_bag_does_not_see_the_order_of_words_or_padding():
    torch.manual_seed(0)
    bag = BagOfWords(TEXTS["bag"])
    text = torch.tensor([[5, 9, 31, 0, 0, 0], [9, 31, 5, 0, 0, 0], [5, 9, 30, 0, 0, 0]])
    first, second, third = bag(text)
    torch.testing.assert_close(first, second)
    torch.testing.assert_close(first, bag(text[:, :3])[0])
    assert not torch.allclose(first, third)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"image_size": 20}, "does not divide"), ({"width": 5}, "odd"),
        ({"n_blocks": ()}, "empty"), ({"n_blocks": (1, 0)}, "positive integer"),
        ({"n_head": 5}, "n_head=5"),
    ],
)  # fmt: skip
def test_sizes_that_do_not_fit_are_named(fields, message):
    with pytest.raises(ValueError, match=message):
        ResNetShape(**{"image_size": 24, "width": 4, "n_blocks": (1, 1), **fields})


def test_images_of_another_size_are_refused():
    with pytest.raises(ValueError, match="set image_size"):
        ResNet(SMALL)(torch.rand(1, 3, 32, 32))
