"""Matplotlib figures for print. Every function takes `ax=None`, draws on it and returns it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from analysis.plot.fits import plot_laws, plot_residuals
from analysis.plot.joint import plot_joint
from analysis.plot.style import new_figure, save, style
from analysis.result import FitResult

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["new_figure", "plot_fit", "plot_joint", "plot_laws", "plot_residuals", "save", "style"]


def plot_fit(result: FitResult, ax: Axes | None = None, **options: Any) -> Axes:
    """One law with its points and band; joint laws are drawn as curves over D, one per N."""
    if len(result.model.columns) > 1:
        return plot_joint(result, ax=ax)
    return plot_laws([result], ax=ax, **options)
