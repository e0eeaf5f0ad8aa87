"""The terminal: one console, and a progress line that stays silent when nobody watches."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console


def console(stderr: bool = False) -> Console:
    from rich.console import Console

    stream = sys.stderr if stderr else sys.stdout
    return Console(stderr=stderr, width=None if stream.isatty() else 160)


@contextmanager
def progress(verb: str) -> Iterator[Callable[[str], None]]:
    """A status line on stderr, only on a terminal; yields a function that changes its text."""
    screen = console(stderr=True)
    if not screen.is_terminal:
        yield lambda text: None
        return
    with screen.status(verb) as status:
        yield lambda text: status.update(f"{verb}: {text}")
