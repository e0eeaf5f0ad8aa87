"""The documents of a piece, whatever their format."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from fmscale.data.preparation.document import Document, Part, Piece, Unreadable
from fmscale.data.preparation.documents import read_jsonl, read_text, read_unknown
from fmscale.data.preparation.keep_or_drop import KEPT, judge
from fmscale.data.preparation.settings import Recipe
from fmscale.data.preparation.tables import read_arrow, read_hub, read_parquet

READERS: dict[str, Callable[[Part, Recipe], Iterator[Document | Unreadable]]] = {
    "text": read_text,
    "jsonl": read_jsonl,
    "parquet": read_parquet,
    "arrow": read_arrow,
    "hub": read_hub,
    "unknown": read_unknown,
}


def read_piece(piece: Piece, recipe: Recipe) -> Iterator[Document | Unreadable]:
    """All documents of a piece in order, with what could not be read.

    Raises:
        ValueError: naming file and row, at the first that could not be read if `on_bad` is "stop".
    """
    for part in piece.parts:
        for found in READERS[part.kind](part, recipe):
            if isinstance(found, Unreadable) and recipe.on_bad == "stop":
                raise ValueError(found.message)
            yield found


def kept_documents(piece: Piece, recipe: Recipe) -> Iterator[Document]:
    """The documents of a piece that nothing speaks against by themselves."""
    for found in read_piece(piece, recipe):
        if isinstance(found, Document) and judge(found, recipe) == KEPT:
            yield found
