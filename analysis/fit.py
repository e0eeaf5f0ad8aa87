"""`fit(law, data)`: from a table of runs to a law with evidence, intervals and a verdict."""

from __future__ import annotations

import dataclasses
import platform
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import scipy
from numpy.typing import NDArray

from analysis import identifiability, scores
from analysis.certificate import STARTS, FitError, certify, optimize
from analysis.clusters import find_clusters
from analysis.files import map_letters
from analysis.intervals import from_samples, make_intervals
from analysis.kernel import Problem, SumProblem, make_problem
from analysis.laws import Law, get_law, remember
from analysis.laws.constraints import Limits, constrain
from analysis.laws.law import Array
from analysis.objectives import Objective, get_objective
from analysis.points import Noise, Points, make_points
from analysis.pooling import check_agreement
from analysis.repeats import measure_noise
from analysis.result import FitResult
from analysis.select import check_units, evaluate_query, final_runs, positive_values
from analysis.table import C_COLUMNS, N_COLUMNS, RunTable, TableError
from analysis.uncertainty import widened_level

LARGEST_SHARE = 1.5  # of a bounded metric; above it, it must be in percent
FEWEST_STARTS = 8
FEWEST_REFITS = 20  # fewer say nothing about a 95 % interval


def fit(
    law: str | Law,
    data: RunTable | pd.DataFrame,
    metric: str = "metric",
    columns: Mapping[str, str] | None = None,
    objective: str | Objective | None = None,
    delta: float = 1e-3,
    error: str | None = None,
    hold_out: str | NDArray[np.bool_] | None = None,
    fix: Mapping[str, float] | None = None,
    limits: Limits | None = None,
    tie: Mapping[str, str] | None = None,
    start: Sequence[Mapping[str, float]] = (),
    starts: int = STARTS,
    interval: str = "auto",
    bootstrap: int = 2000,
    cluster: str | None = None,
    noise: Noise | None = None,
    level: float = 0.95,
    bounds: tuple[float, float] | None = None,
    seed: int = 0,
    strict: bool = True,
) -> FitResult:
    """Fit a law.

    Args:
        law: a name (see `analysis.laws.LAWS`) or a Law.
        data: a table whose columns are named by `columns`, letter -> name or formula, as in
            `map_columns`; letters that are column names themselves need no entry. Runs that did not
            finish are left out and counted, as on the command line.
        metric: column to predict.
        objective: name or Objective; default: the law's own.
        delta: Huber width, in nats (log residuals) or units of the metric.
        error: column with standard errors of the metric; points are weighted by them.
        hold_out: a query ("C > 1e21") or a mask: rows predicted but not fitted.
        fix: parameters kept at a value.
        limits: {"c1": (-20, 20)}: bounds of parameters instead of the law's own.
        tie: {"beta": "alpha"}: parameters that equal another.
        start: user's starts, tried besides our own.
        starts: how many of our own.
        interval: "auto", "rows", "clusters", "residual", "parametric", "profile", "delta", "none".
        cluster: column whose values name what travels together: trunks, or runs of which the rows
            are checkpoints. Default: found by `find_clusters`; "none": every row for itself.
        noise: seed noise known from elsewhere, which the intervals then build on as well. Repeats
            among the points need no mention: the residuals hold their scatter.
        bounds: range of the metric (chance, ceiling); predictions are clipped to it and say so.
        strict: raise when the optimum is not certain; otherwise warn.
    """
    if not 0 < level < 1:
        raise ValueError(f"level={level}: between 0 and 1")
    if bootstrap != 0 and bootstrap < FEWEST_REFITS:
        raise ValueError(f"bootstrap={bootstrap}: 0 for none, or at least {FEWEST_REFITS} refits")
    if starts < FEWEST_STARTS:
        raise ValueError(f"starts={starts}: at least {FEWEST_STARTS}, so that two can agree")
    law = constrain(remember(get_law(law)), limits or {}, tie or {})
    goal = (
        objective
        if isinstance(objective, Objective)
        else get_objective(objective or law.default_objective, delta)
    )
    table, letters = map_letters(data, columns)
    table = final_runs(table)
    names = {letter: letters.get(letter, letter) for letter in law.columns}
    table = clean(table, law, names, metric, goal, error)
    held = _held_out(table, hold_out)
    fitted = table.with_frame(table.frame[~held])
    agreed = check_agreement(fitted, metric, list(names.values()))
    table = dataclasses.replace(table, warnings=agreed.warnings)
    together, told = find_clusters(table, cluster)
    everything = make_points(table, law, names, metric, error, together)
    points = everything.take(~held)
    measured = measure_noise(fitted, metric, goal.log, list(names.values()), points.cluster)
    fixed, fixed_theta = _fixed(law, fix or {})
    for values in start:
        _check_names(law, values, "--start")
    free = len(law.parameters) - int(fixed.sum())
    reasons = identifiability.before(law, points, fixed)
    warnings = [*table.warnings, *reasons]
    if copies := points.copies():
        warnings.append(
            f"{copies} rows equal another to the last digit, as copies of a run do: leave them out "
            "(--where), or name the column of their run (--cluster)"
        )
    if free:
        identifiability.refuse_single_values(law, points, fixed)
    else:
        interval = "none"
    if len(points) < free:
        raise FitError(
            f"law {law.name} has {free} free parameters and there are {len(points)} points; "
            f"add runs, fix a parameter (--fix), or use a simpler law"
        )
    problem = make_problem_of(law, points, goal, fixed)
    fixed_working = problem.to_working(fixed_theta[None])[0]
    given = (
        problem.to_working(np.array([law.encode({**_middle(law), **s}) for s in start]))
        if start
        else None
    )
    optimum = optimize(problem, seed, given, fixed, fixed_working, starts)
    try:
        warnings += certify(optimum.certificate, law.name)
    except FitError as problem_found:
        complaint = str(problem_found)
        if strict:
            # What the points cannot tell is the reason; that the optimizer is lost, its effect.
            raise FitError(f"{reasons[0]}. ({complaint})" if reasons else complaint) from None
        warnings.append(complaint)
    theta = problem.from_working(optimum.working[None])
    parameters = _natural(law, problem, optimum.working[None], theta, fixed)
    estimate = {k: float(v[0]) for k, v in parameters.items()}
    intervals, errors, draws, method = make_intervals(
        interval, problem, optimum, points, fixed, noise, level, bootstrap, seed, warnings
    )
    samples = (
        _natural(law, problem, draws.working, problem.from_working(draws.working), fixed)
        if draws is not None
        else {}
    )
    widened = None
    if draws is not None:
        widened = widened_level(level, draws.units, free, draws.scale)
        intervals, errors = from_samples(law, samples, estimate, widened or level, fixed)
        if draws.failed:
            warnings.append(f"{draws.failed} bootstrap refits did not converge and are left out")
        if draws.agreement < 0.95:
            warnings.append(
                f"{1 - draws.agreement:.0%} of the checked refits have a better optimum elsewhere: "
                "intervals are approximate"
            )
    slopes = problem.residual_jacobian(optimum.working[None])[0]
    traded = identifiability.traded(problem, optimum.working, fixed)
    for name in set(identifiability.vanished(law, slopes, estimate)) - set(traded):
        intervals[name], errors[name] = (None, None), None
        warnings.append(
            f"{name} went to 0 (no residual depends on it): these points show no such term, and "
            "how large it may be is unknown; --fix holds it at a value of your own"
        )
    if traded:
        samples = {}
        for name in traded:
            intervals[name], errors[name] = (None, None), None
        warnings.append(
            f"{', '.join(traded)} trade off freely: other values of them fit these points as well, "
            "so they have no interval and predictions no band. Fix one (--fix), tie them (--tie), "
            "or fit a law of one variable"
        )
    residual = problem.residuals(optimum.working[None])[0]
    weights_count = len(points)
    divide = weights_count if goal.reduction == "mean" else 1
    result = FitResult(
        law=law.name,
        breaks=getattr(law, "breaks", 0),
        parameters=estimate,
        fixed=tuple(n for n, f in zip(law.names, fixed, strict=True) if f),
        intervals=intervals,
        standard_errors=errors,
        level=level,
        interval_method=(
            "none, every parameter is fixed"
            if not free
            else (method if draws is None else draws.description)
        ),
        objective=optimum.objective / divide,
        objective_name=goal.name,
        objective_delta=goal.delta if np.isfinite(goal.delta) and not goal.is_absolute else None,
        objective_text=goal.describe(),
        n_points=len(points),
        n_clusters=points.clusters,
        cluster=told,
        metric=metric,
        columns={k: table.conventions.get(v, v) for k, v in names.items()},
        conventions=dict(table.conventions),
        source=table.source,
        dropped=table.dropped,
        certificate=optimum.certificate,
        warnings=(),
        noise=noise or measured,
        residual_sd=scores.residual_sd(residual, free),
        residual_log=goal.log,
        bounds=bounds,
        samples=samples,
        widened=widened,
        data=_data(everything, held, table),
        alternatives=_alternatives(table, names),
        seed=seed,
        held_out=None,
        versions=versions(),
        limits=dict(limits or {}),
        tie=dict(tie or {}),
    )
    warnings += identifiability.after(law, result, points)
    result = result.replace(
        warnings=tuple(dict.fromkeys(warnings)),
        notes=tuple(identifiability.confounded(law, result)),
    )
    if held.any():
        result = result.replace(held_out=scores.score_held_out(result, everything.take(held)))
    return result


