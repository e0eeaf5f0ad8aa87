"""Matplotlib figures for print. Every function takes `ax=None`, draws on it and returns it."""

from analysis.plot.fits import plot_fit, plot_laws, plot_residuals
from analysis.plot.joint import plot_joint
from analysis.plot.style import new_figure, save, style

__all__ = [
    "new_figure",
    "plot_fit",
    "plot_joint",
    "plot_laws",
    "plot_residuals",
    "save",
    "style",
]
