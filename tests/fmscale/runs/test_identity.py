"""The same configuration has the same name, however its numbers were typed."""

import pytest
from hydra import compose, initialize_config_module
from omegaconf import OmegaConf

from fmscale.config.jobs import expand
from fmscale.data.text import token_dataset
from fmscale.planning import content
from fmscale.runs.identity import (
    IDENTITY_KEYS,
    LATER,
    TRAINER_IDENTITY_KEYS,
    digest,
    identity,
    short_number,
    slug,
)


def test_digest_sees_values_not_spelling():
    assert digest({"a": 2e6, "b": [1.0]}) == digest({"b": [1], "a": 2_000_000})
    assert digest({"a": 1}) != digest({"a": 1.5})


def test_digest_is_stable_across_releases():
    # Changing this changes every run id, and studies would be trained again.
    assert digest({"model": {"n_layer": 2}, "lr": 0.003}) == "f818b8c172"


@pytest.mark.parametrize(
    ("value", "text"),
    [(999, "999"), (1000, "1k"), (2_097_152, "2.1M"), (999_999_488, "1G"), (131_072, "131k")],
)
def test_short_number(value, text):
    assert short_number(value) == text


def test_slug_cannot_leave_its_folder():
    assert "/" not in slug("../../etc", 1000, 1)


def test_tasks_count_by_name_and_not_by_place():
    def of(*folders):
        config = {**{key: None for key in IDENTITY_KEYS}, "data": {"tasks": list(folders)},
                  "trainer": {key: None for key in TRAINER_IDENTITY_KEYS}}  # fmt: skip
        return identity(config)

    assert of("/a/pets", "cars") == of("/b/c/pets/", "x/cars")
    assert of("/a/pets") != of("/a/cars")


# One trunk and its first run of each; the marks of texts are held fixed. These ids may change
# only where numbers do: a key that conf/ gains goes into LATER in `fmscale.runs.identity`.
GOLDEN = {
    "gpt_demo": ("gpt_2x6-s1-c65c878ff4", "gpt_2x6-524k-s1-f8f2c6dd1e"),
    "gpt_mup": ("gpt_2x16-s1-3692e84aa0", "gpt_2x16-262k-s1-c6050a46a4"),
    "gpt_in_context": ("gpt_1x8-s1-134d84b1d1", "gpt_1x8-1.05M-s1-d5e88b7464"),
    "gpt_transfer": ("gpt_1x16-s1-0fa72490b4", "gpt_1x16-2.1M-s1-80b63de77f"),
    "clip_demo": ("clip_1x16-s1-fc4898eddc", "clip_1x16-8.19k-s1-a65dd06b5f"),
    "clip_towers": ("clip_2x24-s1-c719cc607f", "clip_2x24-16.4k-s1-fd14148d6d"),
    "clip_objectives": ("clip_2x48-s1-0ed286f32c", "clip_2x48-4.1k-s1-43dc108494"),
    "clip_adapt": ("clip_1x16-s1-998716e586", "clip_1x16-32.8k-s1-eb468d9a6b"),
}


@pytest.fixture
def fixed_text(monkeypatch):
    for module in (token_dataset, content):
        monkeypatch.setattr(module, "text_mark", lambda root, suffixes=(".py",): "0" * 16)


@pytest.mark.parametrize("preset", GOLDEN)
def test_runs_of_the_presets_keep_their_ids(preset, fixed_text, tmp_path):
    job = expand([f"experiment={preset}", f"paths.runs_dir={tmp_path}"])[0]
    assert (job.trunk_id, job.branches[0].run_id) == GOLDEN[preset]


@pytest.mark.parametrize(
    ("name", "override"),
    [
        ("fmscale.data.ByteText.order", "+data.order"),
        ("fmscale.models.GPT.residual_scale", "+model.residual_scale"),
        ("schedule.restarts", "+schedule.restarts"),
        ("evaluation.samples", "+evaluation.samples"),
    ],
)
def test_a_key_that_came_later_makes_another_run_only_where_it_is_used(
    name, override, tiny, monkeypatch
):
    def reduced(*more):
        with initialize_config_module("conf", version_base="1.3"):
            composed = compose("train", overrides=[*tiny, "budget.tokens=6400", *more])
        config = OmegaConf.to_container(composed, resolve=True)
        return digest(identity({**config, "content": {}}))

    before = reduced()
    assert reduced(f"{override}=1.0") != before
    monkeypatch.setitem(LATER, name, 1)
    assert reduced(f"{override}=1.0") == before
    assert reduced(f"{override}=2") != before
