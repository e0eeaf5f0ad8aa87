"""Every name that the program prints for a run is a name by which it is found."""

from __future__ import annotations

import dataclasses

import pytest

import analysis
from analysis.tables.table import TableError
from fmscale.commands.export import rows
from fmscale.runs.find import find
from fmscale.runs.record import Evaluation
from fmscale.runs.reuse import adopt_run
from fmscale.runs.store import RunFolder, Study
from tests.helpers.records import record

RUN, OTHER = "gpt_1x16-1k-s1-aaaaaaaaaa", "gpt_1x16-1k-s1-aabbbbbbbb"


def make(runs_dir, study: str, run_id: str) -> RunFolder:
    folder = Study.open(runs_dir, study).run(run_id)
    folder.create(f"study: {study}\n")
    folder.write_record(record(run_id=run_id, study=study))
    return folder


@pytest.fixture
def store(tmp_path):
    """A run that studies `a` and `z` have taken over from study `home`, and one beside it."""
    home = make(tmp_path, "home", RUN)
    home.set_status("completed")
    for name in ("a", "z"):
        Study.open(tmp_path, name).path.mkdir()
        adopt_run(home, Study.open(tmp_path, name))
    make(tmp_path, "z", OTHER)
    return tmp_path


@pytest.mark.parametrize(
    ("name", "study", "run_id"),
    [
        (RUN, "home", RUN),
        (RUN[:-7], "home", RUN),
        (f"z/{RUN}", "z", RUN),
        (f"z/{RUN}/", "z", RUN),
        (f"a/{RUN[:8]}", "a", RUN),
        (OTHER, "z", OTHER),
        (f"z/{OTHER[:-6]}", "z", OTHER),
    ],
)
def test_copies_are_one_run_and_a_study_can_be_said(store, name, study, run_id):
    folder = find(store, name)
    assert (folder.study, folder.run_id) == (study, run_id)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "gpt_1x16",
            "2 runs in .* begin with 'gpt_1x16': a/.*; give more of the id, STUDY",
        ),
        ("z/gpt", "2 runs in .* begin with 'z/gpt'"),
        ("a/" + OTHER, "no run in .* begins with"),
        ("absent/" + RUN, "no run in .* begins with"),
        ("../" + RUN, "is not a folder name"),
        ("a/../" + RUN, "is not a folder name"),
        ("", "is not a folder name"),
    ],
)
def test_what_stands_for_no_run_or_for_several_is_refused(store, name, message):
    with pytest.raises(ValueError, match=message):
        find(store, name)


def test_copies_that_measured_more_are_one_run_and_such_with_other_numbers_are_not(store):
    copy = find(store, f"a/{RUN}")
    copy.update_record(
        lambda old: dataclasses.replace(old, metrics={**old.metrics, "val_more": 1.0})
    )
    assert find(store, RUN).study == "home"
    copy.update_record(lambda old: dataclasses.replace(old, metrics={"val_loss": 2.5}))
    with pytest.raises(ValueError, match=f"a/{RUN} and home/{RUN} differ in val_loss; say which"):
        find(store, RUN)
    assert find(store, f"a/{RUN}").record().metrics["val_loss"] == 2.5


def test_an_unfinished_copy_does_not_stand_in_for_the_run(store):
    (store / "home" / RUN / "record.json").unlink()
    assert find(store, RUN).is_finished()


def test_a_run_belongs_to_the_study_that_it_lies_in(store):
    for name in ("home", "a", "z"):
        study = Study.open(store, name)
        assert study.run(RUN).record().study == name
        assert study.run(RUN).trained_for() == "home"
        assert {row["study"] for row in rows(study)} == {name}
        assert set(analysis.load_runs(study.path).frame["study"]) == {name}
    copy = find(store, f"a/{RUN}")
    assert copy.update_record(lambda old: old).study == "a"
    assert copy.trained_for() == "home"  # what is measured later leaves this as it is


def test_a_run_in_three_studies_is_one_row_of_their_table(store):
    table = analysis.load_runs(store)
    assert sorted(table.frame["run_id"]) == [RUN, OTHER]
    assert [dropped.count for dropped in table.dropped] == [2]
    find(store, f"z/{RUN}").update_record(
        lambda old: old.with_evaluation(
            Evaluation("e", {}, ["val_more"], "", None), {"val_more": 1.5}, {"val_more": "1"}
        )
    )
    frame = analysis.load_runs(store).frame.set_index("run_id")
    assert frame.loc[RUN, ["study", "val_more"]].tolist() == ["z", 1.5]
    find(store, f"a/{RUN}").update_record(lambda old: dataclasses.replace(old, n_tokens=7))
    with pytest.raises(TableError, match="stands for 3 different records .they differ in n_tokens"):
        analysis.load_runs(store)
