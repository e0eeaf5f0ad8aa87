"""Names of files: the endings a person asks for, and what no person wrote.

File managers, archives and notebooks leave files that are no image, no text and no class, whatever
their endings say.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import PurePath

LEFT_BEHIND = ("__MACOSX", "Thumbs.db", "desktop.ini")


def is_hidden(path: str | PurePath) -> bool:
    """Whether a part of a relative path begins with a dot, or is a system's own."""
    parts = PurePath(path).parts
    return any(part in LEFT_BEHIND or (part[0] == "." and part != "..") for part in parts)


def walk(root: str | PurePath) -> Iterator[tuple[str, list[str], list[str]]]:
    """`os.walk` that follows links to folders, and enters each folder once."""
    entered = set()
    for folder, subfolders, names in os.walk(root, followlinks=True):
        real = os.path.realpath(folder)
        if real in entered:
            subfolders.clear()
            continue
        entered.add(real)
        yield folder, subfolders, names


def endings(suffixes: Sequence[str], option: str) -> tuple[str, ...]:
    """Endings of file names as given by an option.

    Raises:
        ValueError: naming the option, for a text instead of a list, or an ending without a dot.
    """
    listed = () if isinstance(suffixes, str) else tuple(suffixes)
    if not listed or not all(isinstance(s, str) and "." in s for s in listed):
        raise ValueError(
            f"{option} = {suffixes}: give a list of endings, each with its dot, such as [.txt,.md]"
        )
    return listed
