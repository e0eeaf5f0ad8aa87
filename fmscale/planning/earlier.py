"""Runs under the ids that release 0.1.0 gave them: found, and resumed under these ids.

Those ids knew neither the content of the standard library's text, nor which precision `auto` had
chosen, and called classes by their modules. A configuration with a section `earlier` has ids of
that kind; the rest of it says what is trained, as any other does.
"""

from __future__ import annotations

import contextlib
import copy
import functools
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from fmscale.data.text.sources import text_mark
from fmscale.public import RENAMED
from fmscale.runs.files import Broken
from fmscale.runs.identity import TRAINER_IDENTITY_KEYS
from fmscale.runs.record import RunRecord
from fmscale.runs.store import Study

KEYS = (
    "model", "objective", "data", "budget", "optimizer", "schedule", "evaluation", "batch_size",
    "seed",
)  # fmt: skip
# Of names that lead to the same class, the first one is that of the release.
NAMES = {public: name for name, public in reversed(RENAMED.items())}


def earlier_identity(config: Mapping[str, Any]) -> dict[str, Any]:
    """What that release hashed of a configuration."""
    chosen = {key: config[key] for key in KEYS}
    if config.get("batch_ramp"):
        chosen["batch_ramp"] = config["batch_ramp"]
    trainer = {**config["trainer"], **config["earlier"]}
    chosen["trainer"] = {key: trainer[key] for key in TRAINER_IDENTITY_KEYS}
    data = _as_hashed(chosen["data"])
    if data.get("tasks"):
        names = [str(folder).rstrip("/\\") for folder in data["tasks"]]
        data["tasks"] = [re.split(r"[/\\]", name)[-1] for name in names]
    return {key: _named(value) for key, value in {**chosen, "data": data}.items()}


def _as_hashed(data: Mapping[str, Any]) -> dict[str, Any]:
    """A data section without places on disk and without the mark of the standard library."""
    left_out = ("data_dir", "root", *(["content"] if _of_library(data) == [data] else []))
    return {
        key: _as_hashed(value) if isinstance(value, Mapping) else value
        for key, value in data.items()
        if key not in left_out
    }


def _named(node: Any) -> Any:
    if isinstance(node, Mapping):
        return {k: NAMES.get(v, v) if k == "_target_" else _named(v) for k, v in node.items()}
    return [_named(item) for item in node] if isinstance(node, list | tuple) else node


def finished_of(study: Study, trunk_id: str) -> list[RunRecord]:
    """Records of the finished runs of a trunk, as far as they can be read."""
    path = study.manifest_path
    if not path.exists():
        return []
    found = []
    # What is broken is no evidence; commands that need it say so.
    with contextlib.suppress(Broken):
        for run_id in _by_trunk(study, path.stat().st_mtime_ns).get(trunk_id, []):
            folder = study.run(run_id)
            with contextlib.suppress(Broken):
                found += [folder.record()] if folder.is_finished() else []
    return found


@functools.lru_cache(maxsize=64)
def _by_trunk(study: Study, changed_at: int) -> dict[str, list[str]]:
    """Trunk id -> run ids; a sweep asks for many trunks of one manifest."""
    runs: dict[str, list[str]] = {}
    for run_id, entry in study.manifest().items():
        runs.setdefault(str(entry.get("trunk_id")), []).append(run_id)
    return runs


def trained_as(config: Mapping[str, Any], records: Iterable[RunRecord]) -> bool:
    """Whether records are known to be of the precision and the text that a configuration states."""
    stated = {section["content"] for section in _of_library(config["data"])}
    return not config.get("content") and all(
        record.environment.get("precision") == config["trainer"]["precision"]
        and stated <= _texts(record.data)
        for record in records
    )


def completed(config: Mapping[str, Any], records: Sequence[RunRecord]) -> dict[str, Any]:
    """A configuration stored by that release, with what it leaves open as its runs had it.

    Args:
        records: of finished runs of the same trunk; without any, precision is the default and the
            text of the standard library the one that is there now.
    """
    asked, data = config["trainer"]["precision"], copy.deepcopy(config["data"])
    precision = records[0].environment["precision"] if records else "32-true"
    read = _texts(records[0].data) if records else set()
    for section in _of_library(data):
        now = text_mark(None, tuple(section["suffixes"]))
        section["content"] = now if now in read or not read else min(read)  # refused later
    trainer = {**config["trainer"], "precision": precision if asked == "auto" else asked}
    own = {"data": data, "trainer": trainer, "content": {}, "earlier": {"precision": asked}}
    return {**config, **own}


def _of_library(data: Any) -> list[Any]:
    """The sections, of sources too, that read the text of the standard library."""
    if not isinstance(data, Mapping):
        return []
    here = data.get("_target_") == "fmscale.data.ByteText" and data.get("root") is None
    return [data] if here else [s for value in data.values() for s in _of_library(value)]


def _texts(described: Any) -> set[str]:
    """Marks of all texts in a record's description of its data."""
    if not isinstance(described, Mapping):
        return set()
    own = {str(described["content_sha256"])[:16]} if "content_sha256" in described else set()
    return own.union(*(_texts(value) for value in described.values()))
