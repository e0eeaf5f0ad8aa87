"""Every choice in conf/ composes, names real code and builds."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from hydra.utils import instantiate

from fmscale.config.build import build_shape
from fmscale.config.jobs import expand

CONF = Path(__file__).parent.parent / "conf"
FILES = sorted(CONF.rglob("*.yaml"))
SIZES = sorted(f"{p.parent.name}/{p.stem}" for p in (CONF / "model").glob("*/*.yaml"))
PRESETS = sorted(p.stem for p in (CONF / "experiment").glob("*.yaml"))
CLIP = ["objective=contrastive", "data=scenes", "evaluation=zero_shot", "budget=samples",
        "budget.samples=1e5"]  # fmt: skip
# Families with a vocabulary and a context of their own.
CONTEXTS = {"gpt1/": 512, "gpt2/": 1024, "gpt3/": 2048}
# Choices that are made for large models or long runs.
SIZES_OF = {"rules=gpt3": "gpt/12x768"}
LENGTHS = {
    "schedule=gpt1": ["schedule.warmup_units=1e6"],
    "schedule=gpt3": ["schedule.warmup_units=1e6", "schedule.decay_units=8e6"],
}
GPT = ["budget.tokens=1e7", "budget.max_epochs=100"]


def targets(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        if isinstance(node.get("_target_"), str):
            yield node["_target_"]
        for value in node.values():
            yield from targets(value)


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(CONF)))
def test_every_target_exists(path):
    for target in targets(yaml.safe_load(path.read_text())):
        module, name = target.rsplit(".", 1)
        assert callable(getattr(importlib.import_module(module), name)), target


@pytest.mark.parametrize("size", SIZES)
def test_every_size_builds_with_the_sizes_its_name_promises(size):
    overrides = [*(CLIP if size.startswith("clip") else GPT), f"model={size}", "logger=none"]
    overrides += [f"data.seq_len={n}" for name, n in CONTEXTS.items() if size.startswith(name)]
    (job,) = expand(overrides)
    assert job.shape.label == size.replace("/", "_")
    with torch.device("meta"):
        model = instantiate(job.config["model"])
    assert sum(p.numel() for p in model.parameters()) == job.shape.n_params_total


@pytest.mark.parametrize(
    "choice",
    [
        f"{folder.name}={path.stem}"
        for folder in sorted(CONF.iterdir())
        if folder.is_dir() and folder.name not in ("model", "experiment", "budget", "__pycache__")
        for path in sorted(folder.glob("*.yaml"))
    ],
)
def test_every_choice_composes(choice, tmp_path, token_files):
    group, _, option = choice.partition("=")
    pairs = ("webdataset", "caption_table")
    clip = option in (
        "contrastive", "sigmoid", "caption", "bag_of_words", "scenes", "zero_shot", "adaptation",
        *pairs,
    )  # fmt: skip
    base = [o for o in (CLIP if clip else GPT) if not o.startswith(f"{group}=")]
    size = "clip/1x16" if clip else SIZES_OF.get(choice, "gpt/1x16")
    overrides = [*base, choice, f"model={size}", *LENGTHS.get(choice, [])]
    if choice == "data=gpt3_mixture":
        for source in ("common_crawl", "webtext2", "books1", "books2", "wikipedia"):
            token_files(tmp_path / source)
        overrides.append(f"paths.data_dir={tmp_path}")
    if choice == "evaluation=mixture":
        overrides.append("data=mixture")
    if choice == "data=shards":
        overrides.append(f"data.root={token_files(tmp_path / 'shards')}")
    if option in pairs:
        overrides += ["data.root=somewhere", "data.name=own"]
    (job,) = expand(overrides)
    assert job.branches


@pytest.mark.parametrize("kind", ["tokens", "tokens_per_param", "flops"])
def test_every_horizon_composes(kind):
    value = "1e11" if kind == "flops" else "1e5"
    (job,) = expand([f"budget={kind}", f"budget.{kind}={value}", "budget.max_epochs=1e9"])
    assert job.branches


@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_expands_and_names_its_study_after_itself(preset):
    jobs = expand([f"experiment={preset}"])
    assert {job.config["study"] for job in jobs} == {preset}
    assert len({b.run_id for job in jobs for b in job.branches}) == sum(
        len(job.branches) for job in jobs
    )


@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_states_question_command_and_cost(preset):
    text = (CONF / "experiment" / f"{preset}.yaml").read_text()
    assert text.startswith("# @package _global_\n# Question: ")
    assert f"experiment={preset}" in text.split("defaults:")[0]
    assert "# Expected: " in text


def test_the_gpt_demo_spans_what_it_promises():
    jobs = expand(["experiment=gpt_demo"])
    sizes = {job.shape.n_params_non_embedding for job in jobs}
    budgets = {b.n_units for job in jobs for b in job.branches}
    assert len(sizes) >= 5
    assert max(sizes) / min(sizes) >= 100
    assert len(budgets) >= 5
    assert max(budgets) / min(budgets) >= 10**1.2


def test_the_clip_demo_spans_what_it_promises():
    jobs = expand(["experiment=clip_demo"])
    assert len({job.shape.label for job in jobs}) >= 4
    assert len({b.n_units for job in jobs for b in job.branches}) >= 5


def test_shapes_need_no_torch_to_be_built():
    (job,) = expand([*GPT, "model=gpt/12x768"])
    assert build_shape(job.config) == job.shape
