"""Counts against published totals, against the built modules, and against torch's FLOP counter."""

import subprocess
import sys
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.errors import InstantiationException
from hydra.utils import instantiate
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from fmscale.config.jobs import expand
from fmscale.models.clip import CLIP
from fmscale.models.gpt import GPT
from fmscale.objectives.contrastive import Contrastive
from fmscale.objectives.next_token import NextToken
from fmscale.sizing import FLOPS_FORMULA, CLIPShape, GPTShape, TextShape, VisionShape
from fmscale.sizing.gpt3 import TABLE, gpt3_shape

CONF = Path(__file__).parents[3] / "conf"
SIZES = sorted(f"{path.parent.name}/{path.stem}" for path in (CONF / "model").glob("*/*x*.yaml"))


def tiny_gpt() -> GPTShape:
    return GPTShape(n_layer=2, n_head=2, d_model=16, vocab_size=32, seq_len=8)


def tiny_clip(d_embed: int = 12) -> CLIPShape:
    image = VisionShape(image_size=12, patch_size=4, n_layer=2, n_head=2, d_model=16)
    text = TextShape(vocab_size=32, seq_len=7, n_layer=1, n_head=3, d_model=24)
    return CLIPShape(d_embed, image, text)


# Layers, heads, width; totals of the released GPT-2 models; without the two tables.
GPT2 = [
    (12, 12, 768, 124_439_808, 85_056_000),
    (24, 16, 1024, 354_823_168, 302_311_424),
    (36, 20, 1280, 774_030_080, 708_390_400),
    (48, 25, 1600, 1_557_611_200, 1_475_561_600),
]


@pytest.mark.parametrize(("n_layer", "n_head", "d_model", "total", "non_embedding"), GPT2)
def test_gpt2_counts_equal_the_released_models(n_layer, n_head, d_model, total, non_embedding):
    shape = GPTShape(n_layer, n_head, d_model, vocab_size=50_257, seq_len=1024)
    assert shape.n_params_total == total
    assert shape.n_params_non_embedding == non_embedding
    assert shape.n_params_matmul == 12 * n_layer * d_model**2 + 50_257 * d_model


def test_clip_vit_b_32_counts_equal_the_released_model():
    image = VisionShape(image_size=224, patch_size=32, n_layer=12, n_head=12, d_model=768)
    text = TextShape(vocab_size=49_408, seq_len=77, n_layer=12, n_head=8, d_model=512)
    shape = CLIPShape(512, image, text)
    assert shape.n_params_total == 151_277_313
    groups = shape.param_groups()
    assert sum(n for name, n in groups.items() if name.startswith("image")) == 87_849_216
    assert sum(n for name, n in groups.items() if name.startswith("text")) == 63_428_096
    # open_clip's profile: 8.8 and 6.0 GFLOPs forward, multiply-adds counted as two.
    assert image.forward_flops() == pytest.approx(8.82e9, rel=2e-3)
    assert text.forward_flops() == pytest.approx(5.96e9, rel=2e-3)


def test_flops_of_gpt3_in_the_6nd_convention():
    # Brown et al. 2020, App. D: 3.14e23 FLOPs for 175B parameters and 300B tokens.
    shape = GPTShape(n_layer=96, n_head=96, d_model=12_288, vocab_size=50_257, seq_len=2048)
    flops = shape.train_flops_per_unit(1)["flops_6nd"] * 300e9
    assert flops == pytest.approx(3.14e23, rel=2e-3)


def test_attention_term_is_that_of_palm():
    # Chowdhery et al. 2022, App. B: 6 N + 12 L H Q T.
    shape = GPTShape(n_layer=3, n_head=4, d_model=32, vocab_size=64, seq_len=16)
    flops = shape.train_flops_per_unit(1)
    attention = 12 * shape.n_layer * shape.n_head * shape.d_head * shape.seq_len
    assert flops["flops"] == flops["flops_6nd_matmul"] + attention
    assert flops["flops_causal"] == flops["flops_6nd_matmul"] + attention // 2


def test_hidden_width_is_four_times_the_model_unless_given():
    assert tiny_gpt().d_hidden == 64
    wide = GPTShape(n_layer=2, n_head=2, d_model=16, vocab_size=32, seq_len=8, d_ff=40)
    assert wide.param_groups()["mlp"] == 2 * 2 * 16 * 40
    assert GPT(wide).blocks[0].mlp.expand.weight.shape == (40, 16)


