"""Damage done to the files of a finished study changes no number without a word."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

import pytest

import analysis
from fmscale.commands import export, status
from fmscale.runs.record import RunRecord
from fmscale.runs.store import Study
from tests.helpers.records import record

N_ROUNDS = 150
LOSS = {"N": "n_params_total", "D": "n_tokens", "L": "val_loss"}


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    """Eight finished runs that follow a law, and one that failed."""
    study = Study.open(tmp_path_factory.mktemp("damage"), "study")
    n_steps = {}
    for i, n in enumerate((1e4, 1e5, 1e6, 1e7)):
        for j, d in enumerate((1e6, 1e8)):
            run_id = f"gpt_{i}{j}"
            n_steps[run_id] = {"n_steps": 40 + i}
            loss = 1.5 + 80 / n**0.4 + 200 / d**0.35
            folder = study.run(run_id)
            folder.create("seed: 1\n")
            folder.append_metrics({"step": 10, "flops": n * d, "train/loss": loss})
            changes = {"n_params_total": int(n), "n_tokens": int(d), "flops": 6 * n * d}
            folder.write_record(made(run_id, 40 + i, loss, changes))
            folder.set_status("completed", step=40 + i, n_steps=40 + i)
    study.run("gpt_lost").create("seed: 1\n")
    study.run("gpt_lost").set_status("failed", step=7, n_steps=90, reason="it broke")
    study.extend_manifest({**n_steps, "gpt_lost": {"n_steps": 90}})
    return study.path


def made(run_id: str, n_steps: int, loss: float, changes: dict) -> RunRecord:
    return record(
        run_id=run_id, study="study", n_steps=n_steps, metrics={"val_loss": loss}, **changes
    )


def damage(path: Path, others: list[Path], chance: random.Random) -> str:
    """Flip a byte or a digit, cut, empty or swap a file; says which."""
    content = path.read_bytes()
    how = chance.choice(["flip", "digit", "digit", "cut", "empty", "swap", "garble"])
    place = chance.randrange(len(content)) if content else 0
    if how == "flip":
        path.write_bytes(content[:place] + bytes([content[place] ^ 1 << chance.randrange(8)])
                         + content[place + 1 :])  # fmt: skip
    elif how == "digit":
        places = [i for i, c in enumerate(content) if chr(c).isdigit()] or [place]
        place = chance.choice(places)
        path.write_bytes(content[:place] + b"%d" % chance.randrange(10) + content[place + 1 :])
    elif how == "cut":
        path.write_bytes(content[:place])
    elif how == "swap":
        other = chance.choice([p for p in others if p.name == path.name])
        path.write_bytes(other.read_bytes())
        other.write_bytes(content)
    else:
        path.write_bytes(b"" if how == "empty" else chance.randbytes(len(content)))
    return how


def read(study: Path, capsys: pytest.CaptureFixture[str]) -> tuple[dict, str]:
    """Every number that a person gets of a study, and every word about what could not be read."""
    capsys.readouterr()
    view = status.StudyView(Study(study))
    states = {s.run_id: (s.group, s.progress, s.reason) for s in view.states()}
    rows = {row["run_id"]: row for row in export.rows(Study(study))}
    words = view.problems + capsys.readouterr().err.splitlines()
    table = analysis.load_runs(study)
    words += map(str, table.dropped)
    loaded = {row["run_id"]: row for row in table.frame.to_dict("records")}
    numbers: dict = {
        run_id: {
            "exported": {k: rows[run_id].get(k) for k in (*LOSS.values(), "flops", "n_steps")},
            "loaded": {k: loaded[run_id].get(k) for k in (*LOSS.values(), "flops", "n_steps")},
            "state": states[run_id],
        }
        for run_id in set(rows) & set(loaded)
    }
    fitted = analysis.fit(
        "power", table, "val_loss", {"x": "flops"}, interval="none", starts=8, strict=False
    )
    numbers["fit"] = fitted.parameters
    numbers["states"] = states
    return numbers, "\n".join(words)


def test_no_number_changes_without_a_word(whole, tmp_path, capsys):
    chance = random.Random(7)
    study = tmp_path / "study"
    shutil.copytree(whole, study)
    before, words = read(study, capsys)
    assert "broken" not in words
    n_told = 0
    for _ in range(N_ROUNDS):
        shutil.rmtree(study)
        shutil.copytree(whole, study)
        if chance.random() < 0.3:  # the indexes are there, and are files as well
            read(study, capsys)
        files = sorted(p for p in study.rglob("*") if p.is_file() and p.name != "config.yaml")
        path = chance.choice(files)
        how = damage(path, files, chance)
        after, words = read(study, capsys)
        told = "broken" in words
        n_told += told
        assert told or after == before, (path, how)
        for run_id, numbers in after.items():  # nor where something was told, of what is left
            if run_id not in ("fit", "states"):
                for key in ("exported", "loaded"):
                    assert numbers[key] == before[run_id][key], (path, how)
    assert n_told > N_ROUNDS / 3
