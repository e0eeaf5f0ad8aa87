"""What is composed once and completed is what Hydra composes, job by job."""

from __future__ import annotations

import pytest
from hydra import compose, initialize_config_module
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException
from omegaconf import OmegaConf

from fmscale.composition import Composer
from fmscale.launching import register_launchers

JOBS = [
    [],
    ["seed=1", "budget.tokens=[1e6,2e6]"],
    ["seed=2", "model=gpt_2x64", "optimizer.lr=3e-3", "model.shape.n_layer=3"],
    ["model.shape.n_layer=5", "model=gpt_2x64", "schedule=cosine", "seed=3"],
    ["experiment=gpt_demo", "model=gpt_1x16", "seed=1", "logger.tags=[a,b]"],
    ["experiment=gpt_demo", "model=gpt_1x16", "seed=2", "hydra.launcher.n_workers=2"],
    ["model=clip_2x32", "data=scenes", "objective=contrastive", "budget=samples",
     "evaluation=zero_shot", "budget.samples=2e4", "batch_size=${data.val_batch_size}"],
    ["+extra.key=1", "++seed=4", "~logger.tags", "schedule={cooldown_fraction:0.5}"],
    ["~evaluation", "seed='5'", "study=a-b"],
]  # fmt: skip


@pytest.fixture
def composer():
    register_launchers()
    with initialize_config_module("conf", version_base="1.3"):
        calls: list[list[str]] = []

        def load(own):
            calls.append(own)
            return compose("train", overrides=own)

        made = Composer(GlobalHydra.instance().config_loader(), load)
        yield made, calls


def test_every_job_is_what_hydra_makes_of_it(composer):
    composed, _ = composer
    for overrides in JOBS:
        expected = compose("train", overrides=overrides)
        found = composed(overrides)
        assert OmegaConf.to_container(found) == OmegaConf.to_container(expected), overrides
        assert OmegaConf.is_struct(found)
        assert composed(overrides) == found  # a job leaves nothing behind in what is shared


def test_jobs_of_the_same_files_are_composed_once(composer):
    composed, calls = composer
    for seed in range(5):
        for model in ("gpt_1x16", "gpt_2x24"):
            assert composed([f"model={model}", f"seed={seed}"]).seed == seed
    assert calls == [["model=gpt_1x16"], ["model=gpt_2x24"]]


@pytest.mark.parametrize(
    "overrides",
    [
        ["sede=1"],
        ["model=gpt_9x9"],
        ["seed=[1"],
        ["~nothing"],
        ["+seed=1"],
        ["model@here=gpt_1x16"],
    ],
)
def test_mistakes_are_refused_in_hydras_words(composer, overrides):
    composed, _ = composer
    with pytest.raises(HydraException) as expected:
        compose("train", overrides=overrides)
    with pytest.raises(HydraException) as found:
        composed(overrides)
    assert str(found.value) == str(expected.value)
