"""Texts with labels for fine-tuning, as sequences a language model reads.

The four input forms of Radford et al. 2018 (GPT-1), Fig. 1: everything becomes one sequence from
a start token to an extract token, with a delimiter between two parts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from fmscale.data.jsonl_rows import read_rows

Form = Literal["classification", "entailment", "similarity", "multiple_choice"]
# The fields that one example has besides its label.
FIELDS: dict[str, tuple[str, ...]] = {
    "classification": ("text",),
    "entailment": ("premise", "hypothesis"),
    "similarity": ("text_a", "text_b"),
    "multiple_choice": ("context", "choices"),
}
N_SPECIAL = 3  # start, delimiter and extract: the ids after the vocabulary


class Labelled(NamedTuple):
    """One example: its sequences, and what is right."""

    sequences: list[np.ndarray]  # one; two for similarity; one for each choice
    label: int  # class, or place of the right choice
    truncated: bool  # whether a text was cut to fit the context


def read_labelled(path: str | Path, form: Form) -> list[dict[str, Any]]:
    """Examples of a JSONL file.

    Raises:
        ValueError: naming file, line and field, for anything that is missing or of the wrong kind.
    """
    fields = {name: list if name == "choices" else str for name in FIELDS[form]}
    label = int if form == "multiple_choice" else (str, int)
    rows = []
    for where, row in read_rows(path, {**fields, "label": label}):
        if form == "multiple_choice":
            check_choices(row["choices"], row["label"], where)
        rows.append(row)
    return rows


def check_choices(choices: Sequence[str], label: int, where: str) -> None:
    """Refuse choices among which there is nothing to choose, or a label that is none of them."""
    if len(choices) < 2:
        raise ValueError(f"{where}: 'choices' must be at least two texts.")
    if not 0 <= label < len(choices):
        raise ValueError(
            f"{where}: 'label' is {label}, not the place of one of {len(choices)} choices, counted "
            "from 0."
        )


def shortest_context(form: Form) -> int:
    """Tokens that hold the marks and one token of each text."""
    n_parts = 1 if form == "classification" else 2
    return 2 * n_parts + 1


def class_names(rows: Sequence[Mapping[str, Any]]) -> list[Any]:
    """The labels that occur, in order."""
    return sorted({row["label"] for row in rows}, key=str)


def transform(
    row: Mapping[str, Any],
    form: Form,
    encode: Callable[[bytes], np.ndarray],
    vocab_size: int,
    seq_len: int,
    classes: Sequence[Any],
) -> Labelled:
    """The sequences of one example.

    Args:
        encode: text to token ids.
        vocab_size: of the model; its next three ids are start, delimiter and extract.
        seq_len: longest sequence; a longer text loses its end, the first part before the second.
        classes: names of the classes; unused for multiple choice.
    """
    start, delimiter, extract = range(vocab_size, vocab_size + N_SPECIAL)

    def sequence(*parts: str) -> tuple[np.ndarray, bool]:
        room = seq_len - 1 - len(parts)
        ids = [encode(part.encode()).astype(np.int64) for part in parts]
        kept, cut = _fit(ids, room)
        marks = [start, *[delimiter] * (len(parts) - 1)]
        pieces = [piece for mark, part in zip(marks, kept, strict=True) for piece in ([mark], part)]
        return np.concatenate([*pieces, [extract]]).astype(np.int64), cut

    match form:
        case "classification":
            found = [sequence(row["text"])]
        case "entailment":
            found = [sequence(row["premise"], row["hypothesis"])]
        case "similarity":  # no order is right, so both are read and their features added
            a, b = row["text_a"], row["text_b"]
            found = [sequence(a, b), sequence(b, a)]
        case "multiple_choice":
            found = [sequence(row["context"], choice) for choice in row["choices"]]
    label = row["label"] if form == "multiple_choice" else classes.index(row["label"])
    return Labelled([ids for ids, _ in found], int(label), any(cut for _, cut in found))


def _fit(parts: list[np.ndarray], room: int) -> tuple[list[np.ndarray], bool]:
    """Parts cut to `room` tokens together: the first gives way, but keeps half of the room."""
    excess = sum(map(len, parts)) - room
    if excess <= 0:
        return parts, False
    if len(parts) == 1:
        return [parts[0][:room]], True
    first = max(len(parts[0]) - excess, min(len(parts[0]), room // 2))
    return [parts[0][:first], parts[1][: room - first]], True
