"""Values that JSON can hold: what is not finite is missing, never a number."""

from __future__ import annotations

import math
from typing import Any


def finite(value: Any) -> Any:
    """The same structure with NaN and infinity replaced by None."""
    if isinstance(value, dict):
        return {str(k): finite(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(v) for v in value]
    if hasattr(value, "item") and not isinstance(value, (str, bytes)):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
