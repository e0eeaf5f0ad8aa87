"""Finished runs measured again: the same numbers, in the same records."""

from __future__ import annotations

import io
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from types import SimpleNamespace

import pytest
from rich.console import Console

import analysis
from fmscale.commands import evaluate
from fmscale.runs.record import Evaluation
from fmscale.runs.store import Study
from fmscale.training import run
from tests.helpers.training import train


@pytest.fixture
def study(tiny, plan_one):
    """Two finished runs of one size."""
    job = plan_one([*tiny, "budget.tokens=[2560,5120]", "study=small"])
    train(job)
    return Study.open(job.config["paths"]["runs_dir"], "small")


@pytest.fixture
def call(study, monkeypatch, capsys):
    """arguments -> what `fmscale evaluate` prints."""

    def command(*arguments: str) -> str:
        words = ["fmscale evaluate", *arguments, "--runs-dir", str(study.path.parent)]
        monkeypatch.setattr(sys, "argv", words)
        monkeypatch.setenv("COLUMNS", "160")
        evaluate.main()
        return capsys.readouterr().out

    return command


def records(study) -> list:
    return [folder.record() for folder in study.runs()]


def test_a_new_evaluator_adds_its_metrics_and_changes_no_other(study, call):
    before = records(study)
    assert "val_loss_at_8" in call("small", "evaluation=position", "--show", "val_loss_at_8")
    for old, new in zip(before, records(study), strict=True):
        assert {"val_loss_at_1", "val_loss_at_8"} <= set(new.metrics) - set(old.metrics)
        assert {k: new.metrics[k] for k in old.metrics} == old.metrics
        assert new.units["val_loss_at_8"] == "nats/token"
        entry = new.evaluations[-1]
        assert entry.evaluator == "position"
        assert set(entry.metrics) == set(new.metrics) - set(old.metrics)
        assert (
            replace(new, metrics=old.metrics, units=old.units, evaluations=old.evaluations) == old
        )
    frame = analysis.load_runs(study.path).frame
    assert frame["val_loss_at_8"].notna().all()


def test_the_same_command_again_measures_nothing_and_changes_no_byte(study, call):
    call("small", "evaluation=position")
    files = [folder.path / "record.json" for folder in study.runs()]
    stored = [file.read_bytes() for file in files]
    assert "Nothing to measure" in call("small", "evaluation=position")
    assert [file.read_bytes() for file in files] == stored
    before = records(study)
    call("small", "evaluation=position", "--again")
    assert [r.metrics for r in records(study)] == [r.metrics for r in before]


def test_what_training_measured_is_measured_the_same(study, call):
    before = records(study)
    assert "Nothing to measure" in call("small")
    call("small", "--again")
    assert [r.metrics for r in records(study)] == [r.metrics for r in before]


def test_one_run_is_named_by_the_beginning_of_its_id(study, call):
    first, second = study.runs()
    call(first.run_id[:-3], "evaluation=position")
    assert "val_loss_at_1" in first.record().metrics
    assert "val_loss_at_1" not in second.record().metrics


def test_other_settings_replace_the_value_and_what_is_said_about_it(study, call):
    call("small", "evaluation=language", "evaluation.evaluators.language.batch_size=2")
    for record in records(study):
        (entry,) = record.evaluations
        assert entry.settings["batch_size"] == 2
        assert set(entry.metrics) == set(record.metrics)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nothing"], "no run in .* begins with 'nothing'"),
        (["evaluation=position"], "name runs or studies"),
        (["small", "evaluation=magic"], "magic"),
        (["small", "paths.runs_dir=other"], "name the store by --runs-dir"),
        (["small", "+paths.runs_dir=other"], "name the store by --runs-dir"),
        (["small", "++data.root=other"], "name the store by --runs-dir"),
        (["small", "evaluation=known_language"], "regret needs a language whose truth is known"),
        (["small", "--show", "val_los"], "no record has val_los"),
        (["small", "evaluation=position", "--device", "cuda:99"], "--device cuda:99 cannot be"),
    ],
)
def test_mistakes_are_named_before_anything_is_measured(study, call, arguments, message):
    before = records(study)
    with pytest.raises(SystemExit, match=f"(?s)error: .*{message}"):
        call(*arguments)
    assert records(study) == before


