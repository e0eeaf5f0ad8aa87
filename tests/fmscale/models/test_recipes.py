"""Every recipe against another library's model, and what all of them must share."""

import warnings

import pytest
import torch
import torch.nn.functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from fmscale.models.gpt import GPT
from fmscale.models.layers import KeyValueCache, RMSNorm
from fmscale.models.positions import banded_attention, visible
from fmscale.sizing import GPTShape, Recipe

MODERN = Recipe("modern", norm="rms", position="rotary", mlp="swiglu", qk_norm=True, bias=False)
NEOX = Recipe(
    "pythia", residual="parallel", position="rotary", rotary_share=0.5, mlp="gelu_exact", tied=False
)
GPT1 = Recipe("gpt1", residual="post")
BANDED = Recipe("gpt3", window=3)
RECIPES = [Recipe(), GPT1, BANDED, NEOX, MODERN, Recipe("mix", window=5, position="rotary")]


def build(recipe: Recipe, seq_len: int = 12, d_model: int = 16, n_head: int = 2) -> GPT:
    torch.manual_seed(0)
    model = GPT(GPTShape(3, n_head, d_model, 32, seq_len, recipe=recipe))
    with torch.no_grad():  # away from the start, where gains are 1 and biases 0
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return model.eval()


def agree(model: GPT, other: torch.nn.Module, state: dict[str, torch.Tensor]) -> None:
    missing, unexpected = other.load_state_dict(state, strict=False)
    assert not unexpected
    assert all(name.endswith(("lm_head.weight", "inv_freq")) for name in missing)  # tied, derived
    tokens = torch.randint(32, (2, model.shape.seq_len))
    with torch.no_grad():
        theirs = other.eval()(tokens).logits
        torch.testing.assert_close(model(tokens), theirs, atol=2e-5, rtol=1e-5)


def test_the_modern_recipe_is_qwen3_of_transformers():
    transformers = pytest.importorskip("transformers")
    model = build(MODERN)
    shape, d = model.shape, model.shape.d_model
    config = transformers.Qwen3Config(
        vocab_size=32, hidden_size=d, intermediate_size=shape.d_hidden, num_hidden_layers=3,
        num_attention_heads=2, num_key_value_heads=2, head_dim=shape.d_head, rms_norm_eps=1e-6,
        rope_parameters={"rope_type": "default", "rope_theta": 10_000.0},
        max_position_embeddings=12, tie_word_embeddings=True, attention_bias=False,
    )  # fmt: skip
    state = {"model.embed_tokens.weight": model.token_embedding.weight,
             "model.norm.weight": model.norm.weight}  # fmt: skip
    for i, block in enumerate(model.blocks):
        q, k, v = block.attention.qkv.weight.split(d)
        gate, up = block.mlp.expand.weight.split(shape.d_hidden)
        theirs = {
            "self_attn.q_proj": q, "self_attn.k_proj": k, "self_attn.v_proj": v,
            "self_attn.o_proj": block.attention.out.weight,
            "self_attn.q_norm": block.attention.norm_query.weight,
            "self_attn.k_norm": block.attention.norm_key.weight,
            "mlp.gate_proj": gate, "mlp.up_proj": up, "mlp.down_proj": block.mlp.out.weight,
            "input_layernorm": block.norm_attention.weight,
            "post_attention_layernorm": block.norm_mlp.weight,
        }  # fmt: skip
        state |= {f"model.layers.{i}.{name}.weight": tensor for name, tensor in theirs.items()}
    other = transformers.Qwen3ForCausalLM(config)
    assert sum(p.numel() for p in other.parameters()) == shape.n_params_total
    agree(model, other, state)


