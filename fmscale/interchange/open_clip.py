"""CLIP as a folder that open_clip reads: its names of the weights, its configuration.

`open_clip.create_model_from_pretrained("local-dir:FOLDER")` builds the model. Vision Transformers
and residual networks of four stages, with a text Transformer; matrices into the joint space are
stored transposed.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from torch import Tensor

from fmscale.models.clip import CLIP
from fmscale.runs.files import write_json
from fmscale.sizing import ResNetShape, TextShape, VisionShape

# Ours -> theirs, inside a block.
BLOCK = {
    "norm_attention.weight": "ln_1.weight", "norm_attention.bias": "ln_1.bias",
    "attention.qkv.weight": "attn.in_proj_weight", "attention.qkv.bias": "attn.in_proj_bias",
    "attention.out.weight": "attn.out_proj.weight", "attention.out.bias": "attn.out_proj.bias",
    "norm_mlp.weight": "ln_2.weight", "norm_mlp.bias": "ln_2.bias",
    "mlp.expand.weight": "mlp.c_fc.weight", "mlp.expand.bias": "mlp.c_fc.bias",
    "mlp.out.weight": "mlp.c_proj.weight", "mlp.out.bias": "mlp.c_proj.bias",
}  # fmt: skip
BOTTLENECK = {
    "reduce": "conv1", "norm_reduce": "bn1", "mix": "conv2", "norm_mix": "bn2",
    "expand": "conv3", "norm_expand": "bn3", "shortcut": "downsample.0",
    "norm_shortcut": "downsample.1",
}  # fmt: skip
POOL = {"query": "q_proj", "key": "k_proj", "value": "v_proj"}


def to_open_clip(model: CLIP) -> dict[str, Tensor]:
    """The weights under open_clip's names, float32; batch norms with their running statistics."""
    shape, state = model.shape, {n: t.detach().cpu() for n, t in model.state_dict().items()}
    if not isinstance(shape.text, TextShape):
        raise ValueError(
            f"open_clip's text tower is a Transformer; {shape.label} has a "
            f"{type(shape.text).__name__}"
        )
    tensors = {
        "token_embedding.weight": state["text.token_embedding.weight"],
        "positional_embedding": state["text.position_embedding.weight"],
        "ln_final.weight": state["text.norm.weight"], "ln_final.bias": state["text.norm.bias"],
        "text_projection": state["text_projection.weight"].T, "logit_scale": state["log_scale"],
        **_blocks(state, "text", "transformer", shape.text.n_layer),
    }  # fmt: skip
    if "logit_bias" in state:
        tensors["logit_bias"] = state["logit_bias"]
    if isinstance(shape.image, VisionShape):
        patch = state["image.patch.weight"]
        size = (shape.image.n_channels, shape.image.patch_size, shape.image.patch_size)
        tensors |= {
            "visual.conv1.weight": patch.view(-1, *size),
            "visual.class_embedding": state["image.class_embedding"],
            "visual.positional_embedding": state["image.position_embedding"],
            "visual.ln_pre.weight": state["image.norm_in.weight"],
            "visual.ln_pre.bias": state["image.norm_in.bias"],
            "visual.ln_post.weight": state["image.norm_out.weight"],
            "visual.ln_post.bias": state["image.norm_out.bias"],
            "visual.proj": state["image_projection.weight"].T,
            **_blocks(state, "image", "visual.transformer", shape.image.n_layer),
        }
    else:
        tensors |= _resnet(state, shape.image)
    return {name: tensor.contiguous() for name, tensor in tensors.items()}


def _blocks(state: dict[str, Tensor], tower: str, prefix: str, n_layer: int) -> dict[str, Tensor]:
    return {
        f"{prefix}.resblocks.{i}.{theirs}": state[f"{tower}.blocks.{i}.{ours}"]
        for i in range(n_layer)
        for ours, theirs in BLOCK.items()
    }


def _resnet(state: dict[str, Tensor], shape: ResNetShape) -> dict[str, Tensor]:
    if len(shape.n_blocks) != 4:
        raise ValueError(
            f"open_clip's residual networks have four stages, {shape.label} has "
            f"{len(shape.n_blocks)}"
        )
    names = {f"image.stem.{i}": f"visual.conv{i + 1}" for i in range(3)}
    names |= {f"image.norms.{i}": f"visual.bn{i + 1}" for i in range(3)}
    number = 0
    for stage, n_blocks in enumerate(shape.n_blocks, 1):
        for block in range(n_blocks):
            for ours, theirs in BOTTLENECK.items():
                names[f"image.blocks.{number}.{ours}"] = f"visual.layer{stage}.{block}.{theirs}"
            number += 1
    names |= {f"image.pool.{o}": f"visual.attnpool.{t}" for o, t in POOL.items()}
    names["image_projection"] = "visual.attnpool.c_proj"
    tensors = {
        f"{names[part]}.{kind}": tensor
        for name, tensor in state.items()
        for part, _, kind in [name.rpartition(".")]
        if part in names
    }
    position = state["image.pool.position_embedding"]
    return {**tensors, "visual.attnpool.positional_embedding": position}


def open_clip_config(model: CLIP) -> dict[str, Any]:
    """The model's configuration in open_clip's words."""
    image, text = model.shape.image, model.shape.text
    assert isinstance(text, TextShape)  # to_open_clip has checked it
    if isinstance(image, VisionShape):
        if image.activation != text.activation:
            raise ValueError(
                f"open_clip has one activation; {model.shape.label} has {image.activation} and "
                f"{text.activation}"
            )
        vision: dict[str, Any] = {
            "layers": image.n_layer, "width": image.d_model, "head_width": image.d_head,
            "patch_size": image.patch_size, "mlp_ratio": image.d_hidden / image.d_model,
        }  # fmt: skip
    else:
        vision = {"layers": list(image.n_blocks), "width": image.width, "patch_size": None}
    tower = {"act_kwargs": {"approximate": "tanh"}} if text.activation == "gelu" else {}
    config = {
        "embed_dim": model.shape.d_embed,
        "quick_gelu": text.activation == "quick_gelu",
        "vision_cfg": {"image_size": image.image_size, **vision, **tower},
        "text_cfg": {
            "context_length": text.seq_len, "vocab_size": text.vocab_size, "width": text.d_model,
            "heads": text.n_head, "layers": text.n_layer,
            "mlp_ratio": text.d_hidden / text.d_model, **tower,
        },
    }  # fmt: skip
    if model.logit_bias is not None:
        config["init_logit_bias"] = model.logit_bias.item()
    return config


def export_open_clip(model: CLIP, folder: Path) -> None:
    """Write a folder that `open_clip.create_model_from_pretrained("local-dir:...")` reads."""
    tensors, config = to_open_clip(model), open_clip_config(model)
    folder.mkdir(parents=True, exist_ok=True)
    save_file(tensors, folder / "open_clip_model.safetensors", metadata={"format": "pt"})
    pixels = model.image.pixels
    write_json(
        folder / "open_clip_config.json",
        {
            "model_cfg": config,
            "preprocess_cfg": {"mean": list(pixels.mean), "std": list(pixels.std)},
        },
    )
