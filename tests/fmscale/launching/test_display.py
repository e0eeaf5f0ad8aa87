"""The closing table of a sweep says what its runs differ by, within a terminal."""

from __future__ import annotations

import shlex

import pytest

from fmscale.config.jobs import expand
from fmscale.launching import display
from fmscale.planning.store_plan import study_of


@pytest.fixture
def closing_table(tiny, monkeypatch, capsys):
    """Overrides -> heading and lines of the table of runs not yet trained."""

    monkeypatch.setenv("COLUMNS", "80")

    def show(*overrides: str) -> tuple[list[str], list[str]]:
        display.print_outcome(expand([*tiny, "budget.tokens=6400", *overrides]), {})
        lines = capsys.readouterr().out.splitlines()
        assert max(map(len, lines)) <= 80
        head = next(line for line in lines if "model" in line)
        return head.replace("┃", " ").split(), lines

    return show


@pytest.mark.parametrize(
    ("overrides", "name", "values"),
    [
        (["optimizer.lr=2e-3,8e-3"], "lr", ["0.002", "0.008"]),
        (["model=gpt/1x8,gpt/1x16", "model.dropout=0,0.3"], "dropout", ["0", "0.3", "0", "0.3"]),
        (["optimizer.weight_decay=0,0.1"], "weight_decay", ["0", "0.1"]),
        (["batch_size=2,4"], "batch_size", ["2", "4"]),
        (["trainer.gradient_clip_val=null,1.0"], "gradient_clip_val", ["null", "1"]),
        (["trainer.precision=32-true,bf16-mixed"], "precision", ["32-true", "bf16-mixed"]),
    ],
)
def test_what_was_swept_is_a_column_and_the_seed_stays(closing_table, overrides, name, values):
    head, lines = closing_table(*overrides)
    assert head[:3] == ["model", name, "seed"]
    cells = [line.replace("│", " ").split() for line in lines if line.startswith("│gpt")]
    assert [row[1] for row in cells] == values
    assert all(row[2] == "1" and row[-1] == "missing" for row in cells)


def test_a_ladder_and_its_repeats_need_no_further_column(closing_table):
    head, lines = closing_table("model=gpt/1x8,gpt/1x16", "seed=1,2")
    assert head[:3] == ["model", "seed", "D"]
    assert sum("missing" in line for line in lines) == 4


def test_more_than_a_line_holds_is_told_in_one_column(closing_table):
    head, lines = closing_table(
        "model.dropout=0,0.3", "optimizer.weight_decay=0,0.1", "optimizer.lr=1e-3,2e-3",
        "trainer.gradient_clip_val=null,1.0",
    )  # fmt: skip
    assert head[:3] == ["model", "differs", "in"]
    for pair in ("dropout=0.3", "weight_decay=0.1", "lr=0.002", "gradient_clip_val=null"):
        assert sum(pair in line.split() or f"│ {pair} " in line for line in lines) == 8, pair


def test_a_ladder_ends_with_the_question_of_what_to_train(tiny, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "80")

    def closing(*overrides):
        jobs = expand([*tiny, *overrides])
        display.print_outcome(jobs, {})
        return jobs, capsys.readouterr().out.splitlines()

    jobs, lines = closing("model=gpt/1x8,gpt/1x16", "budget.tokens=[3200,4800,6400]")
    program, command, folder, option, flops = shlex.split(lines[-1])
    assert (program, command, option) == ("fmscale-analysis", "forecast", "--flops")
    assert folder == str(study_of(jobs[0]).path)
    largest = max(job.flops(branch.n_units)["flops"] for job in jobs for branch in job.branches)
    assert float(flops) == pytest.approx(10 * largest, rel=0.01)
    for too_little in (("budget.tokens=[3200,6400]",), ("seed=1,2,3,4,5", "budget.tokens=6400")):
        assert not any("forecast" in line for line in closing(*too_little)[1])
