"""Runs from a Weights & Biases project, by the public Api and `scan_history`.

Histories are read in full (`history()` samples rows and would lose the last ones). wandb is
imported when used; the run store is the better source where both exist.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from analysis.tables.hyperparameters import differing
from analysis.tables.table import Dropped, RunTable, TableError

CHART = re.compile(r"(.+) - (.+)")  # a column of an exported chart: run and metric
STATES = {"finished": "completed", "crashed": "failed", "failed": "failed", "running": "running"}


def load_wandb(
    project: str,
    keys: Sequence[str],
    filters: Mapping[str, Any] | None = None,
    every: bool = False,
    base_url: str | None = None,
) -> RunTable:
    """One row a run: its config, its summary, and the last logged value of each key.

    Args:
        project: "entity/project".
        keys: history keys, for example ["val/loss", "tokens"]; `split/name` becomes `split_name`.
        filters: passed to `Api().runs` (MongoDB style).
        every: one row for each logged step that has all keys, with `annealed` as logged
            (a learning curve), instead of the last one.
        base_url: another server than wandb.ai.
    """
    try:
        import wandb
    except ImportError as error:
        raise TableError("reading W&B needs wandb: pip install wandb") from error
    api = wandb.Api(overrides={"base_url": base_url} if base_url else None)
    rows: list[dict[str, Any]] = []
    configs: list[dict[str, Any]] = []
    dropped: dict[str, list[str]] = {}
    for run in api.runs(project, filters=dict(filters or {})):
        state = STATES.get(run.state, str(run.state))
        # A tag of ours (status "diverged") is worth more than W&B's process state.
        status = str(run.summary.get("status", state))
        fixed = {
            **{k: v for k, v in dict(run.config).items() if not k.startswith("_")},
            **{column(k): v for k, v in dict(run.summary).items() if not k.startswith("_")},
            "status": status,
        }
        # A run that several studies use is a W&B run in the group of each.
        ours = "schema_version" in run.summary
        run_id = str(run.summary["run_id"]) if ours else run.id
        logged = [row for row in run.scan_history(keys=list(keys))]
        complete = [r for r in logged if all(r.get(k) is not None for k in keys)]
        if not complete:
            dropped.setdefault(f"no history row has {', '.join(keys)}", []).append(run_id)
            continue
        chosen = complete if every else complete[-1:]
        for position, row in enumerate(chosen):
            values = {column(k): row[k] for k in keys}
            name = f"{run_id}@{position}" if every else run_id
            rows.append({**fixed, **values, "run_id": name, "trunk_id": run_id})
            configs.append({"hyperparameters": dict(run.config)})
    for row, own in zip(rows, differing(configs), strict=True):
        row |= {key: value for key, value in own.items() if key not in row}
    accounts = tuple(Dropped(reason, tuple(ids)) for reason, ids in dropped.items())
    if not rows and not accounts:
        raise TableError(f"{project}: no runs (filters: {filters or 'none'})")
    return RunTable(pd.DataFrame(rows), accounts, source=f"wandb {project}")


def unfold_chart(table: RunTable, sizes: Mapping[str, float]) -> RunTable:
    """The export of a chart, one column a run, as one row for each run and step.

    Args:
        sizes: parameters of each run, by the name it has in the chart.

    Returns:
        The step's columns, `run`, `size` and the metric by its name; a table that is no such
        export as it is.

    Raises:
        TableError: if the size of a run is missing.
    """
    frame = table.frame
    lines = {c: CHART.fullmatch(str(c)) for c in frame if {f"{c}__MIN", f"{c}__MAX"} <= set(frame)}
    curves = {str(c): (found[1], found[2]) for c, found in lines.items() if found}
    if not curves:
        return table
    unknown = [run for run, _ in curves.values() if run not in sizes]
    if unknown:
        raise TableError(
            f"{table.source} is a chart of {', '.join(run for run, _ in curves.values())}: say how "
            f"large they are, --sizes {unknown[0]}=70M,..., and --d 'Step * TOKENS' --c-from 6nd"
        )
    ends = [f"{c}{end}" for c in curves for end in ("", "__MIN", "__MAX")]
    steps = frame.drop(columns=ends)
    rows = [
        steps.assign(run=run, size=sizes[run], **{metric: table.numbers(c)})
        for c, (run, metric) in curves.items()
    ]
    long = table.with_frame(pd.concat(rows, ignore_index=True))
    metrics = list(dict.fromkeys(metric for _, metric in curves.values()))
    return long.keep(long.frame[metrics].notna().any(axis=1), "the run logged nothing at this step")


def column(key: str) -> str:
    """Logged key -> column: val/loss -> val_loss."""
    return key.replace("/", "_")