def test_evaluations_of_two_processes_do_not_lose_each_other(study):
    folder = next(study.runs())

    def add(k: int) -> None:
        entry = Evaluation(f"e{k}", {}, [f"m{k}"], "now", None)
        folder.update_record(lambda old: old.with_evaluation(entry, {f"m{k}": k}, {f"m{k}": "1"}))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(add, range(24)))
    assert {f"m{k}" for k in range(24)} <= set(folder.record().metrics)


def test_a_clip_run_takes_the_same_command(tiny_clip, plan_one, monkeypatch):
    job = plan_one([*tiny_clip, "budget.samples=320", "study=pairs"])
    run.train_trunk(job)
    run.train_branch(job, job.branches[0])
    runs_dir = job.config["paths"]["runs_dir"]
    monkeypatch.setattr(
        sys, "argv",
        ["fmscale evaluate", "pairs", "evaluation=adaptation", "--runs-dir", runs_dir,
         "evaluation.evaluators.adaptation.few_shot=[1]",
         "evaluation.evaluators.retrieval.n_pairs=32"],
    )  # fmt: skip
    before = Study.open(runs_dir, "pairs").run(job.branches[0].run_id).record()
    evaluate.main()
    after = Study.open(runs_dir, "pairs").run(job.branches[0].run_id).record()
    assert {k: after.metrics[k] for k in before.metrics} == before.metrics
    assert any(name.startswith("retrieval_") for name in after.metrics)
    monkeypatch.setattr(
        sys, "argv", ["fmscale evaluate", "pairs", "evaluation=position", "--runs-dir", runs_dir]
    )
    with pytest.raises(SystemExit, match="holds no language; for CLIP choose"):
        evaluate.main()


def test_tables_are_kept_beside_the_record_and_printed(study, call):
    tuning = "evaluation.evaluators.fine_tuning"
    printed = call(
        "small", "evaluation=[samples,fine_tuning]", "evaluation.evaluators.samples.n_tokens=8",
        f"{tuning}.n_toy=32", f"{tuning}.baselines=[scratch]", f"{tuning}.n_epochs=1",
        "--table", "samples", "finetune_classification",
    )  # fmt: skip
    for folder in study.runs():
        tables, record = folder.tables(), folder.record()
        prompts = [row["prompt"] for row in tables["samples"]]
        assert len(prompts) == len(set(prompts)) == 6
        ways = {row["way"]: row["accuracy"] for row in tables["finetune_classification"]}
        assert ways["scratch"] == record.metrics["finetune_classification_scratch_accuracy"]
        assert f"samples of {folder.run_id}" in printed
    with pytest.raises(SystemExit):
        call("small", "--table", "nothing")


def test_samples_of_every_size_make_a_page(study, tmp_path, monkeypatch, capsys):
    from fmscale.commands import sample

    page = tmp_path / "samples.md"
    words = ["fmscale sample", "--study", "small", "--out", str(page), "--tokens", "5",
             "--runs-dir", str(study.path.parent)]  # fmt: skip
    monkeypatch.setattr(sys, "argv", words)
    sample.main()
    longest = max(study.runs(), key=lambda folder: folder.record().n_steps)
    text = page.read_text()
    assert text.count("## `") == 6
    assert text.count(f"**{longest.run_id}**") == 6
    assert longest.run_id in capsys.readouterr().out


@pytest.mark.parametrize("n_runs", [1, 3, 5])
def test_the_closing_table_fits_a_terminal_and_shows_every_run(n_runs):
    names = ["task_mid_word_1_anagrams_described_accuracy_at_0", "val_loss"]
    records = [
        SimpleNamespace(run_id=f"gpt_{k}x16-98.3k-s1-fd64327095",
                        metrics={"val_loss": 1.5 + k}, units={"val_loss": "nats/token"})
        for k in range(n_runs)
    ]  # fmt: skip
    console = Console(width=80, record=True, file=io.StringIO())
    console.print(evaluate.closing_table(records, names))
    lines = console.export_text().splitlines()
    assert max(map(len, lines)) <= 80
    for k in range(n_runs):
        assert any(f"{1.5 + k:.1f}" in line for line in lines)
    assert any("nats/" in line for line in lines)
    assert any("- │" in line for line in lines)  # not measured is not 0


def test_the_closing_table_is_of_what_was_measured_last():
    first, other, again = (
        SimpleNamespace(evaluator=name, metrics=metrics)
        for name, metrics in (("fine", ["a"]), ("language", ["val_loss"]), ("fine", ["b"]))
    )
    record = SimpleNamespace(evaluations=[first, other, again])
    assert evaluate._latest(record) == [again, other]
