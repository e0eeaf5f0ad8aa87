"""The input cut into parts that can be read by themselves; some parts together make one shard.

Cutting depends on the input alone, not on the number of workers, so that a preparation can be
stopped, resumed and repeated with the same result.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from fmscale.data.file_names import is_hidden, walk
from fmscale.data.preparation.document import BLOCK, Part, Piece
from fmscale.data.preparation.formats import format_of
from fmscale.data.preparation.settings import Recipe
from fmscale.data.preparation.tables import list_hub_parts, table_sizes


def list_pieces(recipe: Recipe) -> list[Piece]:
    """All pieces in order: those of the inputs, then those of the validation text.

    Raises:
        ValueError, FileNotFoundError: naming the input, if there is nothing to read in it.
    """
    if recipe.hub is not None:
        parts = list_hub_parts(recipe)
    else:
        parts = [part for path in recipe.inputs for part in list_parts(path, recipe)]
    held_out = [part for path in recipe.validation for part in list_parts(path, recipe)]
    pieces = _grouped(parts, "train" if held_out else None, recipe.shard_bytes)
    return pieces + _grouped(held_out, "validation", recipe.shard_bytes)


def list_parts(path: str, recipe: Recipe) -> list[Part]:
    """Parts of a file, of a folder of files, or of a folder that `datasets` has saved."""
    root = Path(path)
    if not root.exists():
        raise FileNotFoundError(f"{path} does not exist. Give a file or a folder of text")
    if root.is_file():
        return list(_parts_of_file(root, recipe))
    if (root / "dataset_dict.json").exists():
        splits = json.loads((root / "dataset_dict.json").read_text())["splits"]
        if recipe.hub_split not in splits:
            raise ValueError(
                f"{path} holds the splits {', '.join(splits)}, not {recipe.hub_split!r}. "
                "Choose one of them (--hub-split)"
            )
        root = root / recipe.hub_split
    if (root / "state.json").exists():  # a data set saved by `datasets`
        saved = json.loads((root / "state.json").read_text())["_data_files"]
        files = [root / entry["filename"] for entry in saved]
    else:
        files = sorted(file for file in _files(root) if file.name.endswith(recipe.suffixes))
    if not files:
        raise ValueError(
            f"{path} holds no file ending in {' or '.join(recipe.suffixes)}. Give another folder, "
            "or name the endings of your files (--suffixes)"
        )
    parts = [part for file in files for part in _parts_of_file(file, recipe)]
    if not parts:
        raise ValueError(f"{path}: all of its {len(files)} files are empty. Give some text")
    return parts


def left_out(recipe: Recipe) -> dict[str, int]:
    """Files in the folders of the recipe that are not read, counted by their endings."""
    counts: Counter[str] = Counter()
    for path in (*recipe.inputs, *recipe.validation):
        saved = (Path(path) / name for name in ("dataset_dict.json", "state.json"))
        if not any(file.exists() for file in saved):  # else it is a data set of `datasets`
            others = (f for f in _files(Path(path)) if not f.name.endswith(recipe.suffixes))
            counts.update(file.suffix or "no ending" for file in others)
    return dict(counts.most_common())


def _files(root: Path) -> Iterator[Path]:
    for folder, subfolders, names in walk(root):
        subfolders[:] = [name for name in subfolders if not is_hidden(name)]
        yield from (Path(folder) / name for name in names if not is_hidden(name))


def _parts_of_file(path: Path, recipe: Recipe) -> Iterator[Part]:
    status = path.stat()
    size, changed = status.st_size, status.st_mtime_ns
    if size == 0:
        return
    sizes: list[int] = []
    try:
        kind = format_of(path)
        if kind in ("parquet", "arrow"):
            sizes = table_sizes(kind, path)
    except ValueError:  # another format, or a table that is damaged
        if recipe.on_bad == "stop":
            raise
        kind = "unknown"
    if kind in ("parquet", "arrow"):
        for begin, end, n_bytes in _ranges(sizes, recipe.shard_bytes):
            yield Part(kind, str(path), begin, end, n_bytes, changed)
    elif kind == "unknown" or path.suffix.lower() == ".gz":  # cannot be entered in the middle
        yield Part(kind, str(path), 0, 1 << 62, size, changed)
    else:
        shard_bytes = recipe.shard_bytes
        step = max(1, shard_bytes // BLOCK) * BLOCK if kind == "text" else shard_bytes
        for begin in range(0, size, step):
            end = min(begin + step, size)
            yield Part(kind, str(path), begin, end, end - begin, changed)


def _ranges(sizes: list[int], limit: int) -> Iterator[tuple[int, int, int]]:
    """Neighbours whose sizes add up to about `limit`: (begin, end, size)."""
    begin, total = 0, 0
    for i, size in enumerate(sizes):
        if total and total + size > limit:
            yield begin, i, total
            begin, total = i, 0
        total += size
    if begin < len(sizes):
        yield begin, len(sizes), total


def _grouped(parts: list[Part], split: str | None, shard_bytes: int) -> list[Piece]:
    sizes = [part.size for part in parts]
    return [Piece(tuple(parts[a:b]), split) for a, b, _ in _ranges(sizes, shard_bytes)]
