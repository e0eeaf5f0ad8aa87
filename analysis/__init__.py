"""Scaling laws from tables of training runs: fit, check, compare, predict.

Stands alone: numpy, scipy and pandas at import, plotting libraries when something is plotted.
"""

__version__ = "0.2.0.dev0"

from analysis.certificate import Certificate, FitError
from analysis.envelope import envelope
from analysis.files import map_columns, read_table
from analysis.fit import fit
from analysis.laws import LAWS, Law, Parameter, SumLaw, Term, get_law, register
from analysis.load import load_runs
from analysis.objectives import OBJECTIVES, get_objective
from analysis.points import Noise
from analysis.result import FitResult
from analysis.select import final_runs, largest, where
from analysis.table import Dropped, RunTable, TableError

__all__ = [
    "LAWS",
    "OBJECTIVES",
    "Certificate",
    "Dropped",
    "FitError",
    "FitResult",
    "Law",
    "Noise",
    "Parameter",
    "RunTable",
    "SumLaw",
    "TableError",
    "Term",
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
