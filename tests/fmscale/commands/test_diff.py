"""Why two run ids differ."""

import pytest
import yaml

from fmscale.commands import diff
from fmscale.runs.store import Study


@pytest.fixture
def store(tmp_path, tiny, plan_one):
    overrides = [*tiny, f"paths.runs_dir={tmp_path}", "budget.tokens=2560"]
    other = ["optimizer.lr=0.01", "trainer.log_every_steps=7"]
    jobs = [plan_one(overrides), plan_one([*overrides, *other])]
    for job in jobs:
        folder = Study.open(tmp_path, "default").run(job.branches[0].run_id)
        folder.create(yaml.safe_dump(job.branch_config(job.branches[0])))
    return tmp_path, [job.branches[0].run_id for job in jobs]


def test_what_changes_the_id_is_told_apart(store):
    runs_dir, ids = store
    configs = [yaml.safe_load((diff.find(runs_dir, i).path / "config.yaml").read_text())
               for i in ids]  # fmt: skip
    found = {d.key: d for d in diff.differences(*configs)}
    # A rate by hand also takes the place of the rule that gave the other one.
    apart_from_rules = {key for key in found if not key.startswith("rules.lr.")}
    assert apart_from_rules == {"optimizer.lr", "trainer.log_every_steps"}
    assert found["optimizer.lr"].in_identity
    assert found["optimizer.lr"].second == 0.01
    assert not found["trainer.log_every_steps"].in_identity
    assert diff.differences(configs[0], configs[0]) == []


def test_the_command_prints_a_table_and_names_what_it_cannot_find(store, monkeypatch, capsys):
    runs_dir, ids = store
    base = ["fmscale diff", "--runs-dir", str(runs_dir)]
    monkeypatch.setattr("sys.argv", [*base, *ids])
    diff.main()
    assert "optimizer.lr" in capsys.readouterr().out
    monkeypatch.setattr("sys.argv", [*base, ids[0], "nothing"])
    with pytest.raises(SystemExit, match="no run in"):
        diff.main()
    monkeypatch.setattr("sys.argv", [*base, ids[0], "gpt"])
    with pytest.raises(SystemExit, match=r"2 runs in \S+ begin with 'gpt'"):
        diff.main()
