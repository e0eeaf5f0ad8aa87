"""Names of files that no person wrote: what file managers, archives and notebooks leave in folders.

Such a file is no image, no text and no class, whatever its ending says.
"""

from __future__ import annotations

from pathlib import PurePath

LEFT_BEHIND = ("__MACOSX", "Thumbs.db", "desktop.ini")


def is_hidden(path: str | PurePath) -> bool:
    """Whether a part of a relative path begins with a dot, or is a system's own."""
    parts = PurePath(path).parts
    return any(part in LEFT_BEHIND or (part[0] == "." and part != "..") for part in parts)
