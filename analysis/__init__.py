"""Scaling laws from tables of training runs: fit, check, compare, predict.

Stands alone: numpy, scipy and pandas at import, plotting libraries when something is plotted.
"""

from analysis.fit import Constraints, fit
from analysis.laws import LAWS, Law, Parameter, SumLaw, Term, get_law, register
from analysis.plot import plot_fit
from analysis.result import FitResult
from analysis.solver.global_fit import Certificate, FitError, SolverOptions
from analysis.solver.objectives import OBJECTIVES, get_objective
from analysis.tables.envelope import envelope
from analysis.tables.files import map_columns, read_table
from analysis.tables.filters import final_runs, largest, where
from analysis.tables.points import Noise
from analysis.tables.run_store import load_runs
from analysis.tables.table import Dropped, RunTable, TableError
from analysis.uncertainty.intervals import IntervalOptions
from analysis.versions import __version__

FitResult.plot = plot_fit

__all__ = [
    "LAWS", "OBJECTIVES", "Certificate", "Constraints", "Dropped", "FitError", "FitResult",
    "IntervalOptions", "Law", "Noise", "Parameter", "RunTable", "SolverOptions", "SumLaw",
    "TableError", "Term", "__version__", "envelope", "final_runs", "fit", "get_law",
    "get_objective", "largest", "load_runs", "map_columns", "read_table", "register", "where",
]  # fmt: skip
