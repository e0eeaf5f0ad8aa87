"""The fit card: everything another person needs to repeat a fit, written by the fit itself.

The points are the checklist of Li, Kudugunta & Zettlemoyer 2025 ("(Mis)fitting"): form, points
used and dropped, ranges and conventions, loss, optimizer, starts, bounds, weights, interval
method, seed noise, held-out error, versions.
"""

from __future__ import annotations

import numpy as np

from analysis.result import FitResult


def fit_card(result: FitResult, title: str = "") -> str:
    """Markdown."""
    law = result.model
    lines = [f"# {title or result.law}", "", f"`{result.formula()}`", ""]

    def row(name: str, text: str) -> None:
        lines.append(f"| {name} | {text} |")

    lines += ["| | |", "| --- | --- |"]
    row("form", f"`{law.formula}` ({law.source or 'user law'})")
    row("metric", result.conventions.get(result.metric, result.metric))
    row("columns", "; ".join(f"{k} = {v}" for k, v in result.columns.items()))
    ranges = [f"{k} {low:.4g} to {high:.4g}" for k, (low, high) in result.ranges().items()]
    row("range fitted", "; ".join(ranges))
    row("points", result.points_text())
    row("source", result.source)
    row("objective", f"{result.objective_text}; value {result.objective!r}")
    row("weights", "given standard errors" if "error" in result.data else "equal")
    row(
        "optimizer",
        "non-negative variable projection over a grid of exponents, then damped Newton to "
        f"rounding from {result.certificate.starts} starts",
    )
    row("certificate", result.certificate.describe())
    ends = [(p.name, max(p.bounds[0], 0 if p.positive else -np.inf), p.bounds[1])
            for p in law.parameters]  # fmt: skip
    row("bounds", "; ".join(f"{name} in [{low:g}, {high:g}]" for name, low, high in ends))
    row("fixed", ", ".join(f"{n} = {result.parameters[n]:g}" for n in result.fixed) or "none")
    row("intervals", f"{result.level:.0%}, {result.interval_method}")
    row("seed noise", noise_text(result))
    row("residual scatter", _number(result.residual_sd))
    if result.held_out:
        h = result.held_out
        row(
            "held out",
            f"{h['n']} runs, mean |error| {_percent(h['mean_absolute_relative_error'])}, worst "
            f"{_percent(h['max_absolute_relative_error'])}, inside the 95 % band for a new run: "
            f"{_percent(h['coverage_new'])}; beyond the fitted range by "
            + "; ".join(f"{v:.2f} decades of {k}" for k, v in h["decades_beyond"].items()),
        )
    else:
        row("held out", "nothing")
    row("random seed", str(result.seed))
    row("versions", ", ".join(f"{k} {v}" for k, v in result.versions.items()))
    lines += ["", f"| parameter | value | {result.level:.0%} interval | standard error |"]
    lines += ["| --- | --- | --- | --- |"]
    for name, value in result.parameters.items():
        error = _number(result.standard_errors[name])
        lines.append(f"| {name} | {value!r} | {result.interval_text(name)} | {error} |")
    lines += ["", "## Left out", ""]
    lines += [f"- {d}" for d in result.dropped] or ["- nothing"]
    lines += ["", "## Warnings", ""]
    lines += [f"- {w}" for w in result.warnings] or ["- none"]
    if result.notes:
        lines += ["", "## Notes", "", *(f"- {n}" for n in result.notes)]
    return "\n".join(lines) + "\n"


def noise_text(result: FitResult) -> str:
    if result.noise is None:
        return "not measured: no two runs are known to differ in their seed only"
    unit = "relative" if result.noise.log else "absolute"
    return (
        f"{result.noise.sigma:.3g} ({unit} standard deviation, {result.noise.freedom} degrees of "
        f"freedom, from {result.noise.origin})"
    )


def _number(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.4g}"


def _percent(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.2%}"
