"""The index says what the files say, however they change."""

from __future__ import annotations

import json
import os
import random
import shutil
import time
from pathlib import Path

import pytest

from fmscale.runs import index as index_module
from fmscale.runs.files import write_json
from fmscale.runs.index import Index


@pytest.fixture
def bold(monkeypatch):
    """Remember also files that have just changed."""
    monkeypatch.setattr(index_module, "RACY_SECONDS", 0.0)


def truth(study: Path) -> dict:
    return {p.parent.name: json.loads(p.read_text()) for p in sorted(study.glob("*/status.json"))}


def age(path: Path, seconds: float) -> None:
    then = time.time() - seconds
    os.utime(path, (then, then))


def test_any_history_of_changes_reads_as_the_files_do(tmp_path, bold):
    chance = random.Random(1)
    living = Index(tmp_path, "status.json")
    for round_ in range(60):
        for _ in range(chance.randrange(4)):
            folder = tmp_path / f"run_{chance.randrange(12)}"
            if folder.exists() and chance.random() < 0.2:
                shutil.rmtree(folder)
            else:
                write_json(folder / "status.json", {"state": chance.choice("abc"), "n": round_})
        assert living.read() == truth(tmp_path)
        assert Index(tmp_path, "status.json").read() == truth(tmp_path)
    assert len((tmp_path / ".index.status.jsonl").read_text().splitlines()) <= 2 * 12


def test_unchanged_files_are_not_opened_again(tmp_path, monkeypatch):
    for i in range(3):
        write_json(tmp_path / f"run_{i}" / "status.json", {"n": i})
        age(tmp_path / f"run_{i}" / "status.json", 100)
    expected = Index(tmp_path, "status.json").read()
    opened = []
    real = index_module.read_json
    monkeypatch.setattr(index_module, "read_json", lambda p: opened.append(p) or real(p))
    assert Index(tmp_path, "status.json").read() == expected
    assert opened == []


def test_a_file_that_has_just_changed_is_not_remembered(tmp_path):
    write_json(tmp_path / "run" / "status.json", {"n": 1})
    Index(tmp_path, "status.json").read()
    assert not (tmp_path / ".index.status.jsonl").exists()


@pytest.mark.parametrize("content", ["{torn", "{}\n", '["a"]\n', "\n\n", "\x00" * 50 + "\n"])
def test_a_broken_cache_is_no_cache(tmp_path, bold, content):
    write_json(tmp_path / "run" / "status.json", {"n": 1})
    (tmp_path / ".index.status.jsonl").write_text(content)
    assert Index(tmp_path, "status.json").read() == {"run": {"n": 1}}
    assert Index(tmp_path, "status.json").read() == {"run": {"n": 1}}


def test_a_torn_file_of_a_run_is_named(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "status.json").write_text("{")
    with pytest.raises(ValueError, match=r"run/status\.json does not hold valid JSON"):
        Index(tmp_path, "status.json").read()
