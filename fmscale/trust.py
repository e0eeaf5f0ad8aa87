"""What a stored configuration may run: it names code, and a store may have come from anywhere."""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from fmscale import config_text
from fmscale.public import with_public_names
from fmscale.runs.store import RunFolder
from fmscale.settings import ConfigError

# Modules of one's own that stored configurations may name, separated by commas.
TRUST = "FMSCALE_TRUST"


def stored_config(folder: RunFolder, replaced: Collection[str] = ()) -> dict[str, Any]:
    """A run's configuration, which runs nothing but fmscale's own parts and what is trusted.

    What it names by an earlier name has the present one.

    Args:
        replaced: sections that will not be used.

    Raises:
        ConfigError: naming the target and the remedy.
    """
    path = folder.path / "config.yaml"
    config: dict[str, Any] = with_public_names(config_text.read(path))
    used = {key: value for key, value in config.items() if key not in replaced}
    trusted = [name.strip() for name in os.environ.get(TRUST, "").split(",") if name.strip()]
    for where, target in _targets(used):
        if target in own_targets() or any(f"{target}.".startswith(f"{t}.") for t in trusted):
            continue
        raise ConfigError(
            f"{path}: {where}={target!r} is no part of fmscale, and whoever wrote a stored "
            "configuration decides what it runs; if you know this code, set "
            f"{TRUST}={str(target).partition('.')[0]}"
        )
    return config


@functools.cache
def own_targets() -> frozenset[str]:
    """The classes and functions that `conf/` names, by their public names."""
    import conf

    files = Path(next(iter(conf.__path__))).rglob("*.yaml")
    return frozenset(
        target for file in files for target in re.findall(r"_target_:\s*([\w.]+)", file.read_text())
    )


def _targets(node: Any, path: str = "") -> list[tuple[str, Any]]:
    """Every `_target_` in a configuration, with its dotted place."""
    if isinstance(node, Mapping):
        children = [(f"{path}.{key}" if path else str(key), value) for key, value in node.items()]
    elif isinstance(node, list | tuple):
        children = [(f"{path}[{number}]", value) for number, value in enumerate(node)]
    else:
        return []
    own = [(where, value) for where, value in children if where.endswith("._target_")]
    return own + [pair for where, value in children for pair in _targets(value, where)]
