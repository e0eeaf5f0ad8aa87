"""A CLIP under open_clip's names: published names and shapes, equal features where it is
installed.
"""

import importlib.util
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from fmscale.interchange.open_clip import export_open_clip, open_clip_config, to_open_clip
from fmscale.models.clip import CLIP
from fmscale.sizing import BagShape, CLIPShape, ResNetShape, TextShape, VisionShape

TEXT = {"vocab_size": 40, "seq_len": 10, "n_layer": 2, "n_head": 2, "d_model": 16}
VIT = {"image_size": 24, "patch_size": 8, "n_layer": 2, "n_head": 4, "d_model": 32}
RESNET = ResNetShape(image_size=64, width=16, n_blocks=(1, 2, 1, 1))


def build(image: Any, activation: str = "gelu", n_scalars: int = 1) -> CLIP:
    torch.manual_seed(0)
    text = TextShape(**TEXT, activation=activation)
    model = CLIP(CLIPShape(12, image, text, n_scalars)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
        for name, buffer in model.named_buffers():
            if name.endswith(("running_mean", "running_var")):
                buffer.add_(torch.rand_like(buffer))
    return model


def test_names_and_shapes_are_those_of_the_released_state_dicts():
    state = to_open_clip(build(VisionShape(**VIT)))
    released = {
        "logit_scale": (), "positional_embedding": (10, 16), "text_projection": (16, 12),
        "token_embedding.weight": (40, 16), "ln_final.bias": (16,),
        "transformer.resblocks.1.attn.in_proj_weight": (48, 16),
        "transformer.resblocks.0.attn.in_proj_bias": (48,),
        "transformer.resblocks.0.attn.out_proj.weight": (16, 16),
        "transformer.resblocks.0.ln_1.weight": (16,),
        "transformer.resblocks.0.mlp.c_fc.weight": (64, 16),
        "transformer.resblocks.0.mlp.c_proj.weight": (16, 64),
        "visual.conv1.weight": (32, 3, 8, 8), "visual.class_embedding": (32,),
        "visual.positional_embedding": (10, 32), "visual.ln_pre.weight": (32,),
        "visual.ln_post.bias": (32,), "visual.proj": (32, 12),
        "visual.transformer.resblocks.1.mlp.c_fc.bias": (128,),
    }  # fmt: skip
    for name, size in released.items():
        assert tuple(state[name].shape) == size, name
    state = to_open_clip(build(RESNET))
    released = {
        "visual.conv1.weight": (8, 3, 3, 3), "visual.bn3.running_var": (16,),
        "visual.layer1.0.downsample.0.weight": (64, 16, 1, 1),
        "visual.layer2.1.conv3.weight": (128, 32, 1, 1),
        "visual.layer4.0.bn1.num_batches_tracked": (),
        "visual.attnpool.positional_embedding": (5, 512),
        "visual.attnpool.k_proj.weight": (512, 512), "visual.attnpool.c_proj.bias": (12,),
    }  # fmt: skip
    for name, size in released.items():
        assert tuple(state[name].shape) == size, name
    assert "visual.layer2.1.downsample.0.weight" not in state


def test_every_number_is_exported_once():
    for image in (VisionShape(**VIT), RESNET):
        model = build(image, n_scalars=2)
        exported = sum(tensor.numel() for tensor in to_open_clip(model).values())
        assert exported == sum(tensor.numel() for tensor in model.state_dict().values())


def test_towers_that_open_clip_has_not_are_named():
    model = CLIP(CLIPShape(12, VisionShape(**VIT), BagShape(40, 10, 16)))
    with pytest.raises(ValueError, match="is a Transformer; .* BagShape"):
        to_open_clip(model)
    with pytest.raises(ValueError, match="four stages, .* has 2"):
        to_open_clip(build(ResNetShape(image_size=64, width=16, n_blocks=(1, 1))))
    with pytest.raises(ValueError, match="one activation"):
        open_clip_config(build(VisionShape(**VIT, activation="quick_gelu")))


@pytest.mark.skipif(
    importlib.util.find_spec("open_clip") is None,
    # Without dependencies, which would bring a second torch.
    reason="pip install --no-deps open_clip_torch torchvision timm ftfy wcwidth",
)
@pytest.mark.parametrize("kind", ["gelu", "gelu_exact", "quick_gelu", "resnet", "sigmoid"])
def test_features_equal_those_of_open_clip(kind, tmp_path):
    if importlib.util.find_spec("torchvision") is not None:
        # Its CUDA build asks for two operators that a CPU build of torch lacks.
        library = torch.library.Library("torchvision", "FRAGMENT")
        for name in ("nms", "qnms"):
            if not hasattr(torch.ops.torchvision, name):
                library.define(f"{name}(Tensor dets, Tensor scores, float threshold) -> Tensor")
    import open_clip

    activation = kind if "gelu" in kind else "gelu_exact"
    image = RESNET if kind == "resnet" else VisionShape(**VIT, activation=activation)
    model = build(image, activation, n_scalars=2 if kind == "sigmoid" else 1)
    export_open_clip(model, tmp_path)
    theirs = open_clip.CLIP(**open_clip_config(model)).eval()
    theirs.load_state_dict(load_file(tmp_path / "open_clip_model.safetensors"))
    pixels = torch.rand(3, 3, image.image_size, image.image_size) * 2 - 1
    text = torch.randint(1, 39, (3, 10))
    text[:, 6] = 39
    with torch.no_grad():
        ours = model(pixels, text)
        out = theirs(pixels, text)
    for value, other in zip(ours, out, strict=False):
        torch.testing.assert_close(value, other, atol=1e-5, rtol=1e-5)