def test_the_pythia_recipe_is_gpt_neox_of_transformers():
    transformers = pytest.importorskip("transformers")
    model = build(NEOX)
    shape, d = model.shape, model.shape.d_model
    config = transformers.GPTNeoXConfig(
        vocab_size=32, hidden_size=d, intermediate_size=4 * d, num_hidden_layers=3,
        num_attention_heads=2, max_position_embeddings=12, use_parallel_residual=True,
        hidden_act="gelu", tie_word_embeddings=False, layer_norm_eps=1e-5,
        rope_parameters={"rope_type": "default", "rope_theta": 10_000.0,
                         "partial_rotary_factor": 0.5},
    )  # fmt: skip
    state = {"gpt_neox.embed_in.weight": model.token_embedding.weight,
             "lm_head.weight": model.head.weight,
             "gpt_neox.final_layer_norm.weight": model.norm.weight,
             "gpt_neox.final_layer_norm.bias": model.norm.bias}  # fmt: skip
    names = {
        "attention.dense": "attention.out", "mlp.dense_h_to_4h": "mlp.expand",
        "mlp.dense_4h_to_h": "mlp.out", "input_layernorm": "norm_attention",
        "post_attention_layernorm": "norm_mlp", "attention.query_key_value": "attention.qkv",
    }  # fmt: skip
    for i, block in enumerate(model.blocks):
        ours = block.state_dict()
        for theirs, name in names.items():
            for part in ("weight", "bias"):
                tensor = ours[f"{name}.{part}"]
                if name == "attention.qkv":  # theirs: head by head its query, key and value
                    tensor = tensor.unflatten(0, (3, 2, d // 2)).transpose(0, 1).flatten(0, 2)
                state[f"gpt_neox.layers.{i}.{theirs}.{part}"] = tensor
    other = transformers.GPTNeoXForCausalLM(config)
    assert sum(p.numel() for p in other.parameters()) == shape.n_params_total
    agree(model, other, state)


def test_the_first_gpt_is_openai_gpt_of_transformers():
    transformers = pytest.importorskip("transformers")
    model = build(GPT1)
    config = transformers.OpenAIGPTConfig(
        vocab_size=32, n_positions=12, n_embd=16, n_layer=3, n_head=2, afn="gelu",
        resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0,
    )  # fmt: skip
    names = {"norm_attention": "ln_1", "norm_mlp": "ln_2", "attention.qkv": "attn.c_attn",
             "attention.out": "attn.c_proj", "mlp.expand": "mlp.c_fc",
             "mlp.out": "mlp.c_proj"}  # fmt: skip
    state = {"transformer.tokens_embed.weight": model.token_embedding.weight,
             "transformer.positions_embed.weight": model.position_embedding.weight}  # fmt: skip
    for i, block in enumerate(model.blocks):
        for name, tensor in block.state_dict().items():
            owner, part = name.rsplit(".", 1)
            transposed = part == "weight" and not owner.startswith("norm")
            theirs = f"transformer.h.{i}.{names[owner]}.{part}"
            state[theirs] = tensor.T if transposed else tensor
    other = transformers.OpenAIGPTLMHeadModel(config)
    agree(model, other, state)


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda r: f"{r.name}-{r.window}")
def test_reading_token_by_token_with_a_cache_gives_the_same_scores(recipe):
    model = build(recipe)
    tokens = torch.randint(32, (2, 12))
    cache = KeyValueCache(3)
    with torch.no_grad():
        parts = [model(tokens[:, a:b], cache) for a, b in ((0, 5), (5, 6), (6, 7), (7, 12))]
        torch.testing.assert_close(torch.cat(parts, 1), model(tokens), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda r: f"{r.name}-{r.window}")
def test_scores_depend_on_the_past_only_and_counts_are_those_of_the_module(recipe):
    model = build(recipe)
    tokens = torch.randint(32, (2, 12))
    changed = tokens.clone()
    changed[:, 7] = (changed[:, 7] + 1) % 32
    before, after = model(tokens), model(changed)
    assert torch.equal(before[:, :7], after[:, :7])
    assert not torch.equal(before[:, 7:], after[:, 7:])
    counted = {name: sum(p.numel() for p in ps) for name, ps in model.param_groups().items()}
    assert counted == model.shape.param_groups()
    assert sum(counted.values()) == sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize(("T", "window"), [(12, 3), (13, 4), (7, 5), (9, 1)])
def test_banded_attention_equals_a_mask_over_everything(T, window):
    torch.manual_seed(0)
    q, k, v = torch.randn(3, 2, 2, T, 4, dtype=torch.float64).unbind()
    full = F.scaled_dot_product_attention(q, k, v, attn_mask=visible(T, T, window, q.device))
    torch.testing.assert_close(banded_attention(q, k, v, window, 0.0, None), full)
    distance = torch.arange(T)[:, None] - torch.arange(T)
    assert torch.equal(visible(T, T, window, q.device), (distance >= 0) & (distance < window))


def test_a_banded_block_sees_its_window_and_the_dense_one_before_it_everything():
    assert [BANDED.window_of(layer) for layer in range(4)] == [None, 3, None, 3]
    shape = GPTShape(4, 2, 16, 32, seq_len=12, recipe=BANDED)
    pairs = [int(visible(12, 12, BANDED.window_of(i), torch.device("cpu")).sum())
             for i in range(4)]  # fmt: skip
    # The convention counts the token itself as half a key; the mask holds it whole.
    assert [12 * shape.n_keys_causal(i) + s for i, s in enumerate((6, 1.5, 6, 1.5))] == pairs
    flops = shape.train_flops_per_unit()
    assert flops["flops"] - flops["flops_6nd_matmul"] == 12 * 16 * (12 + 3 + 12 + 3)


@pytest.mark.parametrize("recipe", [GPT1, NEOX, MODERN], ids=lambda r: r.name)
def test_flops_equal_torch_counter(recipe):
    model = build(recipe)
    tokens = torch.randint(32, (2, 12))
    counter = FlopCounterMode(display=False)
    with counter, sdpa_kernel(SDPBackend.MATH):
        F.cross_entropy(model(tokens).flatten(0, 1), tokens.flatten()).backward()
    expected = model.shape.train_flops_per_unit()["flops"] * tokens.numel()
    assert counter.get_total_flops() == expected


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
def test_rms_norm_is_that_of_torch_without_its_warning(precision):
    torch.manual_seed(0)
    norm, x = RMSNorm(16, eps=1e-6), torch.randn(4, 16).to(precision)
    with torch.no_grad():
        norm.weight.add_(torch.randn(16))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = norm(x)
    with warnings.catch_warnings():  # of the slow way that it takes for unequal precisions
        warnings.simplefilter("ignore")
        theirs = F.rms_norm(x, (16,), norm.weight, 1e-6)
    assert found.dtype == x.dtype
    torch.testing.assert_close(found, theirs)


def test_an_unknown_choice_names_key_and_choices():
    with pytest.raises(ValueError, match=r"recipe.norm='batch' is not known; use layer or rms"):
        Recipe(norm="batch")
    with pytest.raises(ValueError, match=r"recipe.window=0"):
        Recipe(window=0)
