"""Which runs may be fitted as one: what a metric depends on is refused, the rest is reported.

A law is of size and data. Whatever else differs among its runs (hyperparameters, data sets,
precision) moves the metric too, and pooled it looks like noise.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd

from analysis.laws.law import Array
from analysis.tables.number_formats import decimal_marks
from analysis.tables.states import STATE, plain_name, run_states
from analysis.tables.table import RunTable, TableError, is_number, numerals_of

# Runs that differ in these have metrics that cannot be compared.
REFUSED = {
    "family", "tokenizer", "content", "content_sha256", "content_hash", "data_sha256", "data_hash",
}  # fmt: skip
# A contrastive loss depends on the batch it is evaluated on; no other loss does.
EVALUATION_BATCH = re.compile(r"(.*_)?(val|valid|validation|eval|evaluation|test)_batch(_size)?")
CONTRASTIVE = re.compile(r"clip|contrastive|siglip|info_?nce|simclr", re.IGNORECASE)
SAYS_CONTRASTIVE = {"family", "model", "arch", "architecture", "objective", "loss", "loss_type"}
NOT_CONTRASTIVE = {"gpt", "captioner", "word_predictor"}  # families of the run store
# Reported whenever they differ.
POOLED = {
    "task", "benchmark", "dataset", "dataset_name", "data", "data_name", "data_set", "corpus",
    "eval_set", "evaluation_set", "experiment", "split", "source", "precision", "vocab_size",
    "data_n_val_tokens", "data_n_val_samples",
}  # fmt: skip
# Follow size and data by rule: reported where they differ at one size and data.
BY_RULE = re.compile(
    r"(.*_)?(lr|lr_\w+|learning_rate|batch|batch_size|batch_tokens|batch_ramp\w*|warmup\w*"
    r"|cooldown\w*|epochs?)"
)
# Reported whenever they differ, as are the sections of a record that SECTIONS names.
SETTINGS = re.compile(
    r"(.*_)?(dropout|weight_decay|wd|momentum|betas?|beta_?[12]|eps|epsilon|clip|gradient_clip_val"
    r"|grad_clip|label_smoothing|temperature|ema\w*|seq_len|sequence_length|context_length"
    r"|block_size)"
)
SECTIONS = ("model.", "objective.", "optimizer.", "schedule.", "data.")
# Names of runs, sizes and places; not what a run was trained with.
NAMES = re.compile(
    r"(.*_)?(run|name|id|trunk|study|label|model|size|checkpoint|ckpt|notes?|user|host|hostname"
    r"|tags?|sweep|group|path|file|url|commit|seed|replicate|repeat|trial|device|date|created"
    r"|updated|at|time|started|finished|formula|cache|annealed)"
)
SHOWN = 5
UNIQUE = re.compile(r"(data_)?n_unique(_tokens|_samples)?")
RECIPE = "model.shape.recipe."  # not a size: models of another kind
# A column is reported where each of its few values holds several of the same sizes and data, unless
# a word of its name says that it counts runs, places or outcomes.
CROSSED = 2, 5  # fewest and most values
SAME_PLACES = 2
LARGEST_CODE = 1000
NO_GROUP = {
    "seed", "seeds", "replicate", "repeat", "rep", "trial", "fold", "run", "runs", "trunk",
    "study", "sweep", "user", "host", "hostname", "device", "devices", "gpu", "gpus", "node",
    "worker", "rank", "date", "created", "updated", "at", "time", "started", "finished", "notes",
    "note", "annealed", "cache", "size", "checkpoint", "ckpt", "formula", "index", "idx", "row",
    "random", "rng", "init", "attempt", "restart", "commit", "url", "name", "exit", "code",
    "split", "step", "steps",
}  # fmt: skip
GROUP_IDS = {"dataset_id", "data_id", "corpus_id", "optimizer_id", "tokenizer_id", "task_id"}


def check_agreement(table: RunTable, metric: str, letters: Sequence[str]) -> RunTable:
    """Refuse to pool runs whose metric is not comparable; warn where it may not be.

    Args:
        letters: columns that the law is of.

    Raises:
        TableError: if runs mix tokenizers, families, contents of the data, or, for a contrastive
            loss, batches of the evaluation; unless `table.pooled` names the column.
    """
    told: set[bytes] = set()
    for column, values, refused in sorted(
        _differing(table, metric, letters), key=lambda d: not d[2]
    ):
        codes = pd.factorize(values)[0]
        if codes.tobytes() in told or (column in table.pooled and not refused):
            continue
        told.add(codes.tobytes())
        names = sorted(values.dropna().astype(str).unique())
        shown = ", ".join(names[:SHOWN]) + (", ..." if len(names) > SHOWN else "")
        if refused and column not in table.pooled:
            raise TableError(
                f"the runs mix {len(names)} values of {column} ({shown}); their metrics are not "
                f"comparable. Choose one: --where '{column} == ...', fit each: --by {column}, or "
                f"take them as one: --pool {column}"
            )
        table = table.warn(
            f"one law for {len(names)} values of {column} ({shown}): --by {column} fits each, "
            f"--where '{column} == ...' keeps one"
        )
    return table


def _differing(
    table: RunTable, metric: str, letters: Sequence[str]
) -> Iterator[tuple[str, pd.Series[Any], bool]]:
    """Columns that differ and should not: name, values, whether that is refused."""
    sources = {*letters, metric, *table.conventions, *table.conventions.values()}
    given = table.given
    along = [table.numbers(letter) for letter in letters]
    others = [table.numbers(c) for c in table.conventions if c in "NDCUS" and c not in letters]
    foreign = "schema_version" not in given
    states = {column for column, _, _ in run_states(given)} if foreign else set()
    for column in map(str, given):
        if column in sources and table.own(column) == column:
            continue
        values = given[column]
        try:
            if values.nunique() < 2:
                continue
        except TypeError:  # nested parts of a record
            continue
        name = plain_name(column)
        if name in REFUSED or name.removeprefix("data_") in REFUSED:
            yield column, values, True
        elif EVALUATION_BATCH.fullmatch(name):
            depends = _on_batch(table, metric)
            if depends is not False:
                yield column, values, bool(depends)
        elif name in POOLED:
            yield column, values, False
        elif BY_RULE.fullmatch(name) or column.startswith("rules."):
            if _crossed(values, [*along, *others]):
                yield column, values, False
        elif column.startswith(RECIPE):
            yield column, values, False
        elif UNIQUE.fullmatch(name):
            if "U" not in letters and _repeats(table, values):
                yield column, values, False
        elif column.startswith(("data.n_", "model.shape.")):
            continue
        elif foreign and column not in states and _is_group(name, values, along):
            yield column, values, False
        elif NAMES.fullmatch(name):
            continue
        else:
            known = SETTINGS.fullmatch(name) or column.startswith(SECTIONS)
            places = [*along, *others]
            if known or (_is_label(name, values) and not any(_separate(values, x) for x in places)):
                yield column, values, False


def _on_batch(table: RunTable, metric: str) -> bool | None:
    """Whether the metric depends on the batch it was measured on; None where nothing tells."""
    shown = table.conventions.get(metric, metric)
    words = [shown]
    for column in table.given:
        if plain_name(column).split("_")[-1] in SAYS_CONTRASTIVE:
            words += table.given[column].dropna().astype(str).unique().tolist()
    if any(CONTRASTIVE.search(word) for word in words):
        return "error" not in shown and "acc" not in shown
    known = "family" in table.frame and table.frame["family"].isin(NOT_CONTRASTIVE).any()
    return False if known else None


def _is_label(name: str, values: pd.Series[Any]) -> bool:
    """Text that groups rows: not the name of a run, its state, or a number written as text."""
    if is_number(values) or STATE.fullmatch(name):
        return False
    cells = numerals_of(values.dropna().astype(str))
    return len(cells) <= len(values) / 2 and decimal_marks(cells)[0] == "text"


def _crossed(values: pd.Series[Any], places: Sequence[Array]) -> bool:
    """Whether rows at one place differ in their values."""
    keys = [np.round(np.log(np.abs(x) + 1e-300), 6) for x in places]
    return bool((values.groupby(keys, dropna=False).nunique() > 1).any())


def _repeats(table: RunTable, unique: pd.Series[Any]) -> bool:
    """Whether some data were read more than once, or nothing tells."""
    if "D" not in table.frame:
        return True
    held = pd.to_numeric(unique, errors="coerce").to_numpy(dtype=float)
    return not bool(np.all(held >= 0.99 * table.numbers("D")))


def _is_group(name: str, values: pd.Series[Any], places: Sequence[Array]) -> bool:
    """Few values of text or of small integers that each hold several of the same places."""
    words = set(name.split("_"))
    fewest, most = CROSSED
    if (words & NO_GROUP and name != "metric_name") or STATE.fullmatch(name):
        return False
    if "id" in words and name not in GROUP_IDS:
        return False
    if not places or not fewest <= values.nunique() <= most:
        return False
    if is_number(values):
        numbers = values.dropna().to_numpy(dtype=float)
        if (numbers != np.round(numbers)).any() or (np.abs(numbers) > LARGEST_CODE).any():
            return False
    keys = list(zip(*(np.round(np.log(np.abs(x) + 1e-300), 6) for x in places), strict=True))
    held = [set(group) for _, group in pd.Series(keys, index=values.index).groupby(values)]
    return all(
        any(len(one & other) >= SAME_PLACES for other in held if other is not one) for one in held
    )


def _separate(values: pd.Series[Any], x: Array) -> bool:
    """Whether each value holds a range of x for itself."""
    ranges = pd.Series(x, index=values.index).groupby(values).agg(["min", "max"]).sort_values("min")
    return bool((ranges["max"].to_numpy()[:-1] < ranges["min"].to_numpy()[1:]).all())
