"""A resolved configuration as it lies in its run's folder: YAML in the order of its sections.

libyaml, where PyYAML was built with it, writes and reads the same text in a fifth of the time; a
sweep writes one for each run before the first starts.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from fmscale.runs.files import Broken

_DUMPER: Any = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
MAX_VALUES = 100_000  # of a configuration; a few aliases of aliases stand for billions
REMEDY = (
    "give the sweep's command again, which stores it anew (of a finished run: once the record.json "
    "beside it is deleted)"
)


def write(config: Mapping[str, Any]) -> str:
    """The text of a configuration."""
    text: str = yaml.dump(dict(config), Dumper=_DUMPER, sort_keys=False)
    return text


def read(path: Path) -> dict[str, Any]:
    """The configuration in a file; Broken if there is none, or none that a run could have."""
    try:
        config = _Loader(path.read_text()).get_single_data()
    except FileNotFoundError as error:
        raise Broken(path, "is missing", REMEDY) from error
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        raise Broken(path, f"cannot be read ({str(error).splitlines()[0]})", REMEDY) from error
    if not isinstance(config, dict) or not all(isinstance(key, str) for key in config):
        raise Broken(path, "holds no configuration", REMEDY)
    if _n_values(config, {}) > MAX_VALUES:
        raise Broken(path, f"stands for more than {MAX_VALUES:,} values by its aliases", REMEDY)
    return config


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """Without merge keys, which nothing here writes and which multiply while they are read."""

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        """Leave `<<` a key like any other."""


def _n_values(node: Any, known: dict[int, float]) -> float:
    """Values in a configuration, each alias counted as what it stands for."""
    if id(node) not in known:
        known[id(node)] = math.inf  # until it is counted: what holds itself has no end
        inside = list(node.values()) if isinstance(node, dict) else node
        inside = inside if isinstance(inside, list) else []
        known[id(node)] = 1 + sum(_n_values(child, known) for child in inside)
    return known[id(node)]
