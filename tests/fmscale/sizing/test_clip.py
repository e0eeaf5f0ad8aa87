"""Published CLIPs, counted by group and by work, against their released sizes and profiles."""

import pytest
import torch
from hydra import compose, initialize_config_module
from hydra.utils import instantiate

from fmscale.sizing import CLIPShape, VisionShape

# open_clip, docs/model_profile.csv: millions of parameters of image and text tower, projections
# included, and forward GFLOPs (two per multiply-add) of one image and one caption.
PROFILE = {
    "vit_s32_alt": (22.59, 20.63, 2.29, 1.27), "vit_s32": (22.64, 40.44, 2.29, 3.38),
    "vit_m32_alt": (39.63, 40.44, 3.99, 3.38), "vit_m32": (39.69, 63.43, 3.99, 5.96),
    "vit_b32": (87.85, 63.43, 8.82, 5.96), "vit_b16": (86.19, 63.43, 35.13, 5.96),
    "vit_l14": (303.97, 123.65, 162.03, 13.3), "vit_l14_336": (304.29, 123.65, 381.92, 13.3),
    "vit_h14": (632.08, 354.03, 334.59, 47.09), "vit_g14": (1012.65, 354.03, 534.06, 47.09),
    "vit_bigg14": (1844.91, 694.66, 967.5, 97.86),
    "rn50": (38.32, 63.69, 12.22, 5.96), "rn101": (56.26, 63.43, 19.54, 5.96),
    "rn50x4": (87.14, 91.16, 42.56, 9.27), "rn50x16": (167.33, 123.65, 149.39, 13.3),
    "rn50x64": (420.38, 202.88, 529.11, 23.55),
}  # fmt: skip
# Radford et al. 2021, Fig. 9: "GFLOPs" an image that count one for a multiply-add.
MACS_OF_FIG_9 = {"rn50": 6.1, "rn101": 9.9, "rn50x4": 21.5, "rn50x16": 75.3, "rn50x64": 265.9}


def model_of(name: str):
    with initialize_config_module("conf", version_base=None):
        config = compose(overrides=[f"+model=clip/{name}"])
    with torch.device("meta"):
        return instantiate(config.model)


def unread_queries(shape: CLIPShape) -> int:
    """Multiply-adds of the attention pool's other queries, which the first release computed and
    threw away; the profile counts them. Ours has one query."""
    if isinstance(shape.image, VisionShape):
        return 0
    d, n = shape.image.d_model, shape.image.n_positions
    return (n - 1) * (d * d + d * shape.d_embed + 2 * d * n)


@pytest.mark.parametrize("name", PROFILE)
def test_a_published_clip_has_the_published_parameters_and_work(name):
    image, text, image_gflops, text_gflops = PROFILE[name]
    model = model_of(name)
    shape, groups = model.shape, model.shape.param_groups()
    assert {n: sum(p.numel() for p in ps) for n, ps in model.param_groups().items()} == groups
    assert shape.label == f"clip_{name}"
    found = {side: sum(n for group, n in groups.items() if group.startswith(side))
             for side in ("image", "text")}  # fmt: skip
    assert round(found["image"] / 1e6, 2) == pytest.approx(image, abs=0.0101)
    assert round(found["text"] / 1e6, 2) == pytest.approx(text, abs=0.0101)
    macs = shape.forward_macs()
    seen = macs["image"] + unread_queries(shape)
    assert 2 * seen / 1e9 == pytest.approx(image_gflops, rel=3e-3)
    assert 2 * macs["text"] / 1e9 == pytest.approx(text_gflops, rel=6e-3)
    if name in MACS_OF_FIG_9:
        assert seen / 1e9 == pytest.approx(MACS_OF_FIG_9[name], rel=0.02)
    # Forward and backward are three times forward, and the logits of the batch come on top.
    logits = 6 * 32_768 * shape.d_embed
    assert shape.train_flops_per_unit(32_768)["flops"] == 6 * sum(macs.values()) + logits