@pytest.mark.parametrize("model", SIZES)
def test_every_shipped_size_is_counted_group_by_group(model):
    overrides = [
        f"+model={model}", "+data.vocab_size=256", "+data.seq_len=128", "+data.image_size=24",
    ]  # fmt: skip
    with initialize_config_dir(str(CONF), version_base=None):
        cfg = compose(overrides=overrides)
    with torch.device("meta"):
        built = instantiate(cfg.model)
    counted = {name: sum(p.numel() for p in ps) for name, ps in built.param_groups().items()}
    assert counted == built.shape.param_groups()
    parameters = {id(p) for p in built.parameters()}
    grouped = [id(p) for ps in built.param_groups().values() for p in ps]
    assert sorted(grouped) == sorted(parameters)  # each once, none missing
    assert built.shape.label == model.replace("/", "_")  # the name says what is inside


# Totals of the released models; without the tables where their papers print it.
PUBLISHED = {
    "gpt1/12x768": (116_534_784, 85_054_464),
    "gpt2/12x768": (124_439_808, 85_056_000),
    "gpt2/24x1024": (354_823_168, 302_311_424),
    "gpt2/36x1280": (774_030_080, 708_390_400),
    "gpt2/48x1600": (1_557_611_200, 1_475_561_600),
    # Biderman et al. 2023, Table 1, at their vocabulary.
    "pythia/6x512": (70_426_624, 18_915_328),
    "pythia/12x768": (162_322_944, 85_056_000),
    "pythia/24x1024": (405_334_016, 302_311_424),
}


@pytest.mark.parametrize("model", PUBLISHED)
def test_published_models_are_counted_to_the_last_digit(model):
    data = ["+data.vocab_size=50304", "+data.seq_len=2048"]
    with initialize_config_dir(str(CONF), version_base=None):
        shape = instantiate(compose(overrides=[f"+model={model}", *data]).model.shape)
    assert (shape.n_params_total, shape.n_params_non_embedding) == PUBLISHED[model]


def test_gpt3_is_shipped_as_printed_and_corrected():
    for row in TABLE:
        shape = gpt3_shape(row.name)
        assert shape.n_params_total == pytest.approx(row.n_params, rel=0.02)
        with initialize_config_dir(str(CONF), version_base=None):
            name = f"+model=gpt3/{shape.n_layer}x{shape.d_model}"
            section = compose(overrides=[name]).model.shape
        built = instantiate(section)
        assert replace(built, recipe=shape.recipe) == shape
        assert built.recipe.window  # alternating dense and banded
        section.table = "as_printed"
        if row.name in ("XL", "13B"):
            with pytest.raises(InstantiationException) as caught:
                instantiate(section)
            reason = str(caught.value.__cause__)
            assert f"{row.n_head} heads of width {row.d_head} make" in reason
            assert f"not {row.d_model}" in reason
            assert "table=corrected" in reason
        else:
            assert instantiate(section) == built
            assert row.n_head * row.d_head == row.d_model


def test_the_cpu_ladder_runs_from_a_thousand_to_thirty_million_in_small_steps():
    jobs = expand(["experiment=gpt_ladder"])
    sizes = [job.shape.n_params_non_embedding for job in jobs]
    assert sizes[0] < 1.1e3
    assert sizes[-1] > 2.9e7
    assert all(1.1 < large / small < 2.3 for small, large in pairwise(sizes))


def test_sizes_are_shipped_for_both_families():
    assert len([m for m in SIZES if m.startswith("gpt")]) >= 18
    assert len([m for m in SIZES if m.startswith("clip")]) >= 9


def counted_flops(model, objective, batch) -> int:
    """Forward and backward as torch counts them, attention as plain matrix products.

    The fused attention kernel is not counted on the CPU, and its backward recomputes the scores,
    which no convention includes.
    """
    counter = FlopCounterMode(display=False)
    with counter, sdpa_kernel(SDPBackend.MATH):
        objective(model, batch)["loss"].backward()
    return counter.get_total_flops()


@pytest.mark.parametrize("batch_size", [1, 3])
def test_gpt_flops_equal_torch_counter(batch_size):
    shape = GPTShape(n_layer=2, n_head=2, d_model=16, vocab_size=48, seq_len=8, d_ff=40)
    batch = {"tokens": torch.randint(48, (batch_size, shape.seq_len + 1))}
    expected = shape.train_flops_per_unit(batch_size)["flops"] * batch_size * shape.seq_len
    assert counted_flops(GPT(shape), NextToken(), batch) == expected


