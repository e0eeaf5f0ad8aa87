"""CLIP as a folder of transformers' CLIPModel, and back: safetensors, config, processor, tokenizer.

Only names and arrangement differ: transformers keeps query, key and value apart and cuts patches by
a convolution. Its CLIPModel has a Vision Transformer and a text Transformer, no other towers.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from fmscale.interchange.weights import load_weights, read_object, read_weights
from fmscale.models.clip import CLIP
from fmscale.models.vit import Pixels
from fmscale.runs.files import write_json
from fmscale.sizing import CLIPShape, TextShape, VisionShape

# Activation: ours -> transformers'.
ACTIVATIONS = {"gelu": "gelu_new", "gelu_exact": "gelu", "quick_gelu": "quick_gelu"}
TANH = ("gelu_new", "gelu_pytorch_tanh")
LEGACY_END = 2  # of folders of before 2023: the feature is read at the highest id, as ours is

# Ours -> theirs, inside a block.
BLOCK = {
    "norm_attention": "layer_norm1", "norm_mlp": "layer_norm2",
    "attention.out": "self_attn.out_proj", "mlp.expand": "mlp.fc1", "mlp.out": "mlp.fc2",
}  # fmt: skip
ENDS = {
    "image.class_embedding": "vision_model.embeddings.class_embedding",
    "image.position_embedding": "vision_model.embeddings.position_embedding.weight",
    "image.norm_in.weight": "vision_model.pre_layrnorm.weight",
    "image.norm_in.bias": "vision_model.pre_layrnorm.bias",
    "image.norm_out.weight": "vision_model.post_layernorm.weight",
    "image.norm_out.bias": "vision_model.post_layernorm.bias",
    "text.token_embedding.weight": "text_model.embeddings.token_embedding.weight",
    "text.position_embedding.weight": "text_model.embeddings.position_embedding.weight",
    "text.norm.weight": "text_model.final_layer_norm.weight",
    "text.norm.bias": "text_model.final_layer_norm.bias",
    "image_projection.weight": "visual_projection.weight",
    "text_projection.weight": "text_projection.weight",
    "log_scale": "logit_scale",
}
PATCH = "image.patch.weight", "vision_model.embeddings.patch_embedding.weight"


def to_transformers(model: CLIP) -> dict[str, Tensor]:
    """The weights under transformers' names, float32."""
    image, _ = transformer_towers(model.shape)
    state = {name: tensor.detach().cpu().float() for name, tensor in model.state_dict().items()}
    ours, theirs = PATCH
    tensors = {
        theirs: state[ours].view(-1, image.n_channels, image.patch_size, image.patch_size),
        **{theirs: state[ours] for ours, theirs in ENDS.items()},
    }
    for block, layer, kind in _layers(model.shape):
        for ours, theirs in BLOCK.items():
            tensors[f"{layer}.{theirs}.{kind}"] = state[f"{block}.{ours}.{kind}"]
        parts = state[f"{block}.attention.qkv.{kind}"].chunk(3)
        for name, part in zip("qkv", parts, strict=True):
            tensors[f"{layer}.self_attn.{name}_proj.{kind}"] = part
    return {name: tensor.contiguous() for name, tensor in tensors.items()}


def from_transformers(tensors: dict[str, Tensor], shape: CLIPShape) -> dict[str, Tensor]:
    """The same weights under our names; a ValueError names the first that is missing."""

    def find(name: str) -> Tensor:
        if name not in tensors:
            raise ValueError(f"the weights lack {name}")
        return tensors[name].float()

    ours, theirs = PATCH
    state = {ours: find(theirs).flatten(1), **{o: find(t) for o, t in ENDS.items()}}
    for block, layer, kind in _layers(shape):
        for ours, theirs in BLOCK.items():
            state[f"{block}.{ours}.{kind}"] = find(f"{layer}.{theirs}.{kind}")
        qkv = [find(f"{layer}.self_attn.{name}_proj.{kind}") for name in "qkv"]
        state[f"{block}.attention.qkv.{kind}"] = torch.cat(qkv)
    return state


def _layers(shape: CLIPShape) -> Iterator[tuple[str, str, str]]:
    """Our name of each block, theirs, and the kind of parameter."""
    image, text = transformer_towers(shape)
    for ours, tower, theirs in (("image", image, "vision_model"), ("text", text, "text_model")):
        for i, kind in itertools.product(range(tower.n_layer), ("weight", "bias")):
            yield f"{ours}.blocks.{i}", f"{theirs}.encoder.layers.{i}", kind


def transformer_towers(shape: CLIPShape) -> tuple[VisionShape, TextShape]:
    """Both towers of a CLIP that consists of Transformers; a ValueError for any other."""
    image, text = shape.image, shape.text
    if not isinstance(image, VisionShape) or not isinstance(text, TextShape):
        raise ValueError(
            "transformers' CLIPModel has a Vision Transformer and a text Transformer; "
            f"{shape.label} has {type(image).__name__} and {type(text).__name__}"
        )
    return image, text


