"""What fmscale writes, analysis reads: the only place that knows both sides."""

from __future__ import annotations

import itertools
import json

import pandas as pd
import pytest

import analysis
from analysis.transfer import clip as adaptation
from analysis.transfer import gpt as language
from fmscale.commands.export import rows
from fmscale.data.scenes.dataset import Scenes
from fmscale.data.tasks.task_documents import TaskDocuments
from fmscale.evaluation.image_text.fine_tuning import ImageFineTuning
from fmscale.evaluation.image_text.probes import Adaptation, suitable
from fmscale.evaluation.image_text.zero_shot import ZeroShot
from fmscale.evaluation.language.fine_tuning import FineTuning
from fmscale.evaluation.language.in_context import InContext
from fmscale.evaluation.language.position import LossByPosition
from fmscale.evaluation.runner import evaluate
from fmscale.models.gpt import GPT
from fmscale.objectives.contrastive import Contrastive
from fmscale.objectives.next_token import NextToken
from fmscale.runs.files import Broken
from fmscale.runs.identity import TRAINER_IDENTITY_KEYS
from fmscale.runs.record import SCHEMA_VERSION, UNITS
from fmscale.runs.store import Study
from fmscale.sizing import GPTShape
from fmscale.training import run
from tests.helpers.records import BASE, changed, record
from tests.helpers.small_clip import tiny_clip


@pytest.fixture
def trained(tiny, plan_one):
    job = plan_one([*tiny, "budget.tokens=[2560,5120]"])
    run.train_trunk(job)
    for branch in job.branches:
        run.train_branch(job, branch)
    return job, Study.open(job.config["paths"]["runs_dir"], job.config["study"])


def test_every_number_of_a_record_arrives_in_the_table(trained):
    job, study = trained
    table = analysis.load_runs(study.path)
    frame = table.frame.set_index("run_id")
    assert len(frame) == len(job.branches)
    for branch in job.branches:
        record = study.run(branch.run_id).record()
        row = frame.loc[branch.run_id]
        for column in UNITS:
            value = getattr(record, column)
            if value is not None:
                assert row[column] == value, column
        for name, value in record.metrics.items():
            assert row[name] == value
        assert bool(row["annealed"]) is True


def test_columns_of_the_other_family_are_absent_not_zero(trained):
    _, study = trained
    frame = analysis.load_runs(study.path).frame
    assert "n_samples" not in frame or frame["n_samples"].isna().all()


def test_both_sides_speak_of_the_same_schema():
    assert analysis.tables.run_store.SCHEMA_VERSION == SCHEMA_VERSION


def test_an_export_and_the_analysis_have_the_same_columns_of_what_runs_differ_in(tmp_path):
    study = Study.open(tmp_path, "s")
    earlier = {key: BASE[key] for key in ("model", "objective", "optimizer", "trainer")}
    imported = {"imported": {"path": "x", "sha256": "0"}}
    own = changed(
        model__dropout=0.3, model___target_="lab.GPT", optimizer__betas=[0.9, 1.0],
        trainer__gradient_clip_val=None, batch_ramp__start=4, data__root="/b", data__content="c2",
        evaluation__evaluators__language__n=5,
    )  # fmt: skip
    for name, config in (("a", BASE), ("b", own), ("c", earlier), ("d", imported)):
        data = {"name": name, "content_sha256": name, "cache": name, "epochs_by_source": {"x": 1}}
        folder = study.run(name)
        folder.create("seed: 1\n")
        folder.write_record(
            record(
                run_id=name, hyperparameters=config, data=data,
                environment={"precision": "bf16-mixed"},
            )
        )  # fmt: skip
    exported = {row["run_id"]: row for row in rows(study)}
    loaded = analysis.load_runs(study.path).frame.set_index("run_id", drop=False)
    dotted = [{key for row in exported.values() for key in row if "." in key}]
    dotted.append({key for key in loaded if "." in key})
    assert dotted[0] == dotted[1] >= {"model.dropout", "data.root", "data.content_sha256"}
    for name, row in exported.items():
        for key in (*dotted[0], "precision", "study"):
            value = loaded.loc[name, key]
            assert value == row[key] if key in row else value != value, (name, key)


