"""The efficient frontier, by a rule that has a name. Which rule is used is always the caller's
choice: the lowest point of a bin, of the past and of a quantile are different frontiers."""

from __future__ import annotations

import numpy as np

from analysis.table import RunTable, TableError

RULES = ("pareto", "bins", "bins_point", "quantile")


def envelope(
    table: RunTable,
    rule: str,
    x: str = "x",
    metric: str = "metric",
    bins: int = 10,
    pad: float = 0.0,
    quantile: float = 0.1,
) -> RunTable:
    """Rows on the lower frontier of `metric` against `x`.

    Args:
        rule: "pareto" keeps every row that no cheaper row beats; "bins" cuts log10 x into
            equal-width bins and takes the lowest metric of each at the bin's centre (Cherti et
            al. 2023); "bins_point" leaves that lowest row at its own x; "quantile" keeps, in
            each bin, rows up to a quantile.
        bins: number of bins.
        pad: added to the upper end of the range, in decades of x, so that the largest point does
            not fall on an edge.
        quantile: for rule "quantile".
    """
    if rule not in RULES:
        raise TableError(f"envelope rule {rule!r}: choose one of {', '.join(RULES)}")
    if len(table) == 0:
        raise TableError("envelope of an empty table")
    values, loss = table.numbers(x), table.numbers(metric)
    if rule == "pareto":
        order = np.lexsort((loss, values))
        best = np.minimum.accumulate(loss[order])
        first = np.concatenate([[True], loss[order][1:] < best[:-1]])
        mask = np.zeros(len(values), dtype=bool)
        mask[order[first]] = True
        return table.keep(mask, "beaten by a run of equal or lower compute (Pareto front)")
    if bins < 1:
        raise TableError(f"--bins {bins}: at least one")
    if pad < 0:
        raise TableError(f"--pad {pad}: decades, not negative")
    log_x = np.log10(values)
    edges = np.linspace(log_x.min(), log_x.max() + pad, bins + 1)
    which = np.clip(np.digitize(log_x, edges) - 1, 0, bins - 1)
    mask = np.zeros(len(values), dtype=bool)
    moved = values.copy()
    for b in range(bins):
        inside = np.flatnonzero(which == b)
        if inside.size == 0:
            continue
        if rule == "quantile":
            mask[inside[loss[inside] <= np.quantile(loss[inside], quantile)]] = True
            continue
        lowest = inside[np.argmin(loss[inside])]
        mask[lowest] = True
        if rule == "bins":
            moved[lowest] = 10 ** (0.5 * (edges[b] + edges[b + 1]))
    empty = bins - len(np.unique(which))
    kept = table.keep(mask, f"not on the envelope ({rule}, {bins} bins in log10, pad {pad:g})")
    if rule == "bins":
        frame = kept.frame.copy()
        frame[x] = moved[mask]
        kept = kept.with_frame(frame)
    return kept.warn(f"{empty} of {bins} bins of the envelope are empty") if empty else kept
