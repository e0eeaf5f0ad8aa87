"""Approach 1 on whole training curves: which size has the lowest loss at each compute.

The curves are smoothed over log C and the lowest is taken at each point of a grid (Hoffmann et
al. 2022, Sec. 3.1). A curve at constant learning rate lies above the annealed end points by an
amount that varies little with size, so its exponents are comparable and its losses are not.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from analysis.laws.law import Array
from analysis.optima.isoflop import PowerOfCompute
from analysis.solver.global_fit import FitError
from analysis.tables.steps import AVERAGED, thin
from analysis.tables.table import RunTable, TableError

POINTS = 400  # of the grid in log C
BANDWIDTH = 0.1  # decades of C over which a curve is smoothed
FEWEST_ROWS = 8  # logged steps of a curve, and within a bandwidth of each of its points


@dataclass(frozen=True)
class TrainingCurves:
    """Smoothed curves on one grid; outside a curve's own range its loss is infinite."""

    c: Array  # (G,) FLOPs
    loss: Array  # (R, G)
    d: Array  # (R, G) tokens or samples read at that compute
    n: Array  # (R,) parameters
    names: tuple[str, ...]  # (R,)

    def best(self, runs: Any = slice(None)) -> tuple[Array, Array, Array, Array]:
        """Lowest curve where at least two compete: C, N, D, loss, each (P,)."""
        loss = self.loss[runs]
        compete = np.isfinite(loss).sum(axis=0) >= 2
        winner = np.argmin(loss[:, compete], axis=0)
        place = np.flatnonzero(compete)
        rows = (winner, place)
        return self.c[compete], self.n[runs][winner], self.d[runs][rows], loss[rows]


def smooth_curves(table: RunTable, metric: str, run: str) -> TrainingCurves:
    """Curves of all runs on one grid.

    Args:
        table: one row a logged step, with columns N, D, C, `metric` and `run`.
        run: column that names the run a row belongs to.

    Raises:
        TableError: if no run has enough rows.
    """
    if run not in table.frame:
        raise TableError(f"--run {run!r}: no such column; it names the run a row belongs to")
    columns = [table.numbers(name) for name in ("C", "D", metric)]
    count = table.numbers(AVERAGED) if AVERAGED in table.frame else np.ones(len(table))
    steps, n = np.column_stack([*columns, count]), table.numbers("N")
    rows = table.frame.groupby(run, sort=False).indices
    kept = {str(name): at for name, at in rows.items() if count[at].sum() >= FEWEST_ROWS}
    if not kept:
        raise TableError(f"no value of {run!r} has {FEWEST_ROWS} rows: these are no curves")
    grid = np.linspace(np.log10(steps[:, 0].min()), np.log10(steps[:, 0].max()), POINTS)
    losses, data, sizes = [], [], []
    for at in kept.values():
        curve = thin(steps[at[np.argsort(steps[at, 0], kind="stable")]])
        log_c = np.log10(curve[:, 0])
        value, support = _smooth(grid, log_c, curve[:, 2], curve[:, 3])
        inside = (grid >= log_c[0]) & (grid <= log_c[-1]) & (support >= FEWEST_ROWS)
        losses.append(np.where(inside, value, np.inf))
        data.append(10 ** np.interp(grid, log_c, np.log10(curve[:, 1])))
        sizes.append(float(np.median(n[at])))
    return TrainingCurves(10**grid, np.array(losses), np.array(data), np.array(sizes), tuple(kept))


def _smooth(grid: Array, log_c: Array, loss: Array, count: Array) -> tuple[Array, Array]:
    """Local line through the steps about each point, and how many steps carry it."""
    away = log_c[None] - grid[:, None]
    kernel = np.exp(-0.5 * (away / BANDWIDTH) ** 2)
    weight = kernel * count
    s0, s1, s2 = (np.sum(weight * away**k, axis=1) for k in range(3))
    with np.errstate(divide="ignore", invalid="ignore"):
        line = weight * (s2[:, None] - s1[:, None] * away)
        value = line @ loss / (s0 * s2 - s1**2)
        support = s0**2 / np.sum(kernel * weight, axis=1)
    return value, np.nan_to_num(support)


def approach_1_curves(
    table: RunTable, metric: str, run: str = "run_id", bootstrap: int = 400, seed: int = 0
) -> dict[str, Any]:
    """Power laws of N and D along the envelope of training curves; intervals by redrawing runs.

    Raises:
        FitError: if fewer than three sizes are ever the best, so that there is no exponent.
    """
    curves = smooth_curves(table, metric, run)
    found = _slopes(curves, np.arange(len(curves.n)))
    if found is None:
        raise FitError(
            "fewer than three sizes are the best anywhere along the curves: no exponent; add "
            "sizes between those that win"
        )
    rng = np.random.default_rng(seed)
    redrawn = rng.integers(0, len(curves.n), size=(bootstrap, len(curves.n)))
    draws = [s for s in (_slopes(curves, np.unique(rows)) for rows in redrawn) if s is not None]
    out: dict[str, Any] = {
        "approach": f"1: training curves ({metric})",
        "points": len(curves.best()[0]),
        "curves": curves,
    }
    for name, position in (("a", 0), ("b", 1)):
        slope, offset = found[position]
        known = draws if len(draws) > bootstrap / 2 else []
        slopes = np.array([d[position][0] for d in known])
        out[name] = PowerOfCompute.of(slope, offset, slopes)
    return out


def _slopes(curves: TrainingCurves, runs: NDArray[np.intp]) -> list[tuple[float, float]] | None:
    """Slope and offset of log N and log D on log C along the envelope of some runs."""
    if len(np.unique(curves.n[runs])) < 3:
        return None
    c, n, d, _ = curves.best(runs)
    if len(np.unique(n)) < 3:
        return None
    pairs = (np.polyfit(np.log(c), np.log(values), 1) for values in (n, d))
    return [(float(slope), float(offset)) for slope, offset in pairs]
