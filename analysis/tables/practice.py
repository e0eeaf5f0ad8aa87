"""What the records of a study say of training it: sizes there are, data, speed, the command."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from typing import Any

import numpy as np

from analysis.tables.table import D_COLUMNS, RunTable, data_column

CONFIGURATION = Path(__file__).parents[2] / "conf"
SIZE = re.compile(r"(?P<line>.+)_(?P<depth>\d+)x(?P<width>\d+)")  # gpt_4x128
PLAIN = re.compile(r"[\w.+-]+")  # a name that a shell reads as it stands
OF_FAMILY = {
    "gpt": "",
    "clip": "objective=contrastive optimizer=adamw_contrastive evaluation=zero_shot budget=samples",
}
NOTHING_ELSE = {"gpt": "NextToken", "clip": "Contrastive"}  # objectives that OF_FAMILY speaks of


@dataclass(frozen=True)
class Practice:
    """How a study is trained.

    None where its records do not say; a table that is no study says nothing at all.
    """

    study: str
    unit: str  # what D counts
    sizes: dict[str, float]  # name -> N, trained or not
    unique: float | None  # tokens or samples of training data there are
    flops_per_second: float | None  # of the largest run
    machine: str | None
    dates: tuple[str, str] | None  # first and last day on which a run finished
    data: str | None  # its name
    overrides: str | None  # what the command must say in addition to size and length

    @property
    def budget(self) -> str:
        """The key of a length: tokens, samples, or units where the family has one of its own."""
        return self.unit if f"n_{self.unit}" in D_COLUMNS else "units"

    def nearest(self, n: float) -> str | None:
        """The name of the size that lies nearest, in proportion."""
        return min(self.sizes, key=lambda k: abs(np.log(self.sizes[k] / n)), default=None)

    def passes(self, d: float) -> float | None:
        return None if self.unique is None else d / self.unique

    def hours(self, flops: float) -> float | None:
        """At the speed of the largest run, on the machine that trained it."""
        return None if self.flops_per_second is None else flops / self.flops_per_second / 3600

    def command(self, size: str, d: float) -> str:
        """What trains a size on so much data."""
        length = f"{d:.3g}".replace("e+0", "e").replace("e+", "e")
        return self._sweep("", size, length, d)

    def branches(
        self, size: str, lengths: Sequence[int], seed: int, remarks: Sequence[str] = ()
    ) -> str:
        """What trains a size on each of several lengths."""
        listed = f"[{','.join(map(str, sorted({*lengths})))}]"
        return self._sweep(f" seed={seed}", size, listed, max(lengths), remarks)

    def _sweep(
        self, more: str, size: str, length: str, most: float, remarks: Sequence[str] = ()
    ) -> str:
        given = self.overrides or f"study={self.study} budget={self.budget}"
        passes = self.passes(most) or 0.0
        again = f" budget.max_epochs={ceil(passes)}" if passes > 1 else ""
        unknown = [] if self.overrides else ["and what else the study's sweep was given"]
        told = "; ".join([*remarks, *unknown])
        return (
            f"fmscale sweep {given}{more} model={choice(size)} budget.{self.budget}={length}{again}"
            + (f"  # {told}" if told else "")
        )

    def describe(self) -> str:
        """Study, dates, data and machine in one line."""
        days = self.dates and " to ".join(dict.fromkeys(self.dates))
        known = {"": days, "data ": self.data, "on ": self.machine}
        return ", ".join([self.study, *(f"{k}{v}" for k, v in known.items() if v)])


def practice_of(table: RunTable) -> Practice | None:
    """Of a table of one study's runs with column N; None for any other table."""
    frame = table.frame
    if not {"schema_version", "run_id", "study", "family", "model"} <= set(frame):
        return None
    if frame["study"].nunique() != 1 or frame["family"].nunique() != 1:
        return None
    counted = (data_column(table) or "n_tokens").removeprefix("n_")
    unit = _of_all(frame["unit"].dropna().tolist()) if "unit" in frame else None
    study, family = str(frame["study"].iloc[0]), str(frame["family"].iloc[0])
    data = _of_all([_part(cell, "name") for cell in frame.get("data", [])])
    rate = machine = None
    if {"flops", "seconds_train"} <= set(frame):
        timed = frame[(frame["seconds_train"] > 0) & frame["flops"].notna()]
        if len(timed):
            largest = timed.sort_values("flops").iloc[-1]
            rate = float(largest["flops"] / largest["seconds_train"])
            environment = largest.get("environment")
            device = _part(environment, "device")
            machine = _part(environment, "cpu") if device in (None, "cpu") else device
    days = sorted(str(t)[:10] for t in frame.get("finished_at", []) if isinstance(t, str) and t)
    return Practice(
        study, unit or counted, _sizes(table), _unique(table, counted), rate, machine,
        (days[0], days[-1]) if days else None, data, _overrides(table, study, family, data),
    )  # fmt: skip


