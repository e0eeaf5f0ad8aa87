"""What changes a run's numbers from outside its configuration: files, and code that is not ours.

Each is marked by a hash at its place in the configuration. A planned configuration holds the marks
(section `content`), so they are part of the run's id, and what has changed by the time of training
is refused.

Marked are files and folders that a configuration names, the text of the standard library where it
is read by default, and classes of one's own with all that they import from beside them. Installed
packages are marked by the hashes of their installation. Of more than `WHOLE` bytes, blocks spread
over each file are read, so an edit that leaves sizes as they were can be missed there. Files that
code reads by itself, or that a table of captions names, are not seen.
"""

from __future__ import annotations

import ast
import functools
import hashlib
import importlib.util
import re
import sysconfig
from collections.abc import Iterator, Mapping
from importlib import metadata
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Any

from fmscale.data.file_names import is_hidden, walk
from fmscale.data.text.sources import text_mark
from fmscale.errors import ConfigError
from fmscale.public import with_public_names
from fmscale.runs.identity import IDENTITY_KEYS, join

# Classes that read the standard library where this key is null or absent.
READ_STANDARD_TEXT = {
    "fmscale.data.TaskDocuments": "words_file",
    "fmscale.evaluation.InContext": "words_file",
    "fmscale.evaluation.Answers": "file",
}
NEVER_FILES = ("_target_", "name", "data_dir")
BARE = re.compile(r"(.*\.)?root|data\.tasks\[\d+\]")  # values without slash or dot are paths, too
WHOLE = 1 << 28  # bytes of a file or folder up to which all of it is read
BLOCK, STRIDE = 1 << 12, 1 << 24  # else so much, at both ends and about so far apart


def marks(config: Mapping[str, Any]) -> dict[str, str]:
    """Place in a configuration -> mark of what lies behind it now, for all that is marked."""
    sections = {key: config[key] for key in IDENTITY_KEYS if key in config}
    return dict(_marks(with_public_names(sections), ""))


def check(config: Mapping[str, Any]) -> None:
    """Refuse to train on what has changed since a run was planned.

    Raises:
        ConfigError: naming its place in the configuration and the remedy.
    """
    for place, was in changed(config).items():
        raise ConfigError(
            f"what {place} names has changed since the run was planned (its mark was {was}); put "
            "it back, or launch the sweep again, which makes another run"
        )


def changed(config: Mapping[str, Any], section: str = "") -> dict[str, str]:
    """Place -> planned mark of what is another now, in sections whose name begins so."""
    planned = {k: v for k, v in (config.get("content") or {}).items() if k.startswith(section)}
    now = marks(config) if planned else {}
    return {place: mark for place, mark in planned.items() if now.get(place) != mark}


def _marks(node: Any, place: str) -> Iterator[tuple[str, str]]:
    if isinstance(node, Mapping):
        target = node.get("_target_")
        if isinstance(target, str) and (mark := _target_mark(target, node)) is not None:
            yield join(place, "_target_"), mark
        for name, value in node.items():
            marked_by_its_class = name == "root" and node.get("content") is not None
            if name not in NEVER_FILES and not marked_by_its_class:
                yield from _marks(value, join(place, name))
    elif isinstance(node, list | tuple):
        for number, value in enumerate(node):
            yield from _marks(value, f"{place}[{number}]")
    elif isinstance(node, str) and (mark := _path_mark(node, place)) is not None:
        yield place, mark


def _target_mark(target: str, settings: Mapping[str, Any]) -> str | None:
    if not target.startswith("fmscale."):
        return code_mark(target)
    key = READ_STANDARD_TEXT.get(target)
    return text_mark(None) if key is not None and settings.get(key) is None else None


def _path_mark(value: str, place: str) -> str | None:
    """The mark of what a value names, if it names a file or a folder."""
    if not value or "\n" in value or not (BARE.fullmatch(place) or {"/", "\\", "."} & set(value)):
        return None
    path = Path(value).expanduser()
    return file_mark(path.resolve()) if path.is_file() or path.is_dir() else None


