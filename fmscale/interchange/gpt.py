"""GPT as a folder of transformers' GPT2, and back: safetensors, config.json, tokenizer.json.

Only names and orientation differ: transformers stores the matrices of its `Conv1D` transposed.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from torch import Tensor, nn

from fmscale.data.text.tokenizer import OWN_SEPARATOR, ByteTokenizer, FileTokenizer
from fmscale.interchange.weights import load_weights, read_object, read_weights
from fmscale.models.gpt import GPT
from fmscale.runs.files import write_json
from fmscale.sizing import GPTShape

# Ours -> theirs, inside block h.<i>; the flag says that the matrix is stored transposed.
BLOCK = {
    "norm_attention.weight": ("ln_1.weight", False),
    "norm_attention.bias": ("ln_1.bias", False),
    "attention.qkv.weight": ("attn.c_attn.weight", True),
    "attention.qkv.bias": ("attn.c_attn.bias", False),
    "attention.out.weight": ("attn.c_proj.weight", True),
    "attention.out.bias": ("attn.c_proj.bias", False),
    "norm_mlp.weight": ("ln_2.weight", False),
    "norm_mlp.bias": ("ln_2.bias", False),
    "mlp.expand.weight": ("mlp.c_fc.weight", True),
    "mlp.expand.bias": ("mlp.c_fc.bias", False),
    "mlp.out.weight": ("mlp.c_proj.weight", True),
    "mlp.out.bias": ("mlp.c_proj.bias", False),
}
ENDS = {
    "token_embedding.weight": "wte.weight",
    "position_embedding.weight": "wpe.weight",
    "norm.weight": "ln_f.weight",
    "norm.bias": "ln_f.bias",
}
PREFIX = "transformer."


def names(n_layer: int) -> dict[str, tuple[str, bool]]:
    """Our parameter name -> theirs and whether it is transposed, for every parameter."""
    blocks = {
        f"blocks.{i}.{ours}": (f"{PREFIX}h.{i}.{theirs}", transposed)
        for i in range(n_layer)
        for ours, (theirs, transposed) in BLOCK.items()
    }
    return {**{ours: (PREFIX + theirs, False) for ours, theirs in ENDS.items()}, **blocks}


def export_gpt2(
    model: GPT, folder: Path, tokenizer: ByteTokenizer | FileTokenizer | None = None
) -> None:
    """Write a folder that `transformers.AutoModelForCausalLM.from_pretrained` reads.

    Dropout is not exported: the folder is for evaluation. The tokenizer is written as well.

    Raises:
        ValueError: if the model is of another architecture than GPT-2's.
    """
    recipe, mup = model.shape.recipe, model.parametrization
    if not recipe.is_gpt2 or mup is not None:
        raise ValueError(
            f"{model.shape.label} is not what transformers' GPT2 computes "
            f"({'maximal update parametrization' if mup else recipe}); only models of GPT-2's "
            "recipe and the standard parametrization can be written so"
        )
    folder.mkdir(parents=True, exist_ok=True)
    state = model.state_dict()
    tensors = {}
    for ours, (theirs, transposed) in names(model.shape.n_layer).items():
        tensor = state[ours].detach().cpu().float()
        tensors[theirs] = (tensor.T if transposed else tensor).contiguous()
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    shape = model.shape
    separator = tokenizer.separator if tokenizer is not None else 0
    write_json(
        folder / "config.json",
        {
            "model_type": "gpt2", "architectures": ["GPT2LMHeadModel"],
            "vocab_size": shape.vocab_size, "n_positions": shape.seq_len,
            "n_embd": shape.d_model, "n_layer": shape.n_layer, "n_head": shape.n_head,
            "n_inner": shape.d_hidden, "activation_function": "gelu_new",
            "layer_norm_epsilon": _last_norm(model).eps, "tie_word_embeddings": True,
            "resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0,
            "bos_token_id": separator, "eos_token_id": separator,
        },
    )  # fmt: skip
    if isinstance(tokenizer, ByteTokenizer):
        write_byte_tokenizer(folder)
    elif tokenizer is not None:
        tokenizer.tokenizer.save(str(folder / "tokenizer.json"))
        _write_tokenizer_config(folder, tokenizer.tokenizer.id_to_token(tokenizer.separator))


def import_gpt2(folder: Path) -> GPT:
    """A model from a folder of transformers' GPT2.

    Raises:
        ValueError: if the folder holds another model, or a GPT2 that ours cannot express.
    """
    config = _read_config(folder)
    shape = GPTShape(
        n_layer=config["n_layer"], n_head=config["n_head"], d_model=config["n_embd"],
        vocab_size=config["vocab_size"], seq_len=config["n_positions"],
        d_ff=config.get("n_inner"),
    )  # fmt: skip
    # Released checkpoints leave the prefix out.
    bare = {name.removeprefix(PREFIX): tensor for name, tensor in read_weights(folder).items()}
    head = bare.get("lm_head.weight")
    if head is not None and not head.equal(bare.get("wte.weight", head[:0])):
        raise ValueError(f"{folder} has an output head of its own; this model ties it to wte")
    state: dict[str, Tensor] = {}
    for ours, (theirs, transposed) in names(shape.n_layer).items():
        name = theirs.removeprefix(PREFIX)
        if name not in bare:
            raise ValueError(f"the weights in {folder} lack {theirs}")
        state[ours] = bare[name].T.contiguous() if transposed else bare[name]
    model = GPT(shape)
    _last_norm(model).eps = config.get("layer_norm_epsilon", 1e-5)
    load_weights(model, state, folder)
    return model


def _last_norm(model: GPT) -> nn.LayerNorm:
    assert isinstance(model.norm, nn.LayerNorm)  # every model of GPT-2's recipe has it
    return model.norm


def _read_config(folder: Path) -> dict[str, Any]:
    path = folder / "config.json"
    config = read_object(path)
    if config.get("model_type") != "gpt2":
        raise ValueError(f"{path}: model_type {config.get('model_type')!r}; only gpt2 is read")
    for key in ("n_layer", "n_head", "n_embd", "vocab_size", "n_positions"):
        if not isinstance(config.get(key), int) or config[key] < 1:
            raise ValueError(f"{path}: {key}={config.get(key)!r} is no whole number above 0")
    expected = {"activation_function": "gelu_new", "layer_norm_epsilon": 1e-5,
                "scale_attn_by_inverse_layer_idx": False, "scale_attn_weights": True}  # fmt: skip
    for key, value in expected.items():
        if config.get(key, value) != value:
            raise ValueError(f"{path}: {key}={config[key]!r}; this model has {value!r}")
    return config


def write_byte_tokenizer(folder: Path) -> None:
    """tokenizer.json in which every byte is the token of its value.

    The zero byte, which stands between documents and in no text, is called `<|endoftext|>`.
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    vocabulary = {c: b for b, c in byte_characters().items()}
    del vocabulary[byte_characters()[ByteTokenizer.separator]]
    vocabulary[OWN_SEPARATOR] = ByteTokenizer.separator
    tokenizer = Tokenizer(models.BPE(vocabulary, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.save(str(folder / "tokenizer.json"))
    _write_tokenizer_config(folder, OWN_SEPARATOR)


def _write_tokenizer_config(folder: Path, separator: str | None) -> None:
    """`separator` stands before and after documents; lm-evaluation-harness needs its name."""
    write_json(
        folder / "tokenizer_config.json",
        {"tokenizer_class": "PreTrainedTokenizerFast", "clean_up_tokenization_spaces": False,
         "bos_token": separator, "eos_token": separator},
    )  # fmt: skip


def byte_characters() -> dict[int, str]:
    """Byte -> the printable character that stands for it in GPT-2's byte-level alphabet."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [b for b in range(256) if b not in printable]
    return {**{b: chr(b) for b in printable}, **{b: chr(256 + i) for i, b in enumerate(others)}}
