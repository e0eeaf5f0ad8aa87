"""Forecasts whose intervals know that the law may be wrong.

`Forecaster` fits several laws to a ladder of runs, weighs them by what they foretold within it, and
gives a predictive distribution for any run; `answer` turns it into what a reader asks.
"""

from analysis.forecasting.combination import Forecaster
from analysis.forecasting.ladder import Ladder
from analysis.forecasting.mixture import Mixture

__all__ = ["Forecaster", "Ladder", "Mixture"]
