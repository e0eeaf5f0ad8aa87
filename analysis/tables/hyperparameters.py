"""What the runs of a store differ in, as columns named by the keys of their configuration.

`fmscale.runs.hyperparameters` makes the same columns for tables of the other package.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

SECTIONS = (
    "model", "objective", "data", "batch_size", "batch_ramp", "optimizer", "schedule", "trainer",
    "evaluation", "content",
)  # fmt: skip
OPTIONAL = ("batch_ramp",)  # absent where it would change nothing
TRAINER = ("precision", "gradient_clip_val", "accumulate", "compile")  # of it, what changes numbers
PLACES = ("data_dir", "cache")  # where prepared data lie


def differing(records: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """For each record the dotted keys in which some differ, with its own values.

    A key that a section does not have is null; one of a section that a record does not hold (those
    of earlier releases, and of imported models) is left out.
    """
    configs = [_configuration(record) for record in records]
    texts = [json.dumps(config, sort_keys=True, default=str) for config in configs]
    different = dict(zip(texts, configs, strict=True))  # few in many runs
    runs = {text: dict(_leaves(config)) for text, config in different.items()}
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
    return [{key: runs[text][key] for key in varied if key in runs[text]} for text in texts]


def _configuration(record: Mapping[str, Any]) -> dict[str, Any]:
    """Sections that change a run's numbers; the data as found, precision as it was in training."""
    config, data = _object(record.get("hyperparameters")), _object(record.get("data"))
    found = {key: value for key, value in data.items() if not key.endswith("_by_source")}
    trainer = {k: v for k, v in _object(config.get("trainer")).items() if k in TRAINER}
    if "precision" in trainer and "precision" in (told := _object(record.get("environment"))):
        trainer["precision"] = told["precision"]  # release 0.1.0 left the choice to the machine
    chosen = {**config, "data": {**_object(config.get("data")), **found}, "trainer": trainer}
    return {key: chosen[key] for key in SECTIONS if chosen.get(key) not in (None, {})}


def _object(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _leaves(node: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted keys and values of nested objects; each value one text, number or truth value."""
    for name, value in node.items():
        key = prefix + name
        if isinstance(value, dict) and value:
            yield from _leaves(value, f"{key}.")
        elif name not in PLACES:
            yield key, _plain(name, value)


def _plain(name: str, value: Any) -> Any:
    if name == "_target_" and str(value).startswith("fmscale."):
        return str(value).rpartition(".")[2]  # wherever the class lies
    if isinstance(value, list | dict):
        return json.dumps(value, sort_keys=True)
    return "null" if value is None else value