def _sizes(table: RunTable) -> dict[str, float]:
    """N of every size of the study's line of models, those trained and those configured.

    N of a size that was not trained is that of layers, which grow as depth x width^2, and of what
    grows as width alone (embeddings), fitted to the sizes that were.
    """
    n = table.numbers("N")
    trained = dict(zip(table.frame["model"].astype(str), n.tolist(), strict=True))
    shapes = {name: SIZE.fullmatch(name) for name in trained}
    lines = {found["line"] for found in shapes.values() if found}
    if len(lines) != 1 or not all(shapes.values()) or len(trained) < 2:
        return trained
    (line,) = lines
    configured = {f"{line}_{size}" for size in _options(f"model/{line}")}
    names = [name for name in sorted(configured - set(trained)) if SIZE.fullmatch(name)]
    known = _growth(list(trained))
    values = np.array(list(trained.values()))
    terms, *_ = np.linalg.lstsq(known / values[:, None], np.ones(len(values)), rcond=None)
    if names and np.abs(known @ terms / values - 1).max() < 0.05:
        guessed = dict(zip(names, (_growth(names) @ terms).tolist(), strict=True))
        trained |= {name: value for name, value in guessed.items() if value > 0}
    return trained


def _growth(names: list[str]) -> np.ndarray[Any, np.dtype[np.float64]]:
    found = [SIZE.fullmatch(name) for name in names]
    depth, width = np.array([(m["depth"], m["width"]) for m in found if m], dtype=float).T
    return np.column_stack([depth * width**2, width])


def _unique(table: RunTable, unit: str) -> float | None:
    """What the data hold, as the records state it."""
    sizes = [_part(cell, f"n_unique_{unit}") for cell in table.frame.get("data", [])]
    known = [float(size) for size in sizes if isinstance(size, (int, float)) and size > 0]
    return max(known, default=None)


def _overrides(table: RunTable, study: str, family: str, data: str | None) -> str | None:
    """A preset that bears the study's name; else the choices that its family and data need."""
    preset = CONFIGURATION / "experiment" / f"{study}.yaml"
    if study in _options("experiment"):
        by_flops = "override /budget: flops" in preset.read_text()
        return f"experiment={study}" + " budget.flops=null" * by_flops
    objectives = {
        str(_part(_part(cell, "objective"), "_target_")).rpartition(".")[2]
        for cell in table.frame.get("hyperparameters", [])
    }
    known = family in OF_FAMILY and objectives == {NOTHING_ELSE[family]}
    if not known or data not in _options("data") or not PLAIN.fullmatch(study):
        return None
    batch = _of_all(table.frame["batch_size"].tolist()) if "batch_size" in table.frame else None
    parts = [f"data={data}", OF_FAMILY[family], f"study={study}"]
    parts += [] if batch is None else [f"batch_size={int(batch)}"]
    return " ".join(part for part in parts if part)


def choice(name: str) -> str:
    """How `model=` calls a size: gpt/4x128 for gpt_4x128."""
    return name.replace("_", "/", 1)


def _options(group: str) -> set[str]:
    """Names of a configuration group; none where only the analysis is installed."""
    return {path.stem for path in (CONFIGURATION / group).glob("*.yaml")}


def _part(cell: Any, key: str) -> Any:
    return cell.get(key) if isinstance(cell, dict) else None


def _of_all(values: list[Any]) -> Any:
    """The value that all share; None if there is none."""
    return values[0] if values and all(v == values[0] for v in values) else None
