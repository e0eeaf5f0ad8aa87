"""Files are whole or absent, whatever happens while they are written."""

import errno
import json
import os

import pytest

from fmscale.runs import files


def test_a_full_disk_leaves_the_old_file_and_no_debris(tmp_path, monkeypatch):
    path = tmp_path / "record.json"
    files.write_json(path, {"loss": 1.0})

    def no_space(handle):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", no_space)
    with pytest.raises(OSError, match=r"cannot write .*record\.json \(No space left on device\)"):
        files.write_json(path, {"loss": 2.0})
    assert files.read_json(path) == {"loss": 1.0}
    assert list(tmp_path.iterdir()) == [path]


def test_not_a_number_never_reaches_a_file(tmp_path):
    with pytest.raises(ValueError, match="Out of range float"):
        files.write_json(tmp_path / "x.json", {"loss": float("nan")})
    assert not (tmp_path / "x.json").exists()


def test_lines_come_back_in_order(tmp_path):
    path = tmp_path / "metrics.jsonl"
    for step in range(5):
        files.append_line(path, {"step": step})
    assert [row["step"] for row in files.read_lines(path)] == list(range(5))


def test_a_torn_last_line_is_left_out(tmp_path):
    path = tmp_path / "metrics.jsonl"
    files.append_line(path, {"step": 1})
    path.write_bytes(path.read_bytes() + b'{"step": 2, "tra')
    assert files.read_lines(path) == [{"step": 1}]


def test_a_broken_line_in_the_middle_is_an_error(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1}\n{"step": \n{"step": 3}\n')
    with pytest.raises(ValueError, match=r"metrics\.jsonl, line 2, is not JSON"):
        files.read_lines(path)


def test_json_that_is_torn_names_the_file(tmp_path):
    path = tmp_path / "status.json"
    path.write_text(json.dumps({"state": "running"})[:-3])
    with pytest.raises(ValueError, match=r"status\.json does not hold valid JSON"):
        files.read_json(path)


def test_a_row_that_does_not_fit_leaves_no_part_of_itself(tmp_path, monkeypatch):
    path = tmp_path / "metrics.jsonl"
    files.append_line(path, {"step": 1})
    real = os.write
    monkeypatch.setattr(os, "write", lambda handle, data: real(handle, data[:5]))
    with pytest.raises(OSError, match=r"cannot write .*metrics\.jsonl \(No space left on device\)"):
        files.append_line(path, {"step": 2})
    monkeypatch.undo()
    files.append_line(path, {"step": 3})
    assert files.read_lines(path) == [{"step": 1}, {"step": 3}]
