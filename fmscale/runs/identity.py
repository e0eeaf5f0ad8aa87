"""Names of runs: the same configuration always gets the same id.

An id is a readable slug and a hash of everything in the resolved configuration that changes the
numbers. Paths, loggers, launchers and devices are left out, so a run moved to another machine
keeps its id.
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
    "model",
    "objective",
    "data",
    "budget",
    "optimizer",
    "schedule",
    "evaluation",
    "batch_size",
    "seed",
)
OPTIONAL_IDENTITY_KEYS = ("batch_ramp",)  # absent where they would change nothing
TRAINER_IDENTITY_KEYS = ("precision", "gradient_clip_val", "accumulate", "compile")
# Where data lies does not change them: their content hash is in the record.
PATH_KEYS = ("data_dir", "root")


def identity(config: Mapping[str, Any]) -> dict[str, Any]:
    """The part of a resolved configuration that determines a run's numbers."""
    chosen = {key: config[key] for key in IDENTITY_KEYS}
    chosen |= {key: config[key] for key in OPTIONAL_IDENTITY_KEYS if config.get(key)}
    chosen["trainer"] = {key: config["trainer"][key] for key in TRAINER_IDENTITY_KEYS}
    chosen["data"] = _without_paths(config["data"])
    if chosen["data"].get("tasks"):  # folders of images: what they are called, not where they lie
        names = [str(folder).rstrip("/\\") for folder in chosen["data"]["tasks"]]
        chosen["data"]["tasks"] = [re.split(r"[/\\]", name)[-1] for name in names]
    return chosen


def _without_paths(data: Mapping[str, Any]) -> dict[str, Any]:
    """A data section without places on disk, those of its sources included."""
    return {
        key: _without_paths(value) if isinstance(value, Mapping) else value
        for key, value in data.items()
        if key not in PATH_KEYS
    }


def digest(value: Any) -> str:
    """Ten hexadecimal digits of the SHA-256 of `value` as canonical JSON."""
    return hashlib.sha256(canonical(value).encode()).hexdigest()[:10]


def canonical(value: Any) -> str:
    """JSON with sorted keys: numbers and classes are the same however they are written.

    2e6, 2000000.0 and 2000000 are one number, and a class is called by its public name.
    """
    return json.dumps(
        _plain(with_public_names(value)), sort_keys=True, separators=(",", ":"), allow_nan=False
    )


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
