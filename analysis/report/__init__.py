"""From study folders to figures, fit cards, fits.json and one report.html."""

from analysis.report.study import Panel, StudyReport, analyze_study
from analysis.report.write import write_report

__all__ = ["Panel", "StudyReport", "analyze_study", "write_report"]
