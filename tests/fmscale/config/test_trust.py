"""A store that came from anywhere runs no code of its own, and its names lead nowhere else."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import yaml

from fmscale.commands import status
from fmscale.commands.convert import load_run
from fmscale.commands.evaluate import compose_settings, request, select
from fmscale.commands.retry import unfinished_jobs
from fmscale.config.trust import TRUST, own_targets, stored_config
from fmscale.errors import ConfigError
from fmscale.launching.preflight import check_store, submit
from fmscale.planning.job import Job
from fmscale.planning.store_plan import study_of
from fmscale.planning.sweep import Sweep
from fmscale.runs.files import Broken
from fmscale.runs.find import find
from fmscale.runs.store import RunFolder, Study
from fmscale.training import run


@pytest.fixture
def folder(tiny, plan_one) -> RunFolder:
    job = plan_one([*tiny, "budget.tokens=2560"])
    submit(Sweep([job]))
    return study_of(job).run(job.branches[0].run_id)


def edit(folder: RunFolder, change) -> None:
    path = folder.path / "config.yaml"
    config = yaml.safe_load(path.read_text())
    change(config)
    path.write_text(yaml.safe_dump(config))


def test_everything_that_conf_names_is_there_to_be_run():
    from hydra.utils import get_object

    assert {"fmscale.models.GPT", "fmscale.sizing.GPTShape"} < own_targets()
    for target in own_targets():
        assert callable(get_object(target)), target


HOSTILE = (
    "os.system",
    "fmscale.runs.provenance.subprocess.run",  # reached through a module of ours
    "fmscale.runs.files.write_atomically",  # ours, but no part of a run
    "fmscale.models.gpt.GPT.__init__",
    "torch.load",
)


@pytest.mark.parametrize("target", HOSTILE)
def test_a_stored_configuration_runs_nothing_but_parts_of_runs(folder, target):
    edit(folder, lambda c: c["evaluation"]["evaluators"].update(x={"deep": [{"_target_": target}]}))
    with pytest.raises(ConfigError, match=r"evaluators\.x\.deep\[0\]\._target_='" + target):
        unfinished_jobs(Study(folder.path.parent))


def test_code_of_ones_own_is_run_when_trusted(folder, monkeypatch):
    edit(folder, lambda c: c["objective"].update(_target_="mine.losses.Own"))
    with pytest.raises(ConfigError, match=f"set {TRUST}=mine"):
        stored_config(folder)
    assert stored_config(folder, replaced=["objective"])
    monkeypatch.setenv(TRUST, "min, mine.other")
    with pytest.raises(ConfigError):
        stored_config(folder)
    for trusted in ("other,mine", "mine.losses", "mine.losses.Own"):
        monkeypatch.setenv(TRUST, trusted)
        assert stored_config(folder)["objective"]["_target_"] == "mine.losses.Own"


def test_measuring_and_converting_ask_as_well(tiny, plan_one):
    job = plan_one([*tiny, "budget.tokens=2560"])
    run.train_trunk(job)
    run.train_branch(job, job.branches[0])
    folder = study_of(job).run(job.branches[0].run_id)
    settings = compose_settings(["evaluation=position"])
    edit(folder, lambda c: c["evaluation"]["evaluators"].update(x={"_target_": "os.system"}))
    assert request(folder, settings).todo  # what is measured is what is asked for now
    load_run(folder)
    edit(folder, lambda c: c["model"].update(_target_="os.system"))
    for read in (load_run, lambda folder: request(folder, settings)):
        with pytest.raises(ConfigError, match=r"model\._target_='os.system'"):
            read(folder)


OUTSIDE = ("../elsewhere", "default/../../elsewhere", "..", "/etc", "", "*", ".hidden")


@pytest.mark.parametrize("name", OUTSIDE)
def test_names_that_lead_out_of_the_store_are_refused(folder, monkeypatch, name):
    store = folder.path.parent.parent
    other = store.parent / "elsewhere" / "run"
    other.mkdir(parents=True)
    (other / "config.yaml").write_text("seed: 1\n")
    with pytest.raises(ValueError, match="is not a folder name"):
        find(store, name)
    with pytest.raises(ConfigError, match="is not a folder name"):
        select(store, [name])
    with pytest.raises(ConfigError, match="is not a folder name"):
        check_store(store, name)
    monkeypatch.setattr(sys, "argv", ["fmscale status", name, "--runs-dir", str(store)])
    with pytest.raises(SystemExit, match="error: study=.* is not a folder name"):
        status.main()


@pytest.mark.parametrize(
    "override",
    ["study=../elsewhere", "data.name=../elsewhere", "data.name=.hidden", "data.name=a\\\\b"],
)
def test_names_in_a_configuration_are_refused_before_anything_is_written(
    tiny, plan_one, tmp_path, override
):
    before = set(Path(tmp_path).rglob("*"))
    with pytest.raises(ConfigError, match="is not (the name of a folder|a folder name)"):
        plan_one([*tiny, override, "budget.tokens=2560"])
    assert set(Path(tmp_path).rglob("*")) == before


def test_a_source_of_a_mixture_is_looked_at_too(tiny, plan_one):
    job = plan_one([*tiny, "budget.tokens=2560"])
    sources = {"text": {"data": {**job.config["data"], "name": "a/b"}, "weight": 1.0}}
    config = {**job.config, "data": {**job.config["data"], "sources": sources}}
    with pytest.raises(ConfigError, match="data.name='a/b'"):
        Job.plan(config, job.shape)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("../../../X", r"data\.name='\.\./\.\./\.\./X' is not the name of a folder"),
        ("${oc.env:HF_TOKEN}", r"data\.name='\$\{oc\.env:HF_TOKEN\}' is a reference"),
    ],
)
def test_a_stored_name_leads_nowhere_else_and_refers_to_nothing(folder, name, message):
    edit(folder, lambda c: c["data"].update(name=name))
    with pytest.raises(ConfigError, match=message):
        stored_config(folder)


BOMBS = {
    "aliases": "a0: &a0 [x, x, x, x, x, x, x, x, x]\n"
    + "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 12)),
    "merges": "a0: &a0 {k: 1}\n"
    + "".join(f"a{i}: &a{i} {{<<: [{', '.join([f'*a{i - 1}'] * 9)}]}}\n" for i in range(1, 12)),
    "itself": "a: &a [*a]\n",
    "depth": "a: " + "[" * 20_000,
    "list": "[1, 2]\n",
    "empty": "",
    "binary": "\x00\x01",
    "half": "study: s\nseed: 1\n",
}


@pytest.mark.parametrize("name", BOMBS)
def test_a_configuration_that_cannot_be_read_is_one_line(folder, capsys, name):
    (folder.path / "config.yaml").write_text(BOMBS[name])
    with pytest.raises(Broken, match=r"broken: .*config\.yaml .*; give the sweep's command again"):
        stored_config(folder)
    assert unfinished_jobs(Study(folder.path.parent)) == []  # the other runs would go on
    assert capsys.readouterr().err.startswith("broken: ")
