"""What the numbers are made with."""

from __future__ import annotations

import platform

import numpy as np
import pandas as pd
import scipy

__version__ = "0.2.0.dev0"


def versions() -> dict[str, str]:
    """Versions by name, for whatever stores a number."""
    return {
        "analysis": __version__,
        "python": platform.python_version(),
        "numpy": np.__version__,
        "scipy": scipy.__version__,
        "pandas": pd.__version__,
    }