@functools.lru_cache(maxsize=256)  # a sweep plans many runs on the same files
def file_mark(path: Path) -> str:
    """Sixteen hexadecimal digits that tell a file or a folder from others, wherever it lies."""
    files = [path]
    if path.is_dir():
        found = (Path(folder) / name for folder, _, names in walk(path) for name in names)
        files = sorted(file for file in found if not is_hidden(file.relative_to(path)))
    sizes = {file: file.stat().st_size for file in files}
    whole = sum(sizes.values()) <= WHOLE
    digest = hashlib.sha256()
    for file, size in sizes.items():
        name = "" if file == path else file.relative_to(path).as_posix()
        digest.update(f"{name}\0{size}\0".encode())
        with open(file, "rb") as stream:
            if whole:
                digest.update(stream.read())
                continue
            n_blocks = 2 + size // STRIDE
            for number in range(n_blocks):
                stream.seek(max(0, size - BLOCK) * number // (n_blocks - 1))
                digest.update(stream.read(BLOCK))
    return digest.hexdigest()[:16]


@functools.cache
def code_mark(target: str) -> str | None:
    """The mark of a class or function that is not ours; None where its module cannot be found.

    Of one's own code: its module, and the modules that this imports from the same folder or
    package, and so on. Nothing is imported to find them.
    """
    parts = target.split(".")
    modules = (".".join(parts[:n]) for n in range(len(parts) - 1, 0, -1))
    module = next((name for name in modules if _file_of(name) is not None), None)
    if module is None:
        return None
    root = _root_of(parts[0])
    if {"site-packages", "dist-packages"} & set(root.parts):
        return _installed_mark(parts[0])
    if root.is_relative_to(sysconfig.get_paths()["stdlib"]):
        return None  # the version of Python is in the record
    sources: dict[str, bytes] = {}
    pending = [module]
    while pending:
        name = pending.pop()
        file = _file_of(name)
        if name in sources or file is None or not file.is_relative_to(root):
            continue
        sources[name] = file.read_bytes()
        pending += [name.rpartition(".")[0]] if "." in name else []
        if file.suffix == ".py":
            pending += _imported(sources[name], name, is_package=file.stem == "__init__")
    digest = hashlib.sha256()
    for name in sorted(sources):
        digest.update(f"{name}\0{len(sources[name])}\0".encode() + sources[name])
    return digest.hexdigest()[:16]


def _imported(source: bytes, module: str, is_package: bool) -> Iterator[str]:
    """Names that a module may import, but for those of installed packages."""
    try:
        nodes = list(ast.walk(ast.parse(source)))
    except (SyntaxError, ValueError):
        return
    package = module if is_package else module.rpartition(".")[0]
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = package.split(".")[: max(0, package.count(".") + 2 - node.level)]
                base = ".".join([*above, base] if base else above)
            yield from (f"{base}.{alias.name}".strip(".") for alias in node.names)
            yield base


@functools.cache
def _file_of(module: str) -> Path | None:
    """The file of a module, found without importing anything; None if there is none."""
    top, *rest = module.split(".")
    if not top or top == "fmscale":
        return None
    try:
        spec = importlib.util.find_spec(top)
    except (ImportError, ValueError):  # e.g. __main__
        return None
    name = top
    for part in rest:
        if spec is None or spec.submodule_search_locations is None:
            return None
        name = f"{name}.{part}"
        try:
            spec = PathFinder.find_spec(name, list(spec.submodule_search_locations))
        except KeyError:  # a folder without __init__ in a package that is not imported
            return None
    if spec is None or not spec.has_location or spec.origin is None:
        return None
    return Path(spec.origin).resolve()


def _root_of(top: str) -> Path:
    """The folder in which a top-level module or package lies."""
    spec = importlib.util.find_spec(top)
    assert spec is not None
    if spec.submodule_search_locations:
        return Path(next(iter(spec.submodule_search_locations))).resolve().parent
    return Path(str(spec.origin)).resolve().parent


def _installed_mark(top: str) -> str | None:
    """The mark of an installed package: of the hashes that its installation recorded."""
    names = metadata.packages_distributions().get(top)
    if not names:
        return None
    distribution = metadata.distribution(names[0])
    lines = (distribution.read_text("RECORD") or "").splitlines()
    hashes = sorted(x.rpartition(",")[0] for x in lines if x.startswith(top) and ".py," in x)
    text = "\n".join(hashes) or f"{names[0]}=={distribution.version}"
    return hashlib.sha256(text.encode()).hexdigest()[:16]
