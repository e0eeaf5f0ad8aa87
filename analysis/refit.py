"""The points of a fit, fitted again: other laws, objectives and rows, else the fit's own choices.

`solve_again` gives the fit's own problem at its optimum, for what asks more of the same points.
Rows that were held out never come back: what is judged on them must not have seen them.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.fit import fit
from analysis.result import FitResult
from analysis.solver.global_fit import Optimum, optimize
from analysis.solver.objectives import get_objective
from analysis.solver.problem import Problem, make_problem
from analysis.tables.points import Points, make_points
from analysis.tables.table import RunTable


def refit(
    result: FitResult, frame: pd.DataFrame | None = None, law: str | None = None, **options: Any
) -> FitResult:
    """Fit again, without intervals.

    Args:
        frame: points as `FitResult.fitted` gives them; default: those that were fitted.
        law: another form; parameters that were fixed, tied or bounded are so in the fit's own.
        options: of `fit`, instead of the fit's choice.
    """
    frame = result.fitted() if frame is None else frame
    choice: dict[str, Any] = {
        "objective": result.objective_name,
        "delta": result.objective_delta or 1e-3,
        "error": "error" if "error" in frame else None,
        "interval": "none",
        "seed": result.seed,
    }
    if law is None:
        choice |= {
            "fix": {n: result.parameters[n] for n in result.fixed},
            "limits": result.limits,
            "tie": result.tie,
        }
    model = result.plain if law is None else law
    return fit(model, RunTable(frame.reset_index(drop=True)), metric="y", **(choice | options))


def solve_again(result: FitResult) -> tuple[Problem, Optimum, Points, NDArray[np.bool_]]:
    """The problem of a fit, its optimum, its points and which parameters are fixed (P,)."""
    law = result.model
    frame = pd.DataFrame(result.data)[~np.array(result.data["held_out"], dtype=bool)]
    error = "error" if "error" in frame else None
    _, cluster = np.unique(frame["cluster"], return_inverse=True)
    points = make_points(RunTable(frame.reset_index(drop=True)), law, {}, "y", error, cluster)
    fixed = np.array([n in result.fixed for n in law.names])
    objective = get_objective(result.objective_name, result.objective_delta or 1e-3)
    problem = make_problem(law, points, objective, fixed)
    given = problem.to_working(law.encode(result.parameters)[None])
    return problem, optimize(problem, result.seed, given, fixed, given[0]), points, fixed
