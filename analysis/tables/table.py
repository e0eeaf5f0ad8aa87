"""A table of runs that remembers what was taken out of it and why."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from numbers import Number
from typing import Any, NoReturn

import numpy as np
import pandas as pd

from analysis.laws.law import Array
from analysis.tables.number_formats import decimal_marks, is_percent, readings
from analysis.tables.states import plain_name

# Cells that say "no value" (dropped and counted), or that float() reads by itself.
NO_NUMBER = (
    "", "nan", "inf", "-inf", "infinity", "-infinity", "-", "–", "—", "n/a", "na", "none", "null",
    "n.a.",
)  # fmt: skip
OWN = " (of the file)"  # ends the name of a column that a letter hides
ROW_NAMES = ("name", "run", "run_name", "run_id", "model", "model_name", "label", "id")
SHOWN = 5  # ids named in a one-line account of a drop

# Counting conventions of a run record: columns for N, columns for C.
N_COLUMNS = ("n_params_total", "n_params_non_embedding", "n_params_matmul")
D_COLUMNS = ("n_tokens", "n_samples", "n_units")
C_COLUMNS = ("flops", "flops_causal", "flops_6nd", "flops_6nd_non_embedding", "flops_6nd_matmul")


class TableError(ValueError):
    """The input cannot be used as it is; the message names the place and the remedy."""


@dataclass(frozen=True)
class Dropped:
    """Rows that left the table, in one step, for one reason."""

    reason: str
    rows: tuple[str, ...]

    @property
    def count(self) -> int:
        return len(self.rows)

    def __str__(self) -> str:
        shown = ", ".join(self.rows[:SHOWN])
        more = f", and {self.count - SHOWN} more" if self.count > SHOWN else ""
        return f"{self.count} dropped: {self.reason} ({shown}{more})"

    def to_dict(self) -> dict[str, Any]:
        return {"reason": self.reason, "count": self.count, "rows": list(self.rows)}


@dataclass(frozen=True)
class RunTable:
    """Runs as rows, with an account of every row that is no longer there.

    `conventions` says which source column stands for which letter, for example
    N -> n_params_total or D -> "C / (6 N)". `pooled` names columns whose values may be fitted as
    one though their metrics are not comparable. `all_runs` keeps runs that did not finish.
    """

    frame: pd.DataFrame
    dropped: tuple[Dropped, ...] = ()
    warnings: tuple[str, ...] = ()
    conventions: Mapping[str, str] = field(default_factory=dict)
    source: str = "data frame"
    pooled: tuple[str, ...] = ()
    all_runs: bool = False

    def __len__(self) -> int:
        return len(self.frame)

    @property
    def ids(self) -> list[str]:
        """A name for every row: its run id, a column of names, or its place in the file."""
        if "run_id" in self.frame:
            return [str(v) for v in self.frame["run_id"]]
        for column in self.frame:
            if plain_name(column) in ROW_NAMES and self.frame[column].notna().all():
                names = [str(v) for v in self.frame[column]]
                if len(set(names)) == len(names):
                    return names
        return [f"row {int(i) + 1}" for i in self.frame.index]

    @property
    def given(self) -> pd.DataFrame:
        """The frame under the file's own names, also where a letter (N, metric, ...) has one."""
        hidden = [c for c in self.frame if isinstance(c, str) and c.endswith(OWN)]
        shown = self.frame.drop(columns=[c.removesuffix(OWN) for c in hidden])
        return shown.rename(columns={c: c.removesuffix(OWN) for c in hidden})

    def own(self, name: str) -> str:
        """Where the column is that a user calls so; dropout may stand for model.dropout."""
        if name + OWN in self.frame:
            return name + OWN
        longer = [c for c in self.frame if isinstance(c, str) and c.endswith("." + name)]
        return longer[0] if name not in self.frame and len(longer) == 1 else name

    def keep(self, mask: Any, reason: str) -> RunTable:
        """Rows where `mask` holds; the others are accounted for under `reason`."""
        mask = np.asarray(mask, dtype=bool)
        if mask.all():
            return self
        gone = tuple(name for name, kept in zip(self.ids, mask, strict=True) if not kept)
        return replace(
            self, frame=self.frame.loc[mask].copy(), dropped=(*self.dropped, Dropped(reason, gone))
        )

    def warn(self, message: str) -> RunTable:
        return replace(self, warnings=(*self.warnings, message))

    def with_frame(self, frame: pd.DataFrame) -> RunTable:
        return replace(self, frame=frame)

    def numbers(self, column: str) -> Array:
        """A column as floats, or an error that names the offending row."""
        if column not in self.frame:
            have = ", ".join(map(str, self.frame.columns[:40]))
            raise TableError(f"column {column!r} is not in {self.source}; there are: {have}")
        values = self.frame[column]
        if not is_number(values):
            values = self._read(column)
        return values.to_numpy(dtype=float, na_value=np.nan)

    def _read(self, column: str) -> pd.Series[float]:
        """A column of text as numbers, under the one decimal mark that all its cells allow."""
        values = self.frame[column]
        odd = values.map(lambda v: not (v is None or v is pd.NA or isinstance(v, str | Number)))
        cells = numerals_of(values)
        mark, example = decimal_marks(cells)
        percent = [cell for cell in cells if is_percent(cell)]
        plain = [cell for cell in cells if not is_percent(cell)]
        if odd.any() or mark == "text":
            text = odd | values.isin([cell for cell in cells if not readings(cell)])
            more = f" ({int(text.sum())} rows in all)" if text.sum() > 1 else ""
            self._refuse(column, text, f"where a number is needed{more}")
        if mark == "mixed":
            self._refuse(column, values == example, "beside cells with another decimal mark")
        if mark == "3,765":
            low, high = sorted(readings(example).values())
            self._refuse(
                column, values == example,
                f"which is {low:.15g} or {high:.15g}: --decimal , reads it with a decimal comma, "
                "--decimal . with a mark of thousands",
            )  # fmt: skip
        if percent and plain:
            self._refuse(column, values == percent[0], f"beside the plain number {plain[0]!r}")
        read = {cell: readings(cell)["," if mark == "," else "."] for cell in cells}
        numbers = values.map(lambda v: read.get(v, v) if isinstance(v, str) else v)
        return pd.to_numeric(numbers, errors="coerce")

    def _refuse(self, column: str, rows: pd.Series[bool], why: str) -> NoReturn:
        at = int(np.flatnonzero(rows.to_numpy())[0])
        raise TableError(
            f"{self.source}: column {column!r}, {self.ids[at]} holds the text "
            f"{self.frame[column].iloc[at]!r} {why}"
        )

    def account(self) -> str:
        """What was dropped, one line a reason."""
        if not self.dropped:
            return "nothing dropped"
        return "\n".join(str(d) for d in self.dropped)


