"""Compute-optimal size and data, three ways side by side (Hoffmann et al. 2022, Sec. 3).

1: the envelope of training curves or runs; 2: IsoFLOP minima (isoflop.py); 3: the joint law. All
three give N* = G C^a and D* = H C^b with bootstrap intervals, under each convention for N and C.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from analysis.certificate import FitError
from analysis.envelope import envelope
from analysis.files import map_columns
from analysis.fit import fit
from analysis.isoflop import PowerOfCompute, fit_isoflop
from analysis.laws.constraints import untie
from analysis.laws.law import Array
from analysis.result import FitResult
from analysis.table import C_COLUMNS, N_COLUMNS, RunTable, TableError
from analysis.training_curves import approach_1_curves
from analysis.uncertainty import percentiles

SEPARABLE = {
    "joint": ("A", "B", "alpha", "beta"),
    "joint_tied": ("A", "B", "alpha", "alpha"),
    "joint_outer": ("A", "B", "alpha", "beta"),  # rises with what is inside
    "overtrain": ("a", "b", "eta", "eta"),
    "kaplan": (),
}
GRID = 600  # sizes tried per budget for laws without closed form


@dataclass(frozen=True)
class ComputeRule:
    """C = k N^p D^q. 6ND is (6, 1, 1); exact FLOPs are fitted to this form."""

    k: float = 6.0
    p: float = 1.0
    q: float = 1.0
    worst: float = 0.0  # largest relative error on the runs it was fitted to
    origin: str = "6 N D"

    def data(self, c: Array | float, n: Array | float) -> Array:
        """D that spends C on size N."""
        return np.asarray((np.asarray(c) / (self.k * np.asarray(n) ** self.p)) ** (1 / self.q))


def compute_rule(n: Array, d: Array, c: Array) -> ComputeRule:
    """Least-squares fit of log C on log N and log D; unit powers when N and D are collinear."""
    design = np.column_stack([np.ones(len(n)), np.log(n), np.log(d)])
    if np.linalg.matrix_rank(design) == 3 and np.linalg.cond(design) < 1e6 and len(n) > 4:
        log_k, p, q = np.linalg.lstsq(design, np.log(c), rcond=None)[0]
    else:
        p = q = 1.0
        log_k = float(np.mean(np.log(c) - np.log(n) - np.log(d)))
    predicted = log_k + p * np.log(n) + q * np.log(d)
    worst = float(np.max(np.abs(np.expm1(predicted - np.log(c)))))
    k = float(np.exp(log_k))
    text = f"{k:.4g} N^{p:.3f} D^{q:.3f} (fitted to the runs, off by at most {worst:.1%})"
    return ComputeRule(k, float(p), float(q), worst, text)


def optimum_closed(
    p: Mapping[str, Any], law: str, c: Any, rule: ComputeRule
) -> tuple[Array, Array]:
    """N*, D* that minimise A/N^alpha + B/D^beta at k N^p D^q = C (Hoffmann et al. 2022, Eq. 4).

    Stationarity: alpha A / (p N^alpha) = beta B / (q D^beta).
    """
    a_name, b_name, alpha_name, beta_name = SEPARABLE[law]
    alpha, beta = p[alpha_name], p[beta_name]
    log_ratio = np.log(alpha * p[a_name] * rule.q) - np.log(beta * p[b_name] * rule.p)
    log_c = np.log(np.asarray(c, dtype=float) / rule.k)
    log_n = (log_ratio + beta * log_c / rule.q) / (alpha + beta * rule.p / rule.q)
    log_d = (log_c - rule.p * log_n) / rule.q
    return np.exp(log_n), np.exp(log_d)


def optimum(result: FitResult, c: float, rule: ComputeRule) -> dict[str, Array]:
    """N*, D*, loss at one budget: index 0 is the fit, the rest its bootstrap draws."""
    law = result.model
    if not {"N", "D"} <= set(law.columns):
        raise ValueError(f"law {result.law} has no N and D: it cannot say what size is best")
    stacked = {
        k: np.concatenate([[v], result.samples[k]]) if result.samples else np.array([v])
        for k, v in result.parameters.items()
    }
    stacked = untie(stacked, result.tie)
    if SEPARABLE.get(result.law):
        with np.errstate(divide="ignore", invalid="ignore"):
            n, d = optimum_closed(stacked, result.law, c, rule)
    else:
        n, d = _optimum_on_grid(result, stacked, c, rule)
    x = {"N": n[:, None], "D": d[:, None], "U": d[:, None]}
    p = {k: v[:, None] for k, v in stacked.items()}
    with np.errstate(all="ignore"):
        loss = np.asarray(law.value(p, {k: x[k] for k in law.columns}), dtype=float)[:, 0]
    return {"N": n, "D": d, "loss": loss}


def _optimum_on_grid(
    result: FitResult, stacked: Mapping[str, Array], c: float, rule: ComputeRule
) -> tuple[Array, Array]:
    """Best size by search over log N, refined by a parabola through the lowest three."""
    low, high = result.ranges()["N"]
    centre = np.log(np.sqrt(low * high))
    reach = abs(np.log(c / rule.k)) + 10
    u = np.linspace(centre - reach / 2, centre + reach, GRID)
    n = np.exp(u)[None, :]
    d = rule.data(c, n)
    x = {"N": n, "D": d, "U": d}
    p = {k: v[:, None] for k, v in stacked.items()}
    with np.errstate(all="ignore"):
        loss = result.model.value(p, {k: x[k] for k in result.model.columns})
    k = np.clip(np.argmin(loss, axis=1), 1, GRID - 2)
    rows = np.arange(len(k))
    left, mid, right = loss[rows, k - 1], loss[rows, k], loss[rows, k + 1]
    curvature = left - 2 * mid + right
    with np.errstate(all="ignore"):
        shift = np.where(curvature > 0, 0.5 * (left - right) / curvature, 0.0)
    best = np.exp(u[k] + np.clip(shift, -1, 1) * (u[1] - u[0]))
    return best, rule.data(c, best)


def approach_1(
    table: RunTable,
    metric: str,
    rule: str = "pareto",
    bootstrap: int = 1000,
    seed: int = 0,
    level: float = 0.95,
    **options: Any,
) -> dict[str, Any]:
    """Power laws of N and D along a named envelope; intervals by redrawing its points."""
    front = envelope(table, rule, x="C", metric=metric, **options)
    n, d, c = front.numbers("N"), front.numbers("D"), front.numbers("C")
    if len(np.unique(n)) < 3:
        raise FitError(f"the {rule} envelope holds {len(np.unique(n))} sizes: no exponent")
    rng = np.random.default_rng(seed)
    log_c = np.log(c)
    out: dict[str, Any] = {"approach": f"1: envelope ({rule})", "points": len(front)}
    drawn = rng.integers(0, len(c), size=(bootstrap, len(c)))
    for name, values in (("a", n), ("b", d)):
        y = np.log(values)
        slope, offset = np.polyfit(log_c, y, 1)
        x_s, y_s = log_c[drawn], y[drawn]
        x_s = x_s - x_s.mean(axis=1, keepdims=True)
        spread = (x_s**2).sum(axis=1)
        slopes = (x_s * y_s).sum(axis=1)[spread > 0] / spread[spread > 0]
        low, high = percentiles(slopes, level)
        out[name] = PowerOfCompute(float(slope), (float(low), float(high)), float(offset))
    return out


def approach_3(
    table: RunTable,
    metric: str,
    bootstrap: int = 1000,
    seed: int = 0,
    law: str = "joint",
    **options: Any,
) -> dict[str, Any]:
    """Exponents of the joint law's closed form."""
    result = fit(law, table, metric=metric, bootstrap=bootstrap, seed=seed, **options)
    rule = compute_rule(table.numbers("N"), table.numbers("D"), table.numbers("C"))
    return {
        "approach": f"3: {law} law",
        "points": result.n_points,
        "fit": result,
        "rule": rule,
        **exponents(result, rule),
    }


