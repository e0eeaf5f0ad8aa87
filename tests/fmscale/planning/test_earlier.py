"""Studies that release 0.1.0 stored: read, found, gone on with. The files are its own."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import yaml

import analysis
from fmscale.commands.evaluate import compose_settings, measure, request
from fmscale.commands.retry import unfinished_jobs
from fmscale.config.jobs import expand
from fmscale.data.text import sources, token_dataset
from fmscale.errors import ConfigError
from fmscale.launching.preflight import submit
from fmscale.planning import earlier
from fmscale.planning.job import Job
from fmscale.planning.store_plan import plan_in_store, study_of
from fmscale.planning.sweep import Sweep, manifest_entries
from fmscale.public import RENAMED
from fmscale.runs import config_file
from fmscale.runs.store import Study
from fmscale.training import run

STORED = Path(__file__).parent / "release_0_1_0"
TEXT = "35868db32107abe2"  # mark of the standard library that the stored runs read
GPT = ["study=gpt_old", "model=gpt/1x8", "budget.tokens=[10240,40960]", "data.n_val_tokens=4096",
       "data.seq_len=32", "batch_size=8"]  # fmt: skip
CLIP = ["study=clip_old", "model=clip/1x16", "objective=contrastive", "data=scenes",
        "data.n_val_samples=64", "data.val_batch_size=32", "data.n_task_images=16",
        "evaluation=zero_shot", "budget=samples", "budget.samples=[320,640]",
        "batch_size=16"]  # fmt: skip
DONE = {"gpt_old": "gpt_1x8-10.2k-s1-e18c4f3d0e", "clip_old": "clip_1x16-320-s1-c6e2ee6110"}
LEFT = {"gpt_old": "gpt_1x8-41k-s1-1ae54d6416", "clip_old": "clip_1x16-640-s1-dbb648da01"}


@pytest.fixture
def store(tmp_path) -> Path:
    return Path(shutil.copytree(STORED, tmp_path / "runs"))


@pytest.fixture
def library(monkeypatch):
    """Sets the mark of the standard library's text."""

    def be(mark: str) -> None:
        for module in (token_dataset, earlier):
            monkeypatch.setattr(module, "text_mark", lambda root, suffixes=(".py",): mark)

    be(TEXT)
    return be


@pytest.mark.parametrize(("study", "command"), [("gpt_old", GPT), ("clip_old", CLIP)])
def test_the_same_command_finds_what_was_trained(store, library, study, command):
    (job,) = expand([*command, f"paths.runs_dir={store}"])
    plan = plan_in_store(job)
    assert [b.run_id for b in plan.done] == [DONE[study]]
    assert [b.run_id for b in plan.left] == [LEFT[study]]
    again = Job.plan(job.config, job.shape)  # as a worker plans it
    assert (again.trunk_id, again.branches) == (job.trunk_id, job.branches)


def test_a_new_study_takes_over_what_was_trained(store, library):
    (job,) = expand([*GPT, f"paths.runs_dir={store}", "study=new"])
    assert Sweep([job]).take_over() == [DONE["gpt_old"]]
    assert study_of(job).run(DONE["gpt_old"]).record().metrics["val_loss"] == pytest.approx(
        2.8227, abs=1e-4
    )


def test_other_text_or_another_precision_is_another_run(store, library):
    (same,) = expand([*GPT, f"paths.runs_dir={store}"])
    (other,) = expand([*GPT, f"paths.runs_dir={store}", "trainer.precision=bf16-mixed"])
    library("f" * 16)
    (changed,) = expand([*GPT, f"paths.runs_dir={store}"])
    assert len({job.trunk_id for job in (same, other, changed)}) == 3
    for job in (other, changed):
        assert "earlier" not in job.config
        assert not plan_in_store(job).done


def test_a_job_begun_anew_goes_on_under_its_new_ids(store, library):
    library("f" * 16)
    (job,) = expand([*GPT, f"paths.runs_dir={store}"])
    submit(Sweep([job]))
    library(TEXT)
    (old,) = expand([*GPT, f"paths.runs_dir={store}"])
    library("f" * 16)
    (new,) = expand([*GPT, f"paths.runs_dir={store}"])
    assert old.config["earlier"] == {"precision": "auto"}
    assert (new.trunk_id, new.branches) == (job.trunk_id, job.branches)


@pytest.mark.parametrize("study", DONE)
def test_what_failed_is_tried_again_under_its_id(store, library, study):
    (job,) = unfinished_jobs(Study(store / study))
    assert [b.run_id for b in job.branches] == [LEFT[study]]
    assert job.trainer.precision == "32-true"  # what auto had chosen for the finished run


def test_going_on_with_other_text_is_refused(store, text_folder, tmp_path, monkeypatch):
    monkeypatch.setattr(sources.sysconfig, "get_paths", lambda: {"stdlib": str(text_folder)})
    monkeypatch.setattr(earlier, "text_mark", sources.text_mark.__wrapped__)
    (job,) = unfinished_jobs(Study(store / "gpt_old"))
    job.config["data"]["data_dir"] = str(tmp_path)
    with pytest.raises(ConfigError, match=rf"data.content = {TEXT}, but .* was changed since"):
        run.check(job)


def as_stored_before(study: Study) -> None:
    """Rewrite the configurations of a study as that release wrote them."""
    names = {public: name for name, public in RENAMED.items()}
    for folder in study.runs():
        config = yaml.safe_load((folder.path / "config.yaml").read_text())
        text = config_file.write(
            {k: v for k, v in config.items() if k not in ("content", "earlier")}
        )
        for public, name in names.items():
            text = text.replace(f"_target_: {public}\n", f"_target_: {name}\n")
        assert "ByteText\n" in text
        (folder.path / "config.yaml").write_text(text)


def test_a_study_is_gone_on_with_measured_and_fitted(tiny, plan_one, tmp_path):
    overrides = [*tiny, "budget.tokens=[2560,5120]"]
    whole = plan_one([*overrides, "study=whole"])
    run.train_trunk(whole)
    for branch in whole.branches:
        run.train_branch(whole, branch)
    new = plan_one(overrides)
    job = Job.plan({**new.config, "earlier": {"precision": "32-true"}}, new.shape)
    study = study_of(job)
    submit(Sweep([job]))
    run.train_trunk(job)
    run.train_branch(job, job.branches[0])
    as_stored_before(study)

    (again,) = unfinished_jobs(study)
    assert [b.run_id for b in again.branches] == [job.branches[1].run_id]
    run.check(again)
    run.train_branch(again, again.branches[0])
    losses = [study.run(b.run_id).record().metrics["val_loss"] for b in job.branches]
    unbroken = study_of(whole)
    assert losses == [unbroken.run(b.run_id).record().metrics["val_loss"] for b in whole.branches]

    folder = study.run(job.branches[0].run_id)
    assert request(folder, compose_settings([])).todo == ()  # measured under an earlier name
    more = request(folder, compose_settings(["evaluation=position"]))
    assert "val_loss" in measure(more, "cpu").metrics
    table = analysis.final_runs(analysis.load_runs(study.path)).frame
    assert sorted(table["run_id"]) == sorted(b.run_id for b in job.branches)
    found = manifest_entries(plan_one(overrides))
    assert set(found) == set(table["run_id"])  # the sweep finds them, too