def export_clip(model: CLIP, folder: Path, words: tuple[str, ...] | None = None) -> None:
    """Write a folder that `transformers.CLIPModel` and `CLIPProcessor` read.

    The bias of a sigmoid loss has no place there; it moves no feature and is left out.

    Args:
        words: the vocabulary of whole words, ids from 1, for a tokenizer; None: none is written.
    """
    tensors = to_transformers(model)
    image, text = transformer_towers(model.shape)
    folder.mkdir(parents=True, exist_ok=True)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    end = text.vocab_size - 1
    common = {"layer_norm_eps": 1e-5, "attention_dropout": 0.0}
    write_json(
        folder / "config.json",
        {
            "model_type": "clip", "architectures": ["CLIPModel"],
            "projection_dim": model.shape.d_embed,
            "text_config": {
                "model_type": "clip_text_model", "vocab_size": text.vocab_size,
                "max_position_embeddings": text.seq_len, "hidden_size": text.d_model,
                "intermediate_size": text.d_hidden, "num_hidden_layers": text.n_layer,
                "num_attention_heads": text.n_head, "hidden_act": ACTIVATIONS[text.activation],
                "projection_dim": model.shape.d_embed,
                "bos_token_id": 0, "eos_token_id": end, "pad_token_id": 0, **common,
            },
            "vision_config": {
                "model_type": "clip_vision_model", "image_size": image.image_size,
                "patch_size": image.patch_size, "num_channels": image.n_channels,
                "hidden_size": image.d_model, "intermediate_size": image.d_hidden,
                "num_hidden_layers": image.n_layer, "num_attention_heads": image.n_head,
                "hidden_act": ACTIVATIONS[image.activation],
                "projection_dim": model.shape.d_embed, **common,
            },
        },
    )  # fmt: skip
    size, pixels = image.image_size, model.image.pixels
    write_json(
        folder / "preprocessor_config.json",
        {
            "image_processor_type": "CLIPImageProcessor", "do_convert_rgb": True,
            "do_resize": True, "size": {"shortest_edge": size}, "resample": 3,  # bicubic
            "do_center_crop": True, "crop_size": {"height": size, "width": size},
            "do_rescale": True, "rescale_factor": 1 / 255, "do_normalize": True,
            "image_mean": list(pixels.mean), "image_std": list(pixels.std),
        },
    )  # fmt: skip
    if words is not None:
        write_word_tokenizer(folder, words, text.seq_len)


def write_word_tokenizer(folder: Path, words: tuple[str, ...], seq_len: int) -> None:
    """tokenizer.json of whole words: id 0 pads, words from 1, the end has the highest id."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    end = len(words) + 1
    vocabulary = {"<pad>": 0, **{word: i for i, word in enumerate(words, 1)}, "<end>": end}
    # No unknown token: a word that the captions never had is an error here too.
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="$A <end>", special_tokens=[("<end>", end)]
    )
    tokenizer.save(str(folder / "tokenizer.json"))
    write_json(
        folder / "tokenizer_config.json",
        {
            "tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": seq_len,
            "pad_token": "<pad>", "eos_token": "<end>", "clean_up_tokenization_spaces": False,
        },
    )  # fmt: skip


def import_clip(folder: Path) -> CLIP:
    """A model from a folder of transformers' CLIPModel; it takes images of bytes as they are.

    Raises:
        ValueError: if the folder holds another model, or a CLIP that ours cannot express.
    """
    config = read_object(folder / "config.json")
    if config.get("model_type") != "clip":
        raise ValueError(
            f"{folder}/config.json: model_type {config.get('model_type')!r}; only clip is read"
        )
    # transformers leaves out what equals its defaults, which are those of ViT-B/32.
    text = {"vocab_size": 49_408, "max_position_embeddings": 77, "hidden_size": 512,
            "intermediate_size": 2048, "num_hidden_layers": 12, "num_attention_heads": 8,
            "hidden_act": "quick_gelu", "layer_norm_eps": 1e-5, "eos_token_id": 49_407,
            **config.get("text_config", {})}  # fmt: skip
    image = {"image_size": 224, "patch_size": 32, "num_channels": 3, "hidden_size": 768,
             "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12,
             "hidden_act": "quick_gelu", "layer_norm_eps": 1e-5,
             **config.get("vision_config", {})}  # fmt: skip
    if text["eos_token_id"] not in (LEGACY_END, text["vocab_size"] - 1):
        raise ValueError(
            f"{folder}/config.json: text is read at token {text['eos_token_id']}, this model reads "
            f"it at the highest id, {text['vocab_size'] - 1}"
        )
    shape = CLIPShape(
        config.get("projection_dim", 512),
        VisionShape(
            image_size=image["image_size"], patch_size=image["patch_size"],
            n_channels=image["num_channels"], **_transformer(image, folder),
        ),
        TextShape(
            vocab_size=text["vocab_size"], seq_len=text["max_position_embeddings"],
            **_transformer(text, folder),
        ),
    )  # fmt: skip
    path = folder / "preprocessor_config.json"
    pixels = Pixels((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))
    if path.exists():
        processor = read_object(path, ["image_mean", "image_std"])
        pixels = Pixels(tuple(processor["image_mean"]), tuple(processor["image_std"]))
    model = CLIP(shape, pixels=pixels)
    load_weights(model, from_transformers(read_weights(folder), shape), folder)
    return model


def _transformer(config: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Sizes and activation of a tower in our words."""
    known = {**{theirs: ours for ours, theirs in ACTIVATIONS.items()}, TANH[1]: "gelu"}
    if config["hidden_act"] not in known or config["layer_norm_eps"] != 1e-5:
        raise ValueError(
            f"{folder}/config.json: hidden_act={config['hidden_act']!r}, layer_norm_eps="
            f"{config['layer_norm_eps']}; this model has {', '.join(known)} and 1e-05"
        )
    hidden = config["intermediate_size"]
    return {
        "n_layer": config["num_hidden_layers"], "n_head": config["num_attention_heads"],
        "d_model": config["hidden_size"],
        "d_ff": None if hidden == 4 * config["hidden_size"] else hidden,
        "activation": known[config["hidden_act"]],
    }  # fmt: skip
