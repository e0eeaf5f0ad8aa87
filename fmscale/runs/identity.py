"""Names of runs: the same configuration always gets the same id.

An id is a readable slug and a hash of everything that changes the numbers: what the resolved
configuration says, and the marks of the files and of the code that it names
(`fmscale.planning.content`).
Paths, loggers, launchers and devices are left out, so a run moved to another machine keeps its id;
so do modules, since classes are hashed by their public names (`fmscale.public`).

A key that conf/ gains later is added to `LATER` with the value that leaves the numbers of all
earlier runs as they were: with it, the key is not hashed, and these runs keep their ids. Golden ids
in the tests fail until this is done.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from typing import Any

from fmscale.public import with_public_names

# Sections and keys of the configuration that change the trained numbers. Everything else
# (paths, logger, launcher, study, progress, checkpoint cadence) may differ between equal runs.
IDENTITY_KEYS = (
    "model", "objective", "data", "budget", "optimizer", "schedule", "evaluation", "batch_size",
    "batch_ramp", "seed",
)  # fmt: skip
TRAINER_IDENTITY_KEYS = ("precision", "gradient_clip_val", "accumulate", "compile")
# Keys that came later -> the value that changes nothing. Named by the class whose setting it is
# ("fmscale.data.ByteText.suffixes"), or by its place where there is none ("trainer.compile").
LATER: dict[str, Any] = {"batch_ramp": None}
# Where data lie does not change them: what lies there counts.
PATH_KEYS = ("data_dir", "root")


def identity(config: Mapping[str, Any]) -> dict[str, Any]:
    """The part of a resolved configuration that determines a run's numbers."""
    chosen = {key: config.get(key) for key in IDENTITY_KEYS}
    chosen["trainer"] = {key: config["trainer"].get(key) for key in TRAINER_IDENTITY_KEYS}
    reduced = _counted(with_public_names(chosen), "", config.get("content") or {})
    assert isinstance(reduced, dict)
    return reduced


def _counted(node: Any, place: str, content: Mapping[str, str]) -> Any:
    """What counts of a node: marks in place of paths, no key that came later and changes nothing.

    Args:
        content: place -> mark of what lies there.
    """
    if isinstance(node, Mapping):
        owner = node.get("_target_", place)
        return {
            key: _counted(value, join(place, key), content)
            for key, value in node.items()
            if not _changes_nothing(join(owner, key), value)
            and (join(place, key) in content or not _only_a_place(key, node))
        }
    if isinstance(node, list | tuple):
        return [_counted(item, f"{place}[{n}]", content) for n, item in enumerate(node)]
    if place.rpartition(".")[2] in PATH_KEYS and place in content:
        return content[place]
    if place in content or place.startswith("data.tasks["):  # its name is that of its metrics
        return [re.split(r"[/\\]", str(node).rstrip("/\\"))[-1], content.get(place)]
    return node


def _only_a_place(key: str, node: Mapping[str, Any]) -> bool:
    """Whether a value says where something lies and not what: a folder of caches, or text that a
    mark of its own tells. A class of one's own may mean anything by these names."""
    if key == "data_dir":
        return str(node.get("_target_", "fmscale.")).startswith("fmscale.")
    if key != "root" or isinstance(node[key], list):
        return False
    return node[key] is None or node.get("content") is not None


def _changes_nothing(name: str, value: Any) -> bool:
    return name in LATER and canonical(LATER[name]) == canonical(value)


def join(place: str, key: Any) -> str:
    """The dotted place of a key."""
    return f"{place}.{key}" if place else str(key)


def digest(value: Any) -> str:
    """Ten hexadecimal digits of the SHA-256 of `value` as JSON; numbers as in `canonical`."""
    return hashlib.sha256(_json(value).encode()).hexdigest()[:10]


def canonical(value: Any) -> str:
    """JSON with sorted keys: numbers and classes are the same however they are written.

    2e6, 2000000.0 and 2000000 are one number, and a class is called by its public name.
    """
    return _json(with_public_names(value))


def _json(value: Any) -> str:
    return json.dumps(_plain(value), sort_keys=True, separators=(",", ":"), allow_nan=False)


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value


def slug(label: str, n_units: int | None, seed: int) -> str:
    """Readable front part of an id, e.g. `gpt_4x128-2.05M-s1`."""
    parts = [re.sub(r"[^A-Za-z0-9_.+]", "", label)]
    if n_units is not None:
        parts.append(short_number(n_units))
    parts.append(f"s{seed}")
    return "-".join(parts)


def short_number(value: float) -> str:
    """Three significant digits with a letter for the power of ten, e.g. 2.05M."""
    for letter, size in (("T", 1e12), ("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if value >= 0.9995 * size:  # below that, three digits would read 1e+03
            return f"{value / size:.3g}{letter}"
    return f"{value:.3g}"
