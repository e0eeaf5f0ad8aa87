"""Which rows are of runs that finished, however a tracker or a scheduler spells it."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pandas as pd

FINISHED = {
    "finished", "finish", "success", "succeeded", "successful", "done", "completed", "complete",
    "ok",
}  # fmt: skip
UNFINISHED = {
    "crashed", "crash", "running", "failed", "fail", "failure", "killed", "preempted", "preempting",
    "pending", "queued", "scheduled", "starting", "created", "aborted", "cancelled", "canceled",
    "interrupted", "stopped", "paused", "suspended", "pruned", "diverged", "nan", "timeout",
    "error", "errored", "oom", "out_of_memory", "node_fail", "in_progress", "incomplete",
    "unfinished",
}  # fmt: skip
STATE = re.compile(r"(.*_)?(state|status)")
TRUE, FALSE = {"true", "yes"}, {"false", "no"}


def plain_name(column: object) -> str:
    """A column's name without its spelling: "Run State" and "run.state" are run_state."""
    return re.sub(r"[^a-z0-9]+", "_", str(column).lower()).strip("_")


def run_states(frame: pd.DataFrame) -> Iterator[tuple[str, pd.Series[str], pd.Series[bool]]]:
    """Columns that tell the state of a run: name, state of each row, whether it finished.

    A column is one of these by its name (State, run_status, ...) and by holding at least one
    known state, or by being a truth value called finished, failed or the like. What is no state
    of a finished run is unfinished, a missing cell too.
    """
    for column in frame:
        name = plain_name(column)
        if not (STATE.fullmatch(name) or name in FINISHED | UNFINISHED):
            continue
        shown = frame[column].astype(object).where(frame[column].notna(), "missing").astype(str)
        state = shown.map(plain_name)
        known = set(state) - {"missing"}
        if STATE.fullmatch(name) and known & (FINISHED | UNFINISHED):
            yield str(column), shown, state.isin(FINISHED)
        elif name in FINISHED | UNFINISHED and known and known <= TRUE | FALSE:
            yield str(column), shown, state.isin(TRUE if name in FINISHED else FALSE)
