"""The terminal: one console, and a progress line that stays silent when nobody watches."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from textwrap import fill
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    import pandas as pd
    from rich.console import Console

    from analysis.forecasting.proposals import Proposals

WIDTH = 80


def console(stderr: bool = False) -> Console:
    from rich.console import Console

    stream = sys.stderr if stderr else sys.stdout
    return Console(stderr=stderr, width=None if stream.isatty() else 160)


class _Output:
    """Standard output whose reader may leave early: what comes later goes nowhere."""

    def __init__(self, stream: TextIO) -> None:
        self.stream, self.code = stream, 0

    def write(self, text: str) -> int:
        self._try(lambda: self.stream.write(text))
        return len(text)

    def flush(self) -> None:
        self._try(self.stream.flush)

    def _try(self, do: Callable[[], object]) -> None:
        try:
            if not self.code:
                do()
        except BrokenPipeError:
            self.code = 128 + signal.SIGPIPE
            # Python flushes once more at its end; let that go nowhere, too.
            os.dup2(os.open(os.devnull, os.O_WRONLY), self.stream.fileno())

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


@contextmanager
def output_that_may_close() -> Iterator[_Output]:
    """A reader that closes the pipe early (`| head`) costs no file that a command writes.

    Yields an object whose `code` is then the exit code of a program that a closed pipe ends.
    """
    output = _Output(sys.stdout)
    with redirect_stdout(output):
        yield output
        output.flush()


def table_text(table: pd.DataFrame, indent: int = 4, digits: int = 4) -> str:
    """Rows as text of at most 80 columns; a wider table continues below itself."""
    text = table.to_string(
        index=False, float_format=lambda v: f"{v:.{digits}g}", na_rep="-", line_width=WIDTH - indent
    )
    return " " * indent + text.replace("\n", "\n" + " " * indent)


def wrapped(line: str) -> str:
    """A sentence in lines of at most 80 columns; a command stays one line, to be copied."""
    indent = line[: len(line) - len(line.lstrip())]
    if line.lstrip().startswith("fmscale"):
        return line
    return fill(line, WIDTH, subsequent_indent=indent + "  ", break_long_words=False)


def plan_lines(plan: Proposals) -> list[str]:
    """Proposed runs: what each is worth, what they cost, and the commands that train them."""
    import pandas as pd

    opening = wrapped(f"  {plan.opening()}")
    if not plan.runs:
        return [opening]
    table = table_text(pd.DataFrame(plan.rows()), indent=2)
    return [opening, table, wrapped(f"  {plan.closing()}"), *(f"  {c}" for c in plan.commands)]


@contextmanager
def progress(verb: str) -> Iterator[Callable[[str], None]]:
    """A status line on stderr, only on a terminal; yields a function that changes its text."""
    screen = console(stderr=True)
    if not screen.is_terminal:
        yield lambda text: None
        return
    with screen.status(verb) as status:
        yield lambda text: status.update(f"{verb}: {text}")
