"""What the runs of a study differ in, as columns named by the keys of the configuration.

`analysis.tables.run_store` finds the same columns in the records; a contract test keeps both in
step.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from fmscale.runs.identity import TRAINER_IDENTITY_KEYS, canonical

# Sections that change a run's numbers, as far as a record has no columns of its own for them.
SECTIONS = (
    "model", "objective", "data", "batch_size", "batch_ramp", "optimizer", "schedule", "trainer",
    "evaluation", "content",
)  # fmt: skip
OPTIONAL = ("batch_ramp",)  # absent where it would change nothing
PLACES = ("data_dir", "cache")  # where prepared data lie
DRAWN = re.compile("_by_source$")  # what a run took of its data
# What mostly follows from the model's size, or from where the data lie; shown where it does not.
DERIVED = re.compile(
    r"model\.shape\..*|schedule\.(warmup|decay)_units|optimizer\.lr|batch_size|.*\.content"
    r"|content\..*"
)
TAKEN = ("model", "seed", "run", "state", "status")  # headings of columns beside these


def flatten(node: Any, prefix: str = "") -> list[tuple[str, Any]]:
    """Dotted keys and values of nested mappings; a list is a value."""
    if isinstance(node, Mapping) and node:
        return [
            pair for key, value in node.items()
            for pair in flatten(value, f"{prefix}.{key}" if prefix else str(key))
        ]  # fmt: skip
    return [(prefix, node)]


def of_record(record: Mapping[str, Any]) -> dict[str, Any]:
    """Configuration of a stored run: its hyperparameters, and its data as they were found.

    Precision is that of the training; release 0.1.0 left the choice to the machine.
    """
    config = dict(_section(record, "hyperparameters"))
    precision = _section(record, "environment").get("precision")
    if "trainer" in config and precision is not None:
        config["trainer"] = {**_section(config, "trainer"), "precision": precision}
    found = {k: v for k, v in _section(record, "data").items() if not DRAWN.search(k)}
    return {**config, "data": {**_section(config, "data"), **found}}


def _section(config: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    section = config.get(name)
    return section if isinstance(section, Mapping) else {}


def settings(config: Mapping[str, Any]) -> dict[str, Any]:
    """Dotted key -> value of what changes a run's numbers, but for its seed and budget."""
    executed = {k: v for k, v in _section(config, "trainer").items() if k in TRAINER_IDENTITY_KEYS}
    whole = {**config, "trainer": executed}
    chosen = {key: whole[key] for key in SECTIONS if whole.get(key) not in (None, {})}
    return {
        key: _plain(key, value)
        for key, value in flatten(chosen)
        if key.rpartition(".")[2] not in PLACES
    }


def differing(configs: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """For each run the keys in which some runs differ, with its own values.

    Where data lie is one of them only if their content differs, too. A key that a section does not
    have is null; one of a section that a record does not hold (those of earlier releases, and of
    imported models) is left out.

    Args:
        configs: resolved configurations, or of records (`of_record`).
    """
    by_text = [(json.dumps(config, sort_keys=True, default=str), config) for config in configs]
    runs = {text: settings(config) for text, config in dict(by_text).items()}  # few in many
    keys = dict.fromkeys(key for own in runs.values() for key in own)
    for own in runs.values():
        sections = {*(key.partition(".")[0] for key in own), *OPTIONAL}
        if "data._target_" not in own:  # the data are described, and not configured
            sections.discard("data")
        own.update({k: "null" for k in keys if k not in own and k.partition(".")[0] in sections})
    varied = [k for k in keys if len({own[k] for own in runs.values() if k in own}) > 1]
    for key in [key for key in varied if key.endswith(".root")]:
        contents = {key.removesuffix("root") + "content", f"content.{key}"} & set(keys)
        if contents and not contents & set(varied):
            varied.remove(key)  # the same data in another place
    return [{key: runs[text][key] for key in varied if key in runs[text]} for text, _ in by_text]


def headed(columns: Sequence[Mapping[str, Any]], models: Sequence[str]) -> dict[str, list[str]]:
    """Columns of a table for a person: a short heading -> the value of each run.

    Args:
        columns: of `differing`.
        models: names of the runs' models, shown beside: what follows from these, or from another
            column, is left out.
    """
    keys = list(dict.fromkeys(key for own in columns for key in own))
    given = [key for key in keys if not DERIVED.fullmatch(key)]
    shown = list(given)
    for key in keys:
        pairs = {
            (canonical([model, *(own.get(k) for k in shown)]), canonical(own.get(key)))
            for model, own in zip(models, columns, strict=True)
        }
        if key not in given and len(pairs) > len({beside for beside, _ in pairs}):
            shown.append(key)
    shown.sort(key=keys.index)
    short = [*TAKEN, *map(_short, shown)]
    heads = {key: head if short.count(head := _short(key)) == 1 else key for key in shown}
    return {head: [_written(own.get(key)) for own in columns] for key, head in heads.items()}


def _plain(key: str, value: Any) -> Any:
    """A value as a cell: one text or number."""
    if key.endswith("_target_") and str(value).startswith("fmscale."):
        return str(value).rpartition(".")[2]  # wherever the class lies
    if isinstance(value, list | dict):
        return json.dumps(value, sort_keys=True)
    return "null" if value is None else value


def _short(key: str) -> str:
    """The last name of a key; for a class, what it is."""
    return key.removesuffix("._target_").rpartition(".")[2]


def _written(value: Any) -> str:
    return "" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)
