"""How a sweep's jobs run: warm worker processes, one task at a time each."""

import sys
from pathlib import Path

# Hydra looks for launchers in the namespace package `hydra_plugins` and nowhere else; ours lives
# in a folder of that name below this one.
PLUGINS = str(Path(__file__).parent / "plugins")


def register_launchers() -> None:
    """Make `hydra/launcher=fmscale_local` known; call before Hydra starts."""
    if PLUGINS not in sys.path:
        sys.path.append(PLUGINS)
