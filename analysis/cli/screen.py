"""The terminal: one console, and a progress line that stays silent when nobody watches."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd
    from rich.console import Console

WIDTH = 80


def console(stderr: bool = False) -> Console:
    from rich.console import Console

    stream = sys.stderr if stderr else sys.stdout
    return Console(stderr=stderr, width=None if stream.isatty() else 160)


def table_text(table: pd.DataFrame, indent: int = 4, digits: int = 4) -> str:
    """Rows as text of at most 80 columns; a wider table goes on below itself."""
    text = table.to_string(
        index=False,
        float_format=lambda v: f"{v:.{digits}g}",
        na_rep="-",
        line_width=WIDTH - indent,
    )
    return " " * indent + text.replace("\n", "\n" + " " * indent)


@contextmanager
def progress(verb: str) -> Iterator[Callable[[str], None]]:
    """A status line on stderr, only on a terminal; yields a function that changes its text."""
    screen = console(stderr=True)
    if not screen.is_terminal:
        yield lambda text: None
        return
    with screen.status(verb) as status:
        yield lambda text: status.update(f"{verb}: {text}")
