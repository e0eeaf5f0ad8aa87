"""Documents from columns: Parquet, saved data sets (Arrow), and the Hugging Face Hub.

What `datasets` saves are Arrow streams, read here with pyarrow alone; only the Hub itself needs
the extra `hub`.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fmscale.data.preparation.document import Document, Part, Unreadable
from fmscale.data.preparation.documents import from_fields
from fmscale.data.preparation.settings import Recipe

ROWS = 256  # read at once from a Parquet row group


def table_sizes(kind: str, path: Path) -> list[int]:
    """Bytes of each row group or record batch.

    Raises:
        ValueError: naming the file, if it is damaged.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        if kind == "parquet":
            metadata = pq.ParquetFile(path).metadata
            return [metadata.row_group(i).total_byte_size for i in range(metadata.num_row_groups)]
        return [batch.nbytes for batch in _open_arrow(path)]
    except (pa.ArrowInvalid, OSError) as error:
        raise ValueError(f"{path} cannot be read as {kind}: {error}. Fetch it again") from error


def _open_arrow(path: Path) -> Iterator[Any]:
    import pyarrow as pa

    source = pa.memory_map(str(path))
    try:
        yield from pa.ipc.open_stream(source)
    except pa.ArrowInvalid:  # the other layout of Arrow files
        source.seek(0)
        file = pa.ipc.open_file(source)
        yield from (file.get_batch(i) for i in range(file.num_record_batches))


def read_parquet(part: Part, recipe: Recipe) -> Iterator[Document | Unreadable]:
    """Rows of some row groups."""
    import pyarrow.parquet as pq

    with pq.ParquetFile(part.path, pre_buffer=False) as file:
        names = _columns(file.schema_arrow.names, part.path, recipe)
        row = sum(file.metadata.row_group(i).num_rows for i in range(part.begin))
        groups = list(range(part.begin, part.end))
        for batch in file.iter_batches(batch_size=ROWS, row_groups=groups, columns=names):
            yield from _rows(batch, row, part.path, recipe)
            row += batch.num_rows


def read_arrow(part: Part, recipe: Recipe) -> Iterator[Document | Unreadable]:
    """Rows of some record batches."""
    row = 0
    for i, batch in enumerate(_open_arrow(Path(part.path))):
        if i >= part.end:
            break
        if i >= part.begin:
            names = _columns(batch.schema.names, part.path, recipe)
            yield from _rows(batch.select(names), row, part.path, recipe)
        row += batch.num_rows


def _columns(present: list[str], path: str, recipe: Recipe) -> list[str]:
    wanted = [recipe.field, recipe.source_field, recipe.score_field]
    names = [name for name in wanted if name is not None]
    for name in names:
        if name not in present:
            raise ValueError(
                f"{path} has no column {name!r} (it has {', '.join(map(repr, present))}). Name the "
                "column that holds the text (--field)"
            )
    return names


def _rows(batch: Any, row: int, path: str, recipe: Recipe) -> Iterator[Document | Unreadable]:
    for i, values in enumerate(batch.to_pylist()):
        yield from_fields(values, path, f"{path}, row {row + i + 1}", recipe)


def list_hub_parts(recipe: Recipe) -> list[Part]:
    """One part for each file of a data set of the Hub.

    Raises:
        ValueError: if `datasets` is missing or the Hub cannot be reached.
    """
    n_shards = _open_hub(recipe).num_shards
    # Sizes are not known before reading; each file becomes a shard of its own.
    return [Part("hub", str(recipe.hub), i, n_shards, recipe.shard_bytes) for i in range(n_shards)]


def _open_hub(recipe: Recipe) -> Any:
    try:
        from datasets import load_dataset
    except ImportError as error:
        raise ValueError(
            f"--hub {recipe.hub}: reading the Hugging Face Hub needs the package datasets. "
            "Install it with: pip install 'fmscale[hub]'"
        ) from error
    try:
        return load_dataset(
            str(recipe.hub), recipe.hub_config, split=recipe.hub_split, streaming=True
        )
    except Exception as error:  # its libraries raise many kinds when there is no network
        raise ValueError(
            f"--hub {recipe.hub} cannot be opened ({type(error).__name__}: "
            f"{str(error).splitlines()[0] if str(error) else 'no message'}). Without network, save "
            "the data set elsewhere with save_to_disk and give its folder as input"
        ) from error


def read_hub(part: Part, recipe: Recipe) -> Iterator[Document | Unreadable]:
    """Rows of one file of a data set of the Hub; `part.end` is the number of files."""
    data = _open_hub(recipe).shard(num_shards=part.end, index=part.begin)
    for i, values in enumerate(data):
        if i == 0:
            _columns(list(values), f"{recipe.hub} on the Hub", recipe)
        yield from_fields(values, part.path, f"{part.path}, file {part.begin}, row {i + 1}", recipe)
