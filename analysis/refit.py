"""The points of a fit, fitted again: other laws, objectives and rows, else the fit's own choices.

Rows that were held out never come back: what is judged on them must not have seen them.
"""

from __future__ import annotations

from typing import Any

import pandas as pd

from analysis.fit import fit
from analysis.result import FitResult
from analysis.table import RunTable


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