def exponents(result: FitResult, rule: ComputeRule) -> dict[str, PowerOfCompute]:
    """a and b of N* = G C^a, D* = H C^b from a separable law."""
    keys = SEPARABLE.get(result.law)
    if not keys:
        raise ValueError(f"law {result.law} has no closed form for its optimum")
    out = {}
    for position, name in enumerate(("a", "b")):

        def slope(p: Mapping[str, Any], k: int = position) -> Any:
            n1 = optimum_closed(p, result.law, rule.k, rule)[k]
            n2 = optimum_closed(p, result.law, rule.k * np.e, rule)[k]
            return np.log(n2 / n1)

        with np.errstate(divide="ignore", invalid="ignore"):
            estimate = untie(result.parameters, result.tie)
            value = float(slope(estimate))
            start = float(np.log(optimum_closed(estimate, result.law, 1.0, rule)[position]))
            interval = None
            if result.samples:
                draws = np.asarray(slope(untie(result.samples, result.tie)), dtype=float)
                draws = draws[np.isfinite(draws)]
                if len(draws):
                    low, high = percentiles(draws, result.widened or result.level)
                    interval = (float(low), float(high))
        out[name] = PowerOfCompute(value, interval, start)
    return out


def compare_approaches(
    table: RunTable,
    metric: str,
    envelope_rule: str = "pareto",
    bootstrap: int = 1000,
    seed: int = 0,
    curves: RunTable | None = None,
) -> dict[str, Any]:
    """All three approaches and whether they agree.

    Args:
        curves: training curves (columns N, D, C, train_loss, trunk_id), for approach 1 as its
            authors have it; without them it uses the runs' end points alone.
    """
    rows: list[dict[str, Any]] = []
    attempts: dict[str, Callable[[], dict[str, Any]]] = {}
    if curves is not None:
        attempts["1: training curves"] = lambda: approach_1_curves(
            curves, "train_loss", "trunk_id", bootstrap, seed
        )
    attempts |= {
        f"1: envelope ({envelope_rule})": lambda: approach_1(
            table, metric, envelope_rule, bootstrap, seed
        ),
        "2: IsoFLOP (parabola)": lambda: _approach_2(table, metric, "parabola", seed),
        "2: IsoFLOP (akima)": lambda: _approach_2(table, metric, "akima", seed),
        "3: joint law": lambda: approach_3(table, metric, bootstrap, seed),
    }
    for name, make in attempts.items():
        try:
            rows.append(make())
        except (FitError, TableError) as reason:
            rows.append({"approach": name, "reason": str(reason)})
    known = [r["a"] for r in rows if isinstance(r.get("a"), PowerOfCompute) and r["a"].interval]
    consistent = None
    if len(known) > 1:
        low = max(p.interval[0] for p in known if p.interval)
        high = min(p.interval[1] for p in known if p.interval)
        consistent = bool(low <= high)
    return {"approaches": rows, "consistent": consistent}