def versions() -> dict[str, str]:
    """What the numbers were made with."""
    from analysis import __version__

    return {
        "analysis": __version__,
        "python": platform.python_version(),
        "numpy": np.__version__,
        "scipy": scipy.__version__,
        "pandas": pd.__version__,
    }


def clean(
    table: RunTable,
    law: Law,
    names: Mapping[str, str],
    metric: str,
    objective: Objective,
    error: str | None,
) -> RunTable:
    if len(table) == 0:
        raise TableError(
            f"{table.source}: no rows are left to fit. {table.account()}"
            if table.dropped
            else f"{table.source}: the table has no rows"
        )
    logarithmic = [] if law.columns == ("L",) else [names[c] for c in law.columns]
    finite = [names[c] for c in law.columns if names[c] not in logarithmic]
    for column in finite:
        table = positive_values(table, [], column)
    must = [*logarithmic, *([metric] if objective.log or law.positive else [])]
    table = positive_values(table, [*must, *([error] if error else [])], metric)
    if len(table) == 0:
        raise TableError(f"{table.source}: no usable row is left. {table.account()}")
    shown = table.conventions.get(metric, metric)
    if law.columns == ("L",) and np.max(np.abs(table.numbers(metric))) > LARGEST_SHARE:
        raise TableError(
            f"{shown} reaches {np.max(table.numbers(metric)):g}: a link predicts a share between "
            f"0 and 1. Percent become shares by --metric '{shown} / 100'"
        )
    return check_units(table, shown)


