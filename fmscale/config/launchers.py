"""The launchers of `hydra/launcher=fmscale_*`."""

import importlib
import sys
from pathlib import Path

# Hydra looks for launchers in the namespace package `hydra_plugins` and nowhere else; ours live
# in a folder of that name.
PLUGINS = str(Path(__file__).parents[1] / "launching" / "plugins")


def register_launchers() -> None:
    """Make `hydra/launcher=fmscale_*` known, also to a Hydra that has looked already."""
    if PLUGINS not in sys.path:
        sys.path.append(PLUGINS)
    importlib.import_module("hydra_plugins.fmscale_launchers").register()
