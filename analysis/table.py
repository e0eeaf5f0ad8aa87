"""A table of runs that remembers what was taken out of it and why."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd

from analysis.laws.law import Array
from analysis.numerals import read_numeral

# Cells that say "no value" (dropped and counted), or that float() reads by itself.
NO_NUMBER = ("nan", "inf", "-inf", "-", "–", "—", "n/a", "na", "none", "null", "n.a.")
SHOWN = 5  # ids named in a one-line account of a drop

# What a column of a run record is measured in; other columns keep the unit their file states.
UNITS = {
    "N": "parameters",
    "D": "tokens or samples",
    "C": "FLOPs",
    "U": "unique tokens or samples",
    "S": "steps",
}


# Counting conventions of a run record: columns for N, columns for C.
N_COLUMNS = ("n_params_total", "n_params_non_embedding", "n_params_matmul")
D_COLUMNS = ("n_tokens", "n_samples")
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
    N -> n_params_total or D -> "C / (6 N)".
    """

    frame: pd.DataFrame
    dropped: tuple[Dropped, ...] = ()
    warnings: tuple[str, ...] = ()
    conventions: Mapping[str, str] = field(default_factory=dict)
    source: str = "data frame"

    def __len__(self) -> int:
        return len(self.frame)

    @property
    def ids(self) -> list[str]:
        """A name for every row: its run id, or its place in the file."""
        if "run_id" in self.frame:
            return [str(v) for v in self.frame["run_id"]]
        return [f"row {int(i) + 1}" for i in self.frame.index]

    def keep(self, mask: Any, reason: str) -> RunTable:
        """Rows where `mask` holds; the others are accounted for under `reason`."""
        mask = np.asarray(mask, dtype=bool)
        if mask.all():
            return self
        gone = tuple(name for name, kept in zip(self.ids, mask, strict=True) if not kept)
        return replace(
            self,
            frame=self.frame.loc[mask].copy(),
            dropped=(*self.dropped, Dropped(reason, gone)),
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
        if values.dtype == bool or not pd.api.types.is_numeric_dtype(values):
            written = values.map(lambda v: read_numeral(v) if isinstance(v, str) else None)
            converted = pd.to_numeric(written.where(written.notna(), values), errors="coerce")
            text = converted.isna() & values.notna() & (values.astype(str).str.strip() != "")
            text &= ~values.astype(str).str.strip().str.lower().isin(NO_NUMBER)
            if text.any():
                at = int(np.flatnonzero(text.to_numpy())[0])
                raise TableError(
                    f"{self.source}: column {column!r}, {self.ids[at]} holds the text "
                    f"{values.iloc[at]!r} where a number is needed"
                    + (f" ({int(text.sum())} rows in all)" if text.sum() > 1 else "")
                )
            values = converted
        return values.to_numpy(dtype=float, na_value=np.nan)

    def account(self) -> str:
        """What was dropped, one line a reason."""
        if not self.dropped:
            return "nothing dropped"
        return "\n".join(str(d) for d in self.dropped)


def as_table(data: RunTable | pd.DataFrame) -> RunTable:
    if isinstance(data, RunTable):
        return data
    if not isinstance(data, pd.DataFrame):
        raise TableError(f"expected a RunTable or a DataFrame, got {type(data).__name__}")
    return RunTable(data.reset_index(drop=True))
