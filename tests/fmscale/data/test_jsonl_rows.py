"""Rows of a person's JSONL: whole lines only, and each mistake by its line."""

from __future__ import annotations

import pytest

from fmscale.data.jsonl_rows import read_rows

GOOD = b'{"text": "x"}\n'


@pytest.mark.parametrize("mark", ["\u2028", "\u2029", "\x85"])
def test_a_text_may_hold_what_others_take_for_a_line_end(tmp_path, mark):
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b"\xef\xbb\xbf" + f'{{"text": "a{mark}b"}}\r\n\r\n'.encode() + GOOD)
    rows = read_rows(path, {"text": str})
    assert [where[-6:] for where, _ in rows] == ["line 1", "line 3"]
    assert rows[0][1]["text"] == f"a{mark}b"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b'{"text": "\\ud83c"}', "line 2 holds half a surrogate pair"),
        (b'{"text": "caf\xe9"}', "line 2 is not JSON: .*utf-8"),
        (b'{"text": ' + b"[" * 10**5, "line 2 is not JSON"),
        (b"[1]", "line 2 is no JSON object"),
        (b'{"text": 1}', "line 2 lacks 'text'"),
    ],
)
def test_a_bad_line_is_named(tmp_path, line, message):
    path = tmp_path / "rows.jsonl"
    path.write_bytes(GOOD + line + b"\n")
    with pytest.raises(ValueError, match=rf"rows\.jsonl, {message}"):
        read_rows(path, {"text": str})
