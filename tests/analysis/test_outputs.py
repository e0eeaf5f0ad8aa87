"""Files of answers: whole, on the disk, and written whoever reads the screen."""

import json
import os
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from analysis.__main__ import main
from analysis.outputs import replacing, write_text
from analysis.tables.files import read_table

N = np.geomspace(1e6, 1e9, 8)
FIT = ["fit", "t.csv", "--law", "power", "--x", "params", "--loss", "loss", "--interval", "none",
       "--no-sensitivity"]  # fmt: skip


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    pd.DataFrame({"params": N, "loss": 20 * N**-0.1}).to_csv("t.csv", index=False)
    return tmp_path


def fail_half_way(path, error):
    with replacing(path) as temporary:
        temporary.write_text("half")
        raise error


def test_a_file_is_the_old_one_or_the_new_one(folder):
    write_text("a.txt", "old")
    os.chmod("a.txt", 0o600)
    with pytest.raises(OSError, match="a.txt") as caught:
        fail_half_way("a.txt", OSError(28, "No space left on device"))
    assert caught.value.filename == "a.txt"
    assert (folder / "a.txt").read_text() == "old"
    with pytest.raises(ZeroDivisionError):
        fail_half_way("a.txt", ZeroDivisionError())
    assert sorted(p.name for p in folder.iterdir()) == ["a.txt", "t.csv"]
    os.symlink("a.txt", "link.txt")
    write_text("link.txt", "new")
    assert (folder / "a.txt").read_text() == "new"
    assert (folder / "link.txt").is_symlink()
    assert (folder / "a.txt").stat().st_mode & 0o777 == 0o600
    write_text("/dev/null", "nothing")
    assert not os.path.isfile("/dev/null")


def test_a_file_is_on_the_disk_before_it_has_its_name(folder, monkeypatch):
    calls = []
    monkeypatch.setattr(os, "fsync", lambda handle: calls.append(os.path.exists("a.txt")))
    write_text("a.txt", "new")
    assert calls == [False]


@pytest.mark.parametrize("command", [
    [*FIT, "--json", "f.json"], ["table", "t.csv", "--out", "f.json.csv"],
    [*FIT, "--card", "f.json"], [*FIT, "--plot", "f.png"],
])  # fmt: skip
def test_a_full_disk_is_one_line_that_names_the_file(folder, monkeypatch, capsys, command):
    def full(handle):
        raise OSError(28, "No space left on device")

    target = folder / command[-1]
    target.write_text("old")
    monkeypatch.setattr(os, "fsync", full)
    assert main(command) == 1
    assert capsys.readouterr().err == (
        f"fmscale-analysis: error: {command[-1]}: No space left on device\n"
    )
    assert target.read_text() == "old"
    assert len(list(folder.iterdir())) == 2


def test_a_reader_that_leaves_early_costs_no_file(folder):
    command = [sys.executable, "-m", "analysis", *FIT, "--json", "f.json"]
    read, write = os.pipe()
    os.close(read)  # nobody will ever read
    done = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, text=True, check=False)
    os.close(write)
    assert done.returncode == 141
    assert done.stderr == ""
    assert json.loads((folder / "f.json").read_text())["parameters"]["c"] == pytest.approx(0.1)


def test_no_cell_of_an_exported_table_runs_as_a_formula(folder):
    texts = ["=HYPERLINK(1)", "@SUM(A1)", "+cmd|' /C calc'!A0", "-cmd", "plain", "-1.5 to +2", "-"]
    frame = pd.DataFrame({"=name": texts, "x": [-1.0, 2, 3, 4, 5, 6, 7]})
    frame.to_csv("t.csv", index=False)
    assert main(["table", "t.csv", "--out", "out.csv"]) == 0
    cells = [line.rpartition(",")[0] for line in (folder / "out.csv").read_text().splitlines()]
    assert [c[0] for c in cells] == ["'", "'", "'", "'", "'", "p", "-", "-"]
    again = read_table("out.csv").frame
    assert again.iloc[:, 0].tolist() == texts
    assert again["x"].tolist() == frame["x"].tolist()