def _approach_2(table: RunTable, metric: str, method: str, seed: int) -> dict[str, Any]:
    found = fit_isoflop(table, metric, method, seed=seed)
    if found.n_opt is None or found.d_opt is None:
        raise FitError("; ".join(found.warnings[-1:]))
    used = sum(not m.reason for m in found.minima)
    return {
        "approach": f"2: IsoFLOP ({method})",
        "points": used,
        "a": found.n_opt,
        "b": found.d_opt,
        "warnings": list(found.warnings),
    }


def under_conventions(
    table: RunTable,
    metric: str,
    data: str,
    bootstrap: int = 400,
    seed: int = 0,
) -> list[dict[str, Any]]:
    """Approach 3 under each convention for N and C that the table has (R1: it changes a)."""
    out: list[dict[str, Any]] = []
    for n_name in (c for c in N_COLUMNS if c in table.frame):
        mapped = map_columns(table, {"N": n_name, "D": data})
        n, d = mapped.numbers("N"), mapped.numbers("D")
        result = fit("joint", mapped, metric, bootstrap=bootstrap, seed=seed)
        for c_name in (c for c in C_COLUMNS if c in table.frame):
            rule = compute_rule(n, d, mapped.numbers(c_name))
            out.append({"N": n_name, "C": c_name, **exponents(result, rule), "rule": rule.origin})
    return out