def _held_out(table: RunTable, hold_out: str | NDArray[np.bool_] | None) -> NDArray[np.bool_]:
    if hold_out is None:
        return np.zeros(len(table), dtype=bool)
    mask = (
        evaluate_query(table.given, hold_out, "--hold-out")
        if isinstance(hold_out, str)
        else np.asarray(hold_out, dtype=bool)
    )
    if mask.shape != (len(table),):
        raise ValueError(
            f"hold_out has {mask.size} entries for {len(table)} usable rows; use a query instead"
        )
    if mask.all():
        raise TableError(f"--hold-out {hold_out!r} holds out every row")
    return mask


def _fixed(law: Law, fix: Mapping[str, float]) -> tuple[NDArray[np.bool_], Array]:
    _check_names(law, fix, "--fix")
    natural = {**_middle(law), **fix}
    return np.array([n in fix for n in law.names], dtype=bool), law.encode(natural)


def _check_names(law: Law, values: Mapping[str, float], option: str) -> None:
    unknown = set(values) - set(law.names)
    if unknown:
        raise ValueError(
            f"{option} {', '.join(sorted(unknown))}: law {law.name} has {', '.join(law.names)}"
        )
    for p in law.parameters:
        value = values.get(p.name, 0.0)
        if not np.isfinite(value) or (p.positive and value < 0):
            rule = "zero or positive" if p.positive else "finite"
            raise ValueError(f"{option} {p.name}={value:g}: must be {rule} in law {law.name}")


def _middle(law: Law) -> dict[str, float]:
    return {
        p.name: float(np.sqrt(p.guess[0] * p.guess[1])) if p.positive else float(np.mean(p.guess))
        for p in law.parameters
    }


def make_problem_of(
    law: Law, points: Points, objective: Objective, fixed: NDArray[np.bool_]
) -> Problem:
    """The problem of these points; fixed and bounded parameters keep a coordinate of their own."""
    ones = np.ones(len(points))
    scale = ones
    if points.error is not None:
        scale = points.error / points.y if objective.log else points.error
    problem = make_problem(law, points.x, points.y, objective, scale, ones)
    bounded = [p.positive and bool(np.isfinite(p.bounds).any()) for p in law.parameters]
    own = tuple(n for n, k in zip(law.names, fixed | np.array(bounded), strict=True) if k)
    if isinstance(problem, SumProblem) and own:
        return dataclasses.replace(problem, uncentred=own)
    return problem


def _natural(
    law: Law, problem: Problem, working: Array, theta: Array, fixed: NDArray[np.bool_]
) -> dict[str, Array]:
    """Natural parameters; a term held at its lower bound is exactly zero."""
    low, _ = problem.bounds()
    out = law.decode(theta)
    for j, p in enumerate(law.parameters):
        if p.positive and p.bounds[0] <= 0 and not fixed[j]:
            out[p.name] = np.where(working[:, j] <= low[j] + 1e-9, 0.0, out[p.name])
    return out


def _alternatives(table: RunTable, names: Mapping[str, str]) -> dict[str, dict[str, list[float]]]:
    """The same runs under the other counting conventions their records hold.

    A table whose own column was named has none: what it calls flops is no convention of ours.
    """
    out: dict[str, dict[str, list[float]]] = {}
    for letter, columns in (("N", N_COLUMNS), ("C", C_COLUMNS)):
        used = table.conventions.get(names.get(letter, letter))
        others = [c for c in columns if c in table.frame and c != used]
        if "N" in names and used in columns and others:
            out[letter] = {c: table.numbers(c).tolist() for c in others}
    return out


def _data(points: Points, held: NDArray[np.bool_], table: RunTable) -> dict[str, list[Any]]:
    out: dict[str, list[Any]] = {"id": list(points.ids)}
    out.update({k: v.tolist() for k, v in points.x.items()})
    if "C" in table.frame and "C" not in out:
        compute = table.numbers("C")
        if np.isfinite(compute).all() and (compute > 0).all():
            out["C"] = compute.tolist()  # lets a forecast turn a budget into N and D
    out["y"] = points.y.tolist()
    if points.error is not None:
        out["error"] = points.error.tolist()
    out["cluster"] = points.cluster.tolist()
    out["held_out"] = held.tolist()
    return out
