"""The record of a finished run: every column, its unit, its schema version.

One record is one point of a scaling plot. `analysis` reads these files without importing this
module; a contract test keeps both sides in step.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

SCHEMA_VERSION = 1

# Unit of each numeric column. Metrics bring their own units along.
UNITS = {
    "n_params_total": "parameters",
    "n_params_non_embedding": "parameters",
    "n_params_matmul": "parameters",
    "n_tokens": "tokens",
    "n_tokens_unique": "tokens",
    "n_samples": "samples",
    "n_samples_unique": "samples",
    "n_units": "units",  # as the record's `unit` says
    "n_units_unique": "units",
    "flops": "FLOP",
    "flops_causal": "FLOP",
    "flops_6nd": "FLOP",
    "flops_6nd_non_embedding": "FLOP",
    "flops_6nd_matmul": "FLOP",
    "flops_marginal": "FLOP",
    "forward_macs_image": "MAC/sample",
    "forward_macs_text": "MAC/sample",
    "n_steps": "steps",
    "warmup_steps": "steps",
    "cooldown_steps": "steps",
    "batch_size": "items",
    "batch_tokens": "tokens",
    "val_batch_size": "items",
    "lr_peak": "1",
    "seconds_train": "s",
    "seconds_train_marginal": "s",
    "seconds_eval": "s",
    "tokens_per_second": "tokens/s",
    "samples_per_second": "samples/s",
    "units_per_second": "units/s",
    "matmul_flops_per_second": "FLOP/s",
    "flops_utilization": "1",
}

# Columns that differ between a run and its repetition: measured times and dates.
TIMES = frozenset({
    "seconds_train", "seconds_train_marginal", "seconds_eval", "tokens_per_second",
    "samples_per_second", "units_per_second", "matmul_flops_per_second", "flops_utilization",
    "started_at", "finished_at",
})  # fmt: skip


@dataclass(frozen=True)
class Evaluation:
    """Which settings of an evaluator gave which metrics of a record."""

    evaluator: str
    settings: dict[str, Any]  # its section of the configuration
    metrics: list[str]
    finished_at: str
    commit: str | None  # of the source tree


@dataclass(frozen=True)
class RunRecord:
    """One annealed end point (or one that diverged) with all that is needed to trust it.

    Columns of the other family stay None and are left out of the file: missing is missing. So is
    all that is not known of the training of an imported model.
    """

    run_id: str
    study: str
    family: str  # "gpt", "clip", "captioner", "word_predictor" or one's own
    model: str  # layers x width, e.g. "gpt_4x128"
    trunk_id: str
    seed: int | None  # None: a model that was trained elsewhere
    status: str  # "completed" or "diverged"
    annealed: bool  # learning rate decayed to its end: the only points that are fitted
    schedule: str  # "wsd", "cosine", "constant" or "imported"

    n_params_total: int
    n_params_non_embedding: int
    n_params_matmul: int
    n_params_by_group: dict[str, int]

    # D counts what was processed along the run's path, repeats included: tokens, samples, or units
    # of a family's own.
    unit: str | None = None  # what D counts; None: a record that is older than this column
    n_tokens: int | None = None
    n_tokens_unique: int | None = None
    n_samples: int | None = None
    n_samples_unique: int | None = None
    n_units: int | None = None
    n_units_unique: int | None = None

    # C of the whole path from step 0, in each counting convention.
    flops: float | None = None
    flops_causal: float | None = None
    flops_6nd: float | None = None
    flops_6nd_non_embedding: float | None = None
    flops_6nd_matmul: float | None = None
    flops_marginal: float | None = None  # what this run cost beyond the trunk it shares
    flops_formula: str = ""
    # Multiply-adds of one image and of one caption, forward only; one is two FLOPs.
    forward_macs_image: int | None = None
    forward_macs_text: int | None = None

    n_steps: int | None = None
    batch_size: int | None = None
    batch_tokens: int | None = None
    warmup_steps: int | None = None
    cooldown_steps: int | None = None
    lr_peak: float | None = None
    hyperparameters: dict[str, Any] = field(default_factory=dict)
    data: dict[str, Any] = field(default_factory=dict)
    environment: dict[str, Any] = field(default_factory=dict)
    git: dict[str, Any] = field(default_factory=dict)

    seconds_train: float | None = None  # along the path from step 0
    seconds_train_marginal: float | None = None  # of this run beyond its trunk
    seconds_eval: float | None = None
    tokens_per_second: float | None = None
    samples_per_second: float | None = None
    units_per_second: float | None = None
    matmul_flops_per_second: float | None = None  # of large products here, in this precision
    flops_utilization: float | None = None  # share of that rate which `flops` were trained at

    val_batch_size: int | None = None
    family_metrics: list[str] | None = None  # that its studies are about, the loss first
    metrics: dict[str, float] = field(default_factory=dict)
    units: dict[str, str] = field(default_factory=dict)
    evaluations: list[Evaluation] = field(default_factory=list)  # a metric is in one of them
    started_at: str = ""
    finished_at: str = ""
    schema_version: int = SCHEMA_VERSION

    @property
    def counted(self) -> str:
        """The word for D in columns and logged rows: tokens, samples or units."""
        words = ("tokens", "samples", "units")
        held = [word for word in words if getattr(self, f"n_{word}") is not None]
        return held[0] if held else self.unit or "samples"

    @property
    def n_processed(self) -> int | None:
        """D; None for an imported model."""
        return next(
            (n for n in (self.n_tokens, self.n_samples, self.n_units) if n is not None), None
        )

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready form; columns without a value are left out."""
        row = {k: v for k, v in dataclasses.asdict(self).items() if v is not None}
        own = self.unit or "units"
        units = {k: UNITS[k].replace("units", own) for k in row if k in UNITS}
        row["units"] = units | self.units
        return row

    def with_evaluation(
        self, evaluation: Evaluation, metrics: dict[str, float], units: dict[str, str]
    ) -> RunRecord:
        """This record with an evaluator's metrics; what was measured before is replaced.

        A metric belongs to the evaluation that measured it last, so that the settings stored
        beside it are those that gave its value.
        """
        assert set(metrics) == set(units) == set(evaluation.metrics), evaluation
        earlier = [
            dataclasses.replace(e, metrics=[name for name in e.metrics if name not in metrics])
            for e in self.evaluations
        ]
        return dataclasses.replace(
            self,
            metrics={**self.metrics, **metrics},
            units={**self.units, **units},
            evaluations=[*(e for e in earlier if e.metrics), evaluation],
        )

    def flat(self) -> dict[str, Any]:
        """As `flat`, what a tracker shows of the run."""
        return flat(self.to_dict())

    @staticmethod
    def check(row: dict[str, Any]) -> None:
        """Refuse a stored record that this release would misread.

        Raises:
            KeyError, TypeError: if it is no record.
            ValueError: if the schema version is unknown or a column is not.
        """
        version = row["schema_version"]
        if version != SCHEMA_VERSION:
            raise ValueError(
                f"record {row.get('run_id')!r} has schema_version {version!r}, this release reads "
                f"{SCHEMA_VERSION}"
            )
        unknown = sorted(set(row) - COLUMNS)
        if unknown:
            raise ValueError(f"record {row.get('run_id')!r} has unknown columns {unknown}")
        if absent := sorted(REQUIRED - set(row)):
            raise KeyError(", ".join(absent))
        if not all(isinstance(v, float | int) for v in row.get("metrics", {}).values()):
            raise TypeError("metrics that are no numbers")

    @staticmethod
    def from_dict(row: dict[str, Any]) -> RunRecord:
        """Read a record back; ValueError for an unknown schema version or column."""
        RunRecord.check(row)
        evaluations = [Evaluation(**entry) for entry in row.get("evaluations", [])]
        return RunRecord(**{"seed": None, **row, "evaluations": evaluations})


def flat(row: Mapping[str, Any]) -> dict[str, Any]:
    """A stored record as one row: every column of one number or text, metrics included."""
    cells = {k: v for k, v in row.items() if not isinstance(v, dict | list)}
    for name, part in (("tokenizer", "data"), ("precision", "environment")):
        value = row.get(part, {}).get(name)
        if value is not None:
            cells[name] = value if isinstance(value, str) else json.dumps(value, sort_keys=True)
    return {**cells, **row["metrics"]}


COLUMNS = frozenset(field.name for field in dataclasses.fields(RunRecord))
REQUIRED = frozenset(
    f.name
    for f in dataclasses.fields(RunRecord)
    if f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING
) - {"seed"}  # a model that was trained elsewhere has none
