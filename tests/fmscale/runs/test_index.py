"""The index says what the files say, however they change."""

from __future__ import annotations

import os
import random
import shutil
import time
from pathlib import Path

import pytest

from fmscale.runs import index as index_module
from fmscale.runs.files import read_sealed, write_sealed
from fmscale.runs.index import Index


@pytest.fixture
def bold(monkeypatch):
    """Remember also files that have just changed."""
    monkeypatch.setattr(index_module, "RACY_SECONDS", 0.0)


def any_content(content: dict) -> None:
    """Whatever the files hold is right."""


def truth(study: Path) -> dict:
    return {p.parent.name: read_sealed(p) for p in sorted(study.glob("*/status.json"))}


def age(path: Path, seconds: float) -> None:
    then = time.time() - seconds
    os.utime(path, (then, then))


def test_any_history_of_changes_reads_as_the_files_do(tmp_path, bold):
    chance = random.Random(1)
    living = Index(tmp_path, "status.json", any_content)
    for round_ in range(60):
        for _ in range(chance.randrange(4)):
            folder = tmp_path / f"run_{chance.randrange(12)}"
            if folder.exists() and chance.random() < 0.2:
                shutil.rmtree(folder)
            else:
                write_sealed(folder / "status.json", {"state": chance.choice("abc"), "n": round_})
        assert living.read() == truth(tmp_path)
        assert Index(tmp_path, "status.json", any_content).read() == truth(tmp_path)
    assert len((tmp_path / ".index.status.jsonl").read_text().splitlines()) <= 2 * 12


def test_unchanged_files_are_not_opened_again(tmp_path, monkeypatch):
    for i in range(3):
        write_sealed(tmp_path / f"run_{i}" / "status.json", {"n": i})
        age(tmp_path / f"run_{i}" / "status.json", 100)
    expected = Index(tmp_path, "status.json", any_content).read()
    opened = []
    real = index_module.read_own
    monkeypatch.setattr(index_module, "read_own", lambda *a: opened.append(a) or real(*a))
    assert Index(tmp_path, "status.json", any_content).read() == expected
    assert opened == []


def test_a_file_that_has_just_changed_is_not_remembered(tmp_path):
    write_sealed(tmp_path / "run" / "status.json", {"n": 1})
    Index(tmp_path, "status.json", any_content).read()
    assert not (tmp_path / ".index.status.jsonl").exists()


@pytest.mark.parametrize("content", ["{torn", "{}\n", '["a"]\n', "\n\n", "\x00" * 50 + "\n"])
def test_a_broken_cache_is_no_cache(tmp_path, bold, content):
    write_sealed(tmp_path / "run" / "status.json", {"n": 1})
    (tmp_path / ".index.status.jsonl").write_text(content)
    assert Index(tmp_path, "status.json", any_content).read() == {"run": {"n": 1}}
    assert Index(tmp_path, "status.json", any_content).read() == {"run": {"n": 1}}


def test_a_changed_digit_in_the_cache_is_read_from_the_file_instead(tmp_path, bold):
    write_sealed(tmp_path / "run" / "status.json", {"n": 1234})
    Index(tmp_path, "status.json", any_content).read()
    cache = tmp_path / ".index.status.jsonl"
    cache.write_text(cache.read_text().replace("1234", "1235"))
    for _ in range(2):
        assert Index(tmp_path, "status.json", any_content).read() == {"run": {"n": 1234}}
    assert "1235" not in cache.read_text()


@pytest.mark.parametrize("content", ["", "{", "[" * 100_000, "[1]", "\xff", '{"run_id": "other"}'])
def test_a_broken_file_hides_no_other_run(tmp_path, bold, content):
    write_sealed(tmp_path / "good" / "status.json", {"n": 1})
    write_sealed(tmp_path / "run" / "status.json", {"n": 2})
    (tmp_path / "run" / "status.json").write_bytes(content.encode("latin1"))
    index = Index(tmp_path, "status.json", any_content)
    assert index.read() == {"good": {"n": 1}}
    line = str(index.broken["run"])
    assert line.startswith(f"broken: {tmp_path}/run/status.json ")
    assert "; delete it" in line
    write_sealed(tmp_path / "run" / "status.json", {"n": 3})
    assert index.read() == {"good": {"n": 1}, "run": {"n": 3}}
    assert index.broken == {}


def test_only_what_is_wanted_is_kept(tmp_path, bold):
    write_sealed(tmp_path / "run" / "status.json", {"n": 1, "large": "x" * 1000})
    index = Index(tmp_path, "status.json", any_content, keep=("n", "absent"))
    assert index.read() == {"run": {"n": 1, "absent": None}}
    assert index.cache.stat().st_size < 300
    assert Index(tmp_path, "status.json", any_content).read()["run"]["large"]
