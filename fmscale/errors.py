"""Mistakes of a person, which end a command with one line instead of a traceback."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from fmscale.runs.files import Broken
from fmscale.runs.secrets import redact, redact_error


class ConfigError(ValueError):
    """A mistake in the configuration; the message names field, value and remedy."""


@contextmanager
def config_errors_exit(*also: type[Exception]) -> Iterator[None]:
    """End the program with the message alone and exit code 1: a mistake in a configuration, or a
    file of the store that is broken, needs no traceback. Secrets stay off the screen, also those of
    other errors.

    Args:
        also: other errors that are a person's mistake here.
    """
    mistakes: tuple[type[Exception], ...] = (ConfigError, Broken, *also)
    try:
        yield
    except mistakes as error:
        sys.exit(f"error: {redact(str(error))}")
    except Exception as error:
        redact_error(error)
        raise
