"""Scaling laws from tables of training runs: fit, check, compare, predict.

Stands alone: numpy, scipy and pandas at import, plotting libraries when something is plotted.
"""

from analysis.certificate import Certificate, FitError, SolverOptions
from analysis.envelope import envelope
from analysis.files import map_columns, read_table
from analysis.fit import Constraints, fit
from analysis.intervals import IntervalOptions
from analysis.laws import LAWS, Law, Parameter, SumLaw, Term, get_law, register
from analysis.load import load_runs
from analysis.objectives import OBJECTIVES, get_objective
from analysis.plot import plot_fit
from analysis.points import Noise
from analysis.result import FitResult
from analysis.select import final_runs, largest, where
from analysis.table import Dropped, RunTable, TableError
from analysis.versions import __version__

FitResult.plot = plot_fit

__all__ = [
    "LAWS",
    "OBJECTIVES",
    "Certificate",
    "Constraints",
    "Dropped",
    "FitError",
    "FitResult",
    "IntervalOptions",
    "Law",
    "Noise",
    "Parameter",
    "RunTable",
    "SolverOptions",
    "SumLaw",
    "TableError",
    "Term",
    "__version__",
    "envelope",
    "final_runs",
    "fit",
    "get_law",
    "get_objective",
    "largest",
    "load_runs",
    "map_columns",
    "read_table",
    "register",
    "where",
]
