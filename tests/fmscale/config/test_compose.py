"""Configurations of one's own are found by every command that composes."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from fmscale.commands.evaluate import compose_settings
from fmscale.config.compose import check_overrides, compose_launcher, with_config_dir
from fmscale.config.jobs import expand
from fmscale.errors import ConfigError


@pytest.fixture
def folder(tmp_path):
    """A model and an evaluation that fmscale does not have, in a folder with an awkward name."""
    own = tmp_path / "my 'own', conf"
    size = "defaults: [gpt, _self_]\nshape: {n_layer: 3, n_head: 1, d_model: %d}\n"
    for path, text in {
        "model/mine.yaml": size % 8,
        "model/gpt/3x9.yaml": size % 9,
        "evaluation/mine.yaml": "evaluators: {}\n",
    }.items():
        (own / path).parent.mkdir(parents=True)
        (own / path).write_text(text)
    return str(own)


def test_a_folder_of_configurations_is_searched(folder):
    sizes = ["model=gpt/1x8,mine,gpt/3x9", "budget.tokens=1e6"]
    jobs = expand(with_config_dir(sizes, folder))
    assert [job.shape.label for job in jobs] == ["gpt_1x8", "gpt_3x8", "gpt_3x9"]
    settings = compose_settings(with_config_dir(["evaluation=mine"], folder))
    assert settings.evaluation.evaluators == {}


def test_sizes_lie_in_folders_by_family(folder):
    check_overrides(
        ["model=choice(gpt/1x8,clip/vit_b32)", "model=gpt,clip_imported", "seed=glob(*)"]
    )
    with pytest.raises(ConfigError, match="model=clip_vit_b32 is called model=clip/vit_b32 now"):
        check_overrides(["model=gpt/1x8,clip_vit_b32"])
    with pytest.raises(ConfigError, match="a glob sees no folders"):
        check_overrides(["model=glob(gpt/2x*)"])
    with pytest.raises(ConfigError, match="model=gpt2/1x8: gpt2 has 12x768, .*48x1600; or model="):
        check_overrides(["model=gpt2/1x8"])
    check_overrides(with_config_dir(["model=gpt2/1x8"], folder))  # which may hold it


@pytest.mark.parametrize("prefix", ["", "+", "++"])
def test_an_option_by_its_earlier_name_is_refused_with_the_new_one(prefix):
    said = re.escape("hydra.launcher.pack=8 is called hydra.launcher.vmap=8 now")
    for refuse in (check_overrides, compose_launcher, expand):
        with pytest.raises(ConfigError, match=f"^{said}$"):
            refuse(["seed=1", f"{prefix}hydra.launcher.pack=8"])


def test_without_a_folder_nothing_changes():
    assert with_config_dir(["seed=1"], None) == ["seed=1"]


def test_a_folder_that_is_none_or_that_is_named_twice_is_a_mistake(folder):
    with pytest.raises(ConfigError, match="--config-dir nowhere is no folder"):
        with_config_dir([], "nowhere")
    with pytest.raises(ConfigError, match="give one of them"):
        with_config_dir(["hydra.searchpath=[file:///x]"], folder)


def test_a_working_folder_that_was_deleted_is_said(tmp_path):
    gone = tmp_path / "gone"
    gone.mkdir()
    code = ("import os, sys; from fmscale import cli; os.rmdir(os.getcwd()); "
            "sys.argv = ['fmscale', 'status']; cli.main()")  # fmt: skip
    done = subprocess.run([sys.executable, "-c", code], cwd=gone, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr == "error: the working folder was deleted; change to one that exists (cd)\n"