def test_both_sides_know_which_settings_of_the_trainer_change_the_numbers():
    assert analysis.tables.hyperparameters.TRAINER == TRAINER_IDENTITY_KEYS


def test_both_sides_find_a_changed_digit(trained):
    _, study = trained
    folder = next(study.runs())
    path = folder.path / "record.json"
    text = path.read_text()
    value = str(folder.record().metrics["val_loss"])
    assert len(analysis.load_runs(study.path).frame) == 2  # both sides agree on what was written
    digit = "3" if value[3] != "3" else "4"
    path.write_text(text.replace(value, value[:3] + digit + value[4:]))
    with pytest.raises(Broken, match="altered"):
        folder.record()
    table = analysis.load_runs(study.path)
    assert len(table.frame) == 1
    assert "broken: record.json was altered" in str(table.dropped[0])
    row = json.loads(text)
    del row["checksum"]  # as records were written before they had one
    path.write_text(json.dumps(row))
    assert len(analysis.load_runs(study.path).frame) == 2
    assert str(folder.record().metrics["val_loss"]) == value


def test_runs_that_were_not_annealed_are_not_fitted(tiny, plan_one):
    job = plan_one([*tiny, "budget.tokens=[2560,5120]", "schedule=constant"])
    run.train_trunk(job)
    for branch in job.branches:
        run.train_branch(job, branch)
    study = Study.open(job.config["paths"]["runs_dir"], job.config["study"])
    kept = analysis.final_runs(analysis.load_runs(study.path))
    assert len(kept.frame) == 0
    assert sum(len(dropped.rows) for dropped in kept.dropped) == 2


def test_analysis_finds_in_the_names_of_metrics_what_evaluators_measured():
    """Task, examples, description, position and weight, from the names that evaluators give."""
    shape = GPTShape(n_layer=1, n_head=2, d_model=16, vocab_size=256, seq_len=128)
    texts = TaskDocuments(seq_len=128, tasks=["reversed_words"], n_val_tokens=256)
    language_evaluators = {
        "few": InContext(["reversed_words"], shots=[0, 1], n_problems=2),
        "where": LossByPosition(),
        "tuned": FineTuning("similarity", n_epochs=1, n_toy=8, baselines=["without_lm"]),
    }
    found = evaluate(GPT(shape), texts, NextToken(), language_evaluators)
    runs = pd.DataFrame([found.metrics])
    every = {(p.task, p.described, p.quantity, p.shots) for p in language.all_shot_columns(runs)}
    assert every == set(itertools.product(
        ("reversed_words", "mean"), (False, True), ("accuracy", "nats"), (0, 1)
    ))  # fmt: skip
    assert language.positions(runs) == [1, 2, 4, 8, 16, 32, 64]
    assert language.fine_tuned_tasks(runs) == ["similarity"]

    scenes = Scenes(n_val_samples=32, val_batch_size=32, n_task_images=24)
    tuning = ImageFineTuning(tasks=["background"], alphas=[0.25], n_epochs=1)
    ways = {"zero_shot": ZeroShot(), "ways": Adaptation(few_shot=(1, 2)), "tuned": tuning}
    run = pd.Series(evaluate(tiny_clip(scenes), scenes, Contrastive(), ways).metrics)
    probed = [task.name for task in scenes.zero_shot_tasks if suitable(task)]
    for way in ("probe", "knn", "few_shot_1", "few_shot_2"):
        assert list(adaptation.accuracies(run.to_frame().T, way)) == probed
    assert adaptation.shots(run.to_frame().T) == [1, 2]
    zero_shot = adaptation.accuracies(run.to_frame().T, "zero_shot")
    assert list(zero_shot) == [task.name for task in scenes.zero_shot_tasks if task.named]
    (curve,) = adaptation.interpolation(run).values()
    assert curve["alpha"].tolist() == [0, 0.25, 1]
    assert curve.notna().all(axis=None)
