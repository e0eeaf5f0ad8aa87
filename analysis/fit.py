"""`fit(law, data)`: from a table of runs to a law with evidence, intervals and a verdict."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, TypeVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.diagnostics import identifiability, scores
from analysis.laws import Law, get_law, place_of, remember
from analysis.laws.constraints import Limits, constrain
from analysis.laws.law import Array
from analysis.result import FitResult
from analysis.solver.global_fit import FitError, Optimum, SolverOptions, certify, optimize
from analysis.solver.objectives import Objective, get_objective
from analysis.solver.problem import Problem, make_problem
from analysis.solver.sample import take_sample
from analysis.tables.points import Points
from analysis.tables.table import RunTable
from analysis.uncertainty.intervals import IntervalOptions, Uncertainty, make_intervals
from analysis.versions import versions


@dataclass(frozen=True)
class Constraints:
    """What is known of parameters before the fit."""

    fix: Mapping[str, float] = field(default_factory=dict)  # kept at a value
    limits: Limits = field(default_factory=dict)  # {"c1": (-20, 20)}, instead of the law's own
    tie: Mapping[str, str] = field(default_factory=dict)  # {"beta": "alpha"}: equal to another


Group = TypeVar("Group", Constraints, SolverOptions, IntervalOptions)


def fit(
    law: str | Law,
    data: RunTable | pd.DataFrame,
    metric: str = "metric",
    columns: Mapping[str, str] | None = None,
    objective: str | Objective | None = None,
    delta: float = 1e-3,
    error: str | None = None,
    hold_out: str | NDArray[np.bool_] | None = None,
    cluster: str | None = None,
    bounds: tuple[float, float] | None = None,
    seed: int = 0,
    constraints: Constraints | None = None,
    solver: SolverOptions | None = None,
    intervals: IntervalOptions | None = None,
    **options: Any,
) -> FitResult:
    """Fit a law.

    Args:
        law: a name (see `analysis.laws.LAWS`), MODULE:CLASS of your own, or a Law.
        data: a table whose columns are named by `columns`, letter -> name or formula, as in
            `map_columns`; letters that are column names themselves need no entry. Runs that did not
            finish are left out and counted, as on the command line.
        metric: column to predict.
        objective: name or Objective; default: the law's own.
        delta: Huber width, in nats (log residuals) or units of the metric.
        error: column with standard errors of the metric; points are weighted by them.
        hold_out: a query ("C > 1e21") or a mask: rows predicted but not fitted.
        cluster: column whose values name what travels together: trunks, or runs of which the rows
            are checkpoints. Default: found by `find_clusters`; "none": every row for itself.
        bounds: range of the metric (chance, ceiling); predictions are clipped to it and say so.
        options: fields of `constraints`, `solver` and `intervals` by name: `bootstrap=0` is short
            for `intervals=IntervalOptions(bootstrap=0)`.

    Raises:
        FitError: if the points cannot determine the law, or the optimum is not certain.
        TableError: if the table has no rows or columns for it.
        ValueError: if an option has a value it cannot have.
    """
    constraints = _with_fields(constraints or Constraints(), options)
    solver = _with_fields(solver or SolverOptions(), options)
    intervals = _with_fields(intervals or IntervalOptions(), options)
    if options:
        raise TypeError(f"fit() has no option {', '.join(options)}")
    own = remember(get_law(law))
    law = constrain(own, constraints.limits, constraints.tie)
    if not isinstance(objective, Objective):
        objective = get_objective(objective or law.default_objective, delta)
    sample = take_sample(law, data, metric, columns, objective, error, hold_out, cluster)
    points = sample.points
    fixed, values = _fixed(law, constraints.fix)
    for start in solver.start:
        _check_names(law, start, "--start")
    doubts = _check_design(law, points, fixed)
    problem = make_problem(law, points, objective, fixed)
    optimum, more = _solve(problem, fixed, values, solver, seed, doubts)
    estimate = {k: float(v[0]) for k, v in problem.natural(optimum.working[None], fixed).items()}
    found = make_intervals(problem, optimum, estimate, points, fixed, intervals, seed)
    found = _withhold(found, problem, optimum, estimate, fixed)
    divide = len(points) if objective.reduction == "mean" else 1
    absolute = objective.is_absolute or not np.isfinite(objective.delta)
    result = FitResult(
        law=law.name,
        law_class=place_of(own),
        breaks=getattr(law, "breaks", 0),
        parameters=estimate,
        fixed=tuple(n for n, f in zip(law.names, fixed, strict=True) if f),
        limits=dict(constraints.limits),
        tie=dict(constraints.tie),
        intervals=found.intervals,
        standard_errors=found.errors,
        level=intervals.level,
        interval_method=found.method,
        samples=found.samples,
        widened=found.widened,
        objective=optimum.objective / divide,
        objective_name=objective.name,
        objective_delta=None if absolute else objective.delta,
        objective_text=objective.describe(),
        n_points=len(points),
        n_clusters=points.clusters,
        cluster=sample.cluster,
        metric=metric,
        columns=sample.columns,
        conventions=dict(sample.table.conventions),
        source=sample.table.source,
        dropped=sample.table.dropped,
        certificate=optimum.certificate,
        warnings=(),
        noise=intervals.noise or sample.noise,
        residual_sd=scores.residual_sd(
            problem.residuals(optimum.working[None])[0], int((~fixed).sum())
        ),
        residual_log=objective.log,
        bounds=bounds,
        data=sample.data(),
        alternatives=sample.alternatives(),
        seed=seed,
        held_out=None,
        versions=versions(),
    )
    seen = identifiability.after(law, result, points)
    warnings = [*sample.table.warnings, *doubts, *more, *found.warnings, *seen]
    result = replace(
        result,
        warnings=tuple(dict.fromkeys(warnings)),
        notes=tuple(identifiability.confounded(law, result)),
    )
    if not sample.held.any():
        return result
    beyond = sample.everything.take(sample.held)
    return replace(result, held_out=scores.score_held_out(result, beyond))


def _with_fields(group: Group, options: dict[str, Any]) -> Group:
    """The group with its fields among the options, which are taken out of them."""
    own = {f.name: options.pop(f.name) for f in fields(group) if f.name in options}
    return replace(group, **{k: v for k, v in own.items() if v is not None})


def _fixed(law: Law, fix: Mapping[str, float]) -> tuple[NDArray[np.bool_], Array]:
    """Which parameters are fixed, and where, in internal coordinates."""
    _check_names(law, fix, "--fix")
    return np.array([n in fix for n in law.names], dtype=bool), law.encode({**law.middle(), **fix})


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


def _check_design(law: Law, points: Points, fixed: NDArray[np.bool_]) -> list[str]:
    """Warnings of what the points alone cannot tell, the most serious first.

    Raises:
        FitError: if they determine no such law.
    """
    free = int((~fixed).sum())
    doubts = identifiability.before(law, points, fixed)
    if copies := points.copies():
        doubts.append(
            f"{copies} rows equal another to the last digit, as copies of a run do: leave them out "
            "(--where), or name the column of their run (--cluster)"
        )
    if free:
        identifiability.refuse_single_values(law, points, fixed)
    if len(points) < free:
        raise FitError(
            f"law {law.name} has {free} free parameters and there are {len(points)} points; "
            f"add runs, fix a parameter (--fix), or use a simpler law"
        )
    return doubts


def _solve(
    problem: Problem,
    fixed: NDArray[np.bool_],
    values: Array,
    solver: SolverOptions,
    seed: int,
    doubts: list[str],
) -> tuple[Optimum, list[str]]:
    """The optimum and the warnings of its certificate."""
    law = problem.law
    starts = [law.encode({**law.middle(), **start}) for start in solver.start]
    given = problem.to_working(np.array(starts)) if starts else None
    at = problem.to_working(values[None])[0]
    optimum = optimize(problem, seed, given, fixed, at, solver.starts)
    try:
        return optimum, certify(optimum.certificate, law.name)
    except FitError as uncertain:
        if not solver.strict:
            return optimum, [str(uncertain)]
        # What the points cannot tell is the reason; that the optimizer fails, its effect.
        raise FitError(f"{doubts[0]}. ({uncertain})" if doubts else str(uncertain)) from None


def _withhold(
    found: Uncertainty,
    problem: Problem,
    optimum: Optimum,
    estimate: Mapping[str, float],
    fixed: NDArray[np.bool_],
) -> Uncertainty:
    """No interval for what these points cannot tell: terms that went to 0, and parameters that
    make up for each other."""
    slopes = problem.residual_jacobian(optimum.working[None])[0]
    traded = identifiability.traded(problem, optimum.working, fixed)
    gone = identifiability.vanished(problem.law, slopes, estimate)
    gone = [name for name in gone if name not in traded]
    warnings = [
        f"{name} went to 0 (no residual depends on it): these points show no such term, and "
        "how large it may be is unknown; --fix holds it at a value of your own"
        for name in gone
    ]
    if traded:
        warnings.append(
            f"{', '.join(traded)} trade off freely: other values of them fit these points as well, "
            "so they have no interval and predictions no band. Fix one (--fix), tie them (--tie), "
            "or fit a law of one variable"
        )
    unknown = [*gone, *traded]
    return replace(
        found,
        intervals=found.intervals | dict.fromkeys(unknown, (None, None)),
        errors=found.errors | dict.fromkeys(unknown),
        samples={} if traded else found.samples,
        warnings=(*found.warnings, *warnings),
    )
