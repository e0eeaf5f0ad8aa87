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
    with pytest.raises(files.Broken, match=r"broken: .*has 1 line\(s\) that are no rows \(line 2"):
        files.read_lines(path)
    told = []
    assert files.read_lines(path, told.append) == [{"step": 1}, {"step": 3}]
    assert len(told) == 1


def test_every_changed_character_of_a_sealed_file_is_found(tmp_path):
    path = tmp_path / "record.json"
    row = {"loss": 3.0125, "n": 12, "metrics": {"a": 1e-7, "b": True}, 3: None, "text": "äß"}
    files.write_sealed(path, row)
    whole, text = files.read_sealed(path), path.read_text()
    assert whole == {**{k: v for k, v in row.items() if k != 3}, "3": None}
    for place, old in enumerate(text):
        path.write_text(text[:place] + ("7" if old != "7" else "8") + text[place + 1 :])
        try:
            read = files.read_sealed(path)  # another name for the checksum changes no value
            assert {k: read.get(k) for k in whole} == whole, text[place - 10 : place + 10]
        except files.Broken:
            continue
    del row[3]
    files.write_json(path, row)  # written before there were checksums
    assert files.read_sealed(path) == row


def test_what_is_not_allowed_any_more_is_not_written(tmp_path):
    files.write_json(tmp_path / "x.json", {"n": 1})
    files.append_line(tmp_path / "x.jsonl", {"n": 1})

    def lost():
        raise RuntimeError("another process has it")

    for write in (
        lambda: files.write_sealed(tmp_path / "x.json", {"n": 2}, lost),
        lambda: files.append_line(tmp_path / "x.jsonl", {"n": 2}, lost),
        lambda: files.write_lines(tmp_path / "x.jsonl", [{"n": 2}], lost),
    ):
        with pytest.raises(RuntimeError, match="another process has it"):
            write()
    assert files.read_json(tmp_path / "x.json") == {"n": 1}
    assert files.read_lines(tmp_path / "x.jsonl") == [{"n": 1}]
    assert len(list(tmp_path.iterdir())) == 2


def test_a_row_of_a_process_that_lost_the_run_goes_into_the_replaced_file(tmp_path):
    path = tmp_path / "metrics.jsonl"
    files.append_line(path, {"step": 1})
    # Suspended between the look at its lock and the write: meanwhile the run is taken over.
    files.append_line(path, {"step": 2}, lambda: files.write_lines(path, [{"step": 1}]))
    assert files.read_lines(path) == [{"step": 1}]


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
