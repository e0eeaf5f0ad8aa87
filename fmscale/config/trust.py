"""What a stored configuration may run: it names code, and a store may have come from anywhere."""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from fmscale.errors import ConfigError
from fmscale.planning.job import SECTIONS, check_names
from fmscale.public import with_public_names
from fmscale.runs import config_file
from fmscale.runs.files import Broken
from fmscale.runs.store import RunFolder

# Modules of one's own that stored configurations may name, separated by commas.
TRUST = "FMSCALE_TRUST"


def stored_config(folder: RunFolder, replaced: Collection[str] = ()) -> dict[str, Any]:
    """A run's configuration, which runs nothing but fmscale's own parts and what is trusted.

    What it names by an earlier name has the present one.

    Args:
        replaced: sections that will not be used.

    Raises:
        Broken: if it cannot be read.
        ConfigError: naming the target and the remedy; also for a name that would leave the folder
            of the data, and for what is no value but a reference, say to a variable of the
            environment: what was stored had none left.
    """
    path = folder.path / "config.yaml"
    config: dict[str, Any] = with_public_names(config_file.read(path))
    missing = sorted(set(SECTIONS) - set(config))
    if missing or not all(isinstance(config[name], dict) for name in ("data", "paths", "model")):
        problem = f"lacks {', '.join(missing)}" if missing else "has sections that are none"
        raise Broken(path, problem, config_file.REMEDY)
    check_names(config)
    texts = (pair for pair in _values(config) if isinstance(pair[1], str))
    reference = next((pair for pair in texts if "${" in pair[1]), None)
    if reference is not None:
        raise ConfigError(
            f"{path}: {reference[0]}={reference[1]!r} is a reference, and a stored configuration "
            "holds values alone; put its value there"
        )
    # The marks of `content` stand under the keys they mark, and are never run.
    used = {key: value for key, value in config.items() if key not in {*replaced, "content"}}
    trusted = [name.strip() for name in os.environ.get(TRUST, "").split(",") if name.strip()]
    targets = (pair for pair in _values(used) if pair[0].endswith("._target_"))
    for where, target in targets:
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


def _values(node: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Everything in a configuration, sections too, with its dotted place."""
    if isinstance(node, Mapping):
        children = [(f"{path}.{key}" if path else str(key), value) for key, value in node.items()]
    elif isinstance(node, list | tuple):
        children = [(f"{path}[{number}]", value) for number, value in enumerate(node)]
    else:
        children = []
    for where, value in children:
        yield where, value
        yield from _values(value, where)
