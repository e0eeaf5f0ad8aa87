"""How a sweep's jobs run: warm worker processes, one task at a time each."""

import importlib
import sys
from pathlib import Path

# Hydra looks for launchers in the namespace package `hydra_plugins` and nowhere else; ours lives
# in a folder of that name below this one.
PLUGINS = str(Path(__file__).parent / "plugins")


def register_launchers() -> None:
    """Make `hydra/launcher=fmscale_local` known, also to a Hydra that has looked already."""
    if PLUGINS not in sys.path:
        sys.path.append(PLUGINS)
    importlib.import_module("hydra_plugins.fmscale_local").register()
