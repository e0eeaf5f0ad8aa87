"""Rows of a person's JSONL file, each field checked before anything is computed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

KINDS = {str: "a text", list: "a list of texts", int: "a whole number"}


def read_rows(
    path: str | Path | None, fields: Mapping[str, type | tuple[type, ...]]
) -> list[tuple[str, dict[str, Any]]]:
    """Rows of a file, each with its place, such as "exam.jsonl, line 3".

    Args:
        path: JSONL, one object a line; empty lines are skipped.
        fields: that every row must have, with their kinds; a list is one of texts.

    Raises:
        ValueError: naming file, line and field, for anything that is missing or of another kind.
    """
    wanted = ", ".join(f"{name!r} ({_kind(kind)})" for name, kind in fields.items())
    if path is None:
        raise ValueError(f"file = null: name a JSONL file with {wanted}.")
    if not Path(path).is_file():
        raise ValueError(f"{path}: no such file. Give a JSONL file with {wanted}.")
    rows = []
    # A line ends with a line feed alone: a text may hold the other marks that `splitlines` knows.
    for number, line in enumerate(Path(path).read_bytes().split(b"\n"), start=1):
        if not line.strip():
            continue
        where = f"{path}, line {number}"
        try:
            row = json.loads(line.decode("utf-8-sig"))
            json.dumps(row, ensure_ascii=False).encode()
        except UnicodeEncodeError as error:
            raise ValueError(f"{where} holds half a surrogate pair. Take it out.") from error
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{where} is not JSON: {error}") from error
        if not isinstance(row, dict):
            raise ValueError(f"{where} is no JSON object; give {wanted}.")
        for name, kind in fields.items():
            value = row.get(name)
            is_texts = not isinstance(value, list) or all(isinstance(v, str) for v in value)
            if not isinstance(value, kind) or not is_texts:
                raise ValueError(f"{where} lacks {name!r} ({_kind(kind)}); give {wanted}.")
        rows.append((where, row))
    if not rows:
        raise ValueError(f"{path} holds no row; give JSONL with {wanted}.")
    return rows


def _kind(kind: type | tuple[type, ...]) -> str:
    kinds = kind if isinstance(kind, tuple) else (kind,)
    return " or ".join(KINDS[k] for k in kinds)