@pytest.mark.parametrize("batch_size", [2, 5])
def test_clip_flops_equal_torch_counter_up_to_what_nobody_reads(batch_size):
    shape = tiny_clip()
    batch = {
        "image": torch.rand(batch_size, 3, 12, 12),
        "text": torch.randint(32, (batch_size, shape.text.seq_len)),
    }
    # The formula takes the backward pass as twice the forward one; nobody differentiates by pixels.
    not_computed = 2 * shape.image.n_patches * shape.param_groups()["image_patch"]
    # Published counts take the last block at every position; it is read, and computed, at one.
    not_computed += 3 * shape.image.unread_flops(shape.image.n_positions)
    not_computed += 3 * shape.text.unread_flops(shape.text.seq_len)
    expected = batch_size * (shape.train_flops_per_unit(batch_size)["flops"] - not_computed)
    assert counted_flops(CLIP(shape), Contrastive(), batch) == expected


def test_clip_6nd_counts_each_parameter_once_for_each_position_it_meets():
    shape = tiny_clip(d_embed=5)
    image, text = shape.image, shape.text
    blocks = 12 * 2 * 16**2 * image.n_positions + 12 * 24**2 * text.seq_len
    patches, projections = 3 * 16 * 16 * image.n_patches, 5 * (16 + 24)
    flops = shape.train_flops_per_unit(4)
    assert flops["flops_6nd_matmul"] == 6 * (blocks + patches + projections)
    # What remains of flops is attention and the B x B logits.
    attention = 4 * (2 * 16 * image.n_positions**2 + 24 * text.seq_len**2)
    assert flops["flops"] == flops["flops_6nd_matmul"] + 3 * (attention + 2 * 4 * 5)
    assert flops["flops"] - flops["flops_causal"] == 3 * 4 * 24 * text.seq_len**2 // 2
    assert flops["flops_6nd_non_embedding"] < flops["flops_6nd"]


def test_larger_batch_costs_more_per_pair_by_the_logits_alone():
    shape = tiny_clip()
    small, large = (shape.train_flops_per_unit(b)["flops"] for b in (10, 30))
    assert large - small == 3 * 2 * 20 * shape.d_embed


@pytest.mark.parametrize("shape", [tiny_gpt(), tiny_clip()])
def test_every_convention_has_a_formula_and_every_group_adds_up(shape):
    assert shape.train_flops_per_unit(8).keys() == FLOPS_FORMULA.keys()
    assert sum(shape.param_groups().values()) == shape.n_params_total
    assert shape.n_params_non_embedding < shape.n_params_total


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: GPTShape(2, 3, 16, 32, 8), r"n_head=3 does not divide d_model=16.* is 2"),
        (lambda: GPTShape(0, 2, 16, 32, 8), r"GPTShape\.n_layer must be a positive.*got 0"),
        (lambda: GPTShape(2, 2, 16, -5, 8), r"GPTShape\.vocab_size"),
        (lambda: GPTShape(2, 2, 16.0, 32, 8), r"GPTShape\.d_model.*16\.0"),  # type: ignore[arg-type]
        (lambda: GPTShape(2, 2, 16, 32, True), r"GPTShape\.seq_len"),
        (lambda: GPTShape(2, 2, 16, 32, 8, d_ff=0), r"GPTShape\.d_ff"),
        (
            lambda: VisionShape(image_size=24, patch_size=5, n_layer=2, n_head=2, d_model=16),
            r"patch_size=5 does not divide image_size=24",
        ),
        (
            lambda: VisionShape(image_size=24, patch_size=4, n_layer=2, n_head=5, d_model=16),
            r"n_head=5 does not divide",
        ),
        (
            lambda: TextShape(vocab_size=32, seq_len=8, n_layer=2, n_head=7, d_model=16),
            r"n_head=7 does not divide",
        ),
        (lambda: tiny_clip(d_embed=0), r"CLIPShape\.d_embed"),
        (lambda: tiny_clip().train_flops_per_unit(0), r"batch_size must be a positive"),
    ],
)
def test_impossible_shapes_are_refused_with_the_remedy(build, message):
    with pytest.raises(ValueError, match=message):
        build()


def test_sizing_needs_the_standard_library_only():
    code = "import sys, fmscale.sizing; print(any(m in sys.modules for m in ('torch', 'numpy')))"
    answer = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert answer.stdout.strip() == "False"
