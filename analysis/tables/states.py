"""Which rows are of runs that finished, however a tracker or a scheduler spells it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

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
STATE = re.compile(r"(.*_|job|run|task)?(state|status)")
RESULT = {"result", "outcome", "run_result", "job_result"}
EXIT = re.compile(r"(.*_)?(exit_?(code|status)|return_?code)")
EXIT_CELL = re.compile(r"\d+(_\d+)?")  # 0, 137.0, and 0:15 of Slurm
# Codes of schedulers, which are used only where all cells are among them.
CODES = (
    ({"cd"}, {"r", "f", "pd", "ca", "to", "oom", "nf", "pr", "cg", "bf", "dl", "s", "st", "rq"}),
    ({"c"}, {"r", "q", "e", "h", "f"}),
    ({"f"}, {"r", "q", "e", "h"}),
)
ASKED = re.compile(r"(is|has|was|did|run|job|training)_")  # is_done is done
EARLY = {"terminated", "terminated_early", "stopped_early", "killed_early", "timed_out"}
TRUE, FALSE = {"true", "yes", "y", "1", "1_0"}, {"false", "no", "n", "0", "0_0"}
# Called so, zeros and ones may be a metric.
NO_COUNT, COUNTS = {"error", "success", "successful"}, {"0", "1", "0_0", "1_0"}


def plain_name(column: object) -> str:
    """A column's name without its spelling: "Run State" and "run.state" are run_state."""
    return re.sub(r"[^a-z0-9]+", "_", str(column).lower()).strip("_")


def run_states(frame: pd.DataFrame) -> Iterator[tuple[str, pd.Series[str], pd.Series[bool]]]:
    """Columns that tell the state of a run: name, state of each row, whether it finished.

    A column is one of these by its name (State, run_status, ...) and by holding at least one
    known state, by being a truth value called finished, is_done, failed or the like, or by being
    an exit code. What is no state of a finished run is unfinished, a missing cell too.
    """
    for column in frame:
        name = plain_name(column)
        asked = ASKED.sub("", name, count=1) if ASKED.match(name) else name
        truth = asked in FINISHED | UNFINISHED | EARLY
        state_name, exit_name = STATE.fullmatch(name), EXIT.fullmatch(name)
        if not (state_name or exit_name or name in RESULT or truth):
            continue
        shown = _words(frame[column])
        state = shown.map(plain_name)
        known = set(state) - {"missing"}
        if not known:
            continue
        finished = _finished_states(known, strict=name in RESULT)
        if exit_name and all(EXIT_CELL.fullmatch(cell) for cell in known):
            yield str(column), shown, state.isin({"0", "0_0"})
        elif (state_name or name in RESULT) and finished:
            yield str(column), shown, state.isin(finished)
        elif truth and known <= TRUE | FALSE and not (asked in NO_COUNT and known & COUNTS):
            yield str(column), shown, state.isin(TRUE if asked in FINISHED else FALSE)


def truths(values: pd.Series[Any]) -> tuple[pd.Series[bool], set[str]]:
    """A column of yes and no as truth values, missing cells as no; and the words that are neither.

    A number is true unless it is zero.
    """
    shown = _words(values)
    words = shown.map(plain_name)
    numbers = pd.to_numeric(shown, errors="coerce")
    odd = ~words.isin(TRUE | FALSE | {"missing", "", "nan", "none"}) & numbers.isna()
    return words.isin(TRUE) | (numbers.notna() & (numbers != 0)), set(shown[odd])


def _words(values: pd.Series[Any]) -> pd.Series[str]:
    return values.astype(object).where(values.notna(), "missing").astype(str)


def _finished_states(known: set[str], strict: bool) -> set[str]:
    """The states that mean "finished" in a column of these; none where it tells no states.

    "cancelled by 1000" is a state by its first word. A strict column holds states alone.
    """
    states = {s for s in known if s in FINISHED | UNFINISHED or s.split("_")[0] in UNFINISHED}
    if states and (not strict or (states == known and known & FINISHED)):
        return FINISHED
    if not strict:
        for good, bad in CODES:
            if known <= good | bad and known & good and known & bad:
                return good
    return set()