def is_number(values: pd.Series[Any]) -> bool:
    """True for a column of numbers; truth values are text here."""
    return pd.api.types.is_numeric_dtype(values) and not pd.api.types.is_bool_dtype(values)


def numerals_of(values: pd.Series[Any]) -> list[str]:
    """The different cells of text that should be numbers: those that mark nothing are left out."""
    texts = dict.fromkeys(v for v in values if isinstance(v, str))
    return [v for v in texts if v.strip().lower() not in NO_NUMBER]


def as_table(data: RunTable | pd.DataFrame) -> RunTable:
    if isinstance(data, RunTable):
        return data
    if not isinstance(data, pd.DataFrame):
        raise TableError(f"expected a RunTable or a DataFrame, got {type(data).__name__}")
    return RunTable(data.reset_index(drop=True))


def between(names: Iterable[Any], before: str, after: str) -> dict[str, str]:
    """What varies in names of one form, e.g. the task of `probe_<task>_accuracy` -> the name.

    Metrics of one kind differ in the middle of their names alone, and every table, a CSV too, has
    the names; `tests/test_contract.py` holds them to those that evaluators give.
    """
    return {
        name[len(before) : len(name) - len(after)]: name
        for name in map(str, names)
        if name.startswith(before) and name.endswith(after) and len(name) > len(before + after)
    }


def metrics_of(table: RunTable) -> tuple[str, ...]:
    """The columns that a study of a run store is about, the loss first: as its family says, or, in
    records that do not say, as those of GPT and CLIP were."""
    stated = [m for m in table.frame.get("family_metrics", ()) if isinstance(m, list)]
    if stated:
        return tuple(stated[-1])
    return ("val_loss", "zero_shot_error")[: 2 if data_column(table) == "n_samples" else 1]


def data_column(table: RunTable) -> str | None:
    """The column of a run store that holds D: tokens, samples or units of a family's own; None if
    the runs have none, or several."""
    held = [c for c in D_COLUMNS if c in table.frame and table.frame[c].notna().any()]
    return held[0] if len(held) == 1 else None
