"""Text as a sorted list of files: by default the Python standard library's own sources.

Every Python installation holds some ten megabytes of real, human-written text, so a language
model can be trained with no download. The rules for what is taken and what is held out are
fixed here, and everything that they depend on goes into the content hash.
"""

from __future__ import annotations

import fnmatch
import functools
import hashlib
import os
import sysconfig
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from fmscale.data.file_names import endings, is_hidden, walk

# Folders of the standard library never entered, whatever their depth. Tests repeat one another;
# `encodings` holds character tables and `pydoc_data` one generated file, neither of them typical
# source text. In one's own text such names mean nothing: all is read but what is hidden.
EXCLUDED_FOLDERS = ("__pycache__", "site-packages", "dist-packages", "test", "tests", "idle_test",
                    "encodings", "pydoc_data")  # fmt: skip
# Generated at build time, different on every machine.
EXCLUDED_FILES = ("_sysconfigdata*",)


@dataclass(frozen=True)
class TextFile:
    """One document and its name relative to the root, with forward slashes."""

    name: str
    text: bytes


class SourceFiles:
    """The text files under `root`, sorted by relative path; None: Python's standard library."""

    def __init__(
        self, root: str | os.PathLike[str] | None = None, suffixes: Sequence[str] = (".py",)
    ) -> None:
        self.is_stdlib = root is None
        self.root = Path(sysconfig.get_paths()["stdlib"] if root is None else root)
        self.suffixes = endings(suffixes, "data.suffixes")
        self.names = self._list_names()

    def read(self) -> list[TextFile]:
        """All documents in sorted order. A zero byte in one of them is an error: not text."""
        files = []
        for name in self.names:
            text = (self.root / name).read_bytes()
            if b"\0" in text:
                raise ValueError(
                    f"data.root = {self.root}: {name} contains a zero byte, so it is not text. "
                    f"Remove it or restrict data.suffixes (now {list(self.suffixes)})."
                )
            files.append(TextFile(name, text))
        return files

    def _list_names(self) -> list[str]:
        if not self.root.is_dir():
            problem = "is a file, not a folder" if self.root.exists() else "does not exist"
            raise FileNotFoundError(f"data.root = {self.root} {problem}. {self._remedy()}")
        names = []
        for folder, subfolders, filenames in walk(self.root):
            subfolders[:] = [name for name in subfolders if not self._is_left_out(name)]
            relative = Path(folder).relative_to(self.root)
            for filename in filenames:
                if filename.endswith(self.suffixes) and not self._is_left_out(filename):
                    names.append((relative / filename).as_posix())
        if not names:
            raise ValueError(
                f"data.root = {self.root} holds no file ending in "
                f"{' or '.join(self.suffixes)}. {self._remedy()}"
            )
        return sorted(names)

    def _is_left_out(self, name: str) -> bool:
        if not self.is_stdlib:
            return is_hidden(name)
        return name in EXCLUDED_FOLDERS or any(fnmatch.fnmatch(name, p) for p in EXCLUDED_FILES)

    def _remedy(self) -> str:
        if self.is_stdlib:
            return (
                "Install the standard library's sources (Debian: apt-get install "
                "libpython3-stdlib; they come with every python.org or pyenv build), "
                "or give data.root=<folder of text> data.suffixes=[.txt]."
            )
        return (
            "Give data.root=<folder with text files> and data.suffixes=[.txt,...], "
            "or data.root=null for the Python standard library."
        )


def content_hash(files: Sequence[TextFile]) -> str:
    """SHA-256 over relative paths and bytes, in the given order (hexadecimal)."""
    digest = hashlib.sha256()
    for file in files:
        # Lengths first, so that no two different lists feed the same bytes.
        digest.update(os.fsencode(f"{len(file.name)} {file.name} {len(file.text)} "))
        digest.update(file.text)
    return digest.hexdigest()


@functools.lru_cache(maxsize=8)  # a sweep plans many runs on the same text
def text_mark(root: str | None, suffixes: tuple[str, ...] = (".py",)) -> str:
    """Sixteen hexadecimal digits of the hash of a text; None: of the standard library's."""
    return content_hash(SourceFiles(root, suffixes).read())[:16]


def split_by_file(
    files: Sequence[TextFile], val_fraction: float
) -> tuple[list[TextFile], list[TextFile]]:
    """Split whole files into (train, validation), each keeping the given order.

    Files are gone through in the order of the SHA-256 of their relative path until validation
    holds `val_fraction` of all bytes. A file larger than a quarter of that goal always goes to
    training, so that no single document dominates the validation loss.
    """
    goal = val_fraction * sum(len(file.text) for file in files)
    by_hash = sorted(files, key=lambda file: hashlib.sha256(os.fsencode(file.name)).digest())
    held_out: set[str] = set()
    size = 0
    for file in by_hash:
        if size >= goal:
            break
        if len(file.text) <= goal / 4:
            held_out.add(file.name)
            size += len(file.text)
    if size < goal / 2:
        raise ValueError(
            f"data.split = by_file: the {len(files)} files are too few or too large to hold out "
            f"{val_fraction:.0%} of the text as whole files. Set data.split=tail, which holds out "
            "the end of every file, or give more files."
        )
    train = [file for file in files if file.name not in held_out]
    return train, [file for file in files if file.name in held_out]


def split_tails(
    files: Sequence[TextFile], val_fraction: float
) -> tuple[list[TextFile], list[TextFile]]:
    """Split every file into its beginning (train) and its last `val_fraction` (validation)."""
    train, validation = [], []
    for file in files:
        cut = len(file.text) - round(val_fraction * len(file.text))
        train.append(TextFile(file.name, file.text[:cut]))
        validation.append(TextFile(file.name, file.text[cut:]))
    return train, validation
