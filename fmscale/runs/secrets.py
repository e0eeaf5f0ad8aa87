"""Keys and passwords stay out of the store, the logs and the screen."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Any

# Environment variables whose value is a secret, e.g. WANDB_API_KEY, HF_TOKEN.
SECRET_NAME = re.compile(r"(KEY|TOKEN|SECRET|PASSWORD|PASSWD|CREDENTIALS)$", re.IGNORECASE)
MIN_LENGTH = 8  # shorter values are no secrets, and would blank out ordinary words
URL_CREDENTIALS = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*://)[^/\s@]+@")
MASK = "***"


def redact(text: str) -> str:
    """`text` without the secrets of the environment and without credentials in addresses."""
    for secret in _of_environment():
        text = text.replace(secret, MASK)
    return URL_CREDENTIALS.sub(rf"\1{MASK}@", text)


def redact_error(error: BaseException | None) -> None:
    """Take secrets out of an exception and out of those that led to it, in place.

    Whatever prints it later, here or in a scheduler's log, has nothing to reveal.
    """
    while error is not None:
        error.args = tuple(redact(a) if isinstance(a, str) else a for a in error.args)
        error = error.__cause__ or error.__context__


def find_secret(node: Any, path: str = "") -> str | None:
    """Dotted path of the first text in a configuration that holds a secret; None if none does."""
    if isinstance(node, str) and redact(node) != node:
        return path
    if isinstance(node, Mapping):
        items = [(f"{path}.{key}" if path else str(key), value) for key, value in node.items()]
    elif isinstance(node, list | tuple):
        items = [(f"{path}[{number}]", value) for number, value in enumerate(node)]
    else:
        items = []
    return next((found for at, value in items if (found := find_secret(value, at))), None)


def _of_environment() -> list[str]:
    """Values of variables that are named like a secret, the longest first."""
    found = {v for k, v in os.environ.items() if SECRET_NAME.search(k) and len(v) >= MIN_LENGTH}
    return sorted(found, key=len, reverse=True)
