"""The efficient frontier, by a rule that has a name. Which rule is used is always the caller's
choice: the lowest point of a bin, of the past and of a quantile are different frontiers."""

from __future__ import annotations

import numpy as np
from scipy.stats import spearmanr

from analysis.tables.groups import label_groups
from analysis.tables.table import RunTable, TableError

RISING = 0.3  # rank correlation of metric and x from which more of the metric is better
SAME = 1e-6  # relative
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
    """Rows on the frontier of `metric` against `x`: the lowest, or the highest of a metric that
    rises with x, such as an accuracy.

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
    varied = len(loss) > 2 and np.ptp(values) > 0 and np.ptp(loss) > 0
    rises = varied and float(spearmanr(values, loss).statistic) > RISING
    loss = -loss if rises else loss
    best = "highest" if rises else "lowest"
    if rule == "pareto":
        # 6 N D of one budget differs in its last bits from size to size.
        order = np.lexsort((loss, label_groups(values, SAME) if (values > 0).all() else values))
        reached = np.minimum.accumulate(loss[order])
        first = np.concatenate([[True], loss[order][1:] < reached[:-1]])
        mask = np.zeros(len(values), dtype=bool)
        mask[order[first]] = True
        reason = f"beaten by a run of equal or lower {table.conventions.get(x, x)}"
        return table.keep(mask, f"{reason} (Pareto front, {best} values)")
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
    rule_text = f"{rule}, {best} values, {bins} bins in log10, pad {pad:g}"
    kept = table.keep(mask, f"not on the envelope ({rule_text})")
    if rule == "bins":
        kept = kept.with_frame(kept.frame.assign(**{x: moved[mask]}))
    return kept.warn(f"{empty} of {bins} bins of the envelope are empty") if empty else kept
