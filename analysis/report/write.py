"""Files of a report: figures (PNG, SVG), fit cards, fits.json, report.html."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from analysis.forecasting.decision import Outlook
from analysis.forecasting.registered import Registered
from analysis.json_values import finite
from analysis.optima.isoflop import PowerOfCompute
from analysis.outputs import write_text
from analysis.plot import new_figure, plot_joint, plot_laws, plot_residuals, save, style
from analysis.plot.outlook import plot_outlook
from analysis.plot.style import MANY, axis_label, draw_floor, outside_legend
from analysis.plot.tornado import plot_tornado
from analysis.report.fit_card import fit_card
from analysis.report.html import render_html
from analysis.report.study import Panel, StudyReport
from analysis.result import FitResult
from analysis.sensitivity import headline, tornado
from analysis.versions import versions

TITLES = {"N": "model size", "D": "training data", "C": "training compute"}


def write_report(
    studies: Sequence[StudyReport],
    out: str | Path,
    made: str = "",
    forecasts: Sequence[Registered] = (),
) -> dict[str, list[Path]]:
    """Write everything under `out`; returns the paths by kind. The rest is as in `render_html`."""
    folder = Path(out)
    (folder / "figures").mkdir(parents=True, exist_ok=True)
    (folder / "cards").mkdir(exist_ok=True)
    paths: dict[str, list[Path]] = {"figures": [], "cards": [], "files": []}
    for study in studies:
        if study.outlook:
            paths["figures"] += draw_outlook(study, study.outlook, folder / "figures")
        for panel in study.panels:
            if not panel.fits:
                continue
            stem = _file_name(f"{study.study}_{panel.name}")
            paths["figures"] += draw_panel(study, panel, folder / "figures" / stem)
            if panel.sensitivity is not None:
                place = folder / "figures" / f"{stem}_tornado"
                paths["figures"] += draw_tornado(study, panel, place)
            for result in panel.answers:
                card = folder / "cards" / f"{stem}_{result.law}.md"
                write_text(card, fit_card(result, f"{study.study}: {panel.name}, {result.law}"))
                paths["cards"].append(card)
    fits = folder / "fits.json"
    write_text(fits, json.dumps(finite(to_json(studies)), indent=1, allow_nan=False) + "\n")
    page = folder / "report.html"
    write_text(page, render_html(studies, made, forecasts))
    paths["files"] += [fits, page]
    return paths


def _file_name(text: str) -> str:
    """A name from a record as part of a file's name: it stays in its folder."""
    return re.sub(r"[^A-Za-z0-9_.+-]", "_", text).lstrip(".") or "study"


def panel_title(study: StudyReport, panel: Panel) -> str:
    what = TITLES.get(panel.against, "size and data")
    return f"{study.title}: {panel.metric} against {what} ({panel.rule})"


def draw_outlook(study: StudyReport, outlook: Outlook, folder: Path) -> list[Path]:
    """The main figure as PNG and SVG."""
    ax = plot_outlook(outlook, title=f"{study.title}: {outlook.decision.headline()}")
    return save(ax.get_figure(root=True), folder / f"{_file_name(study.study)}_forecast")


def draw_panel(study: StudyReport, panel: Panel, stem: Path) -> list[Path]:
    """One panel as PNG and SVG."""
    title = panel_title(study, panel)
    with style():
        if panel.against == "joint":
            figure, ax = new_figure(10.2, 5.0)
            plot_joint(panel.drawn[0], ax=ax, title=title)
            if panel.floor is not None:
                draw_floor(ax, panel.floor)
            outside_legend(ax)
            return save(figure, stem)
        figure, (top, bottom) = new_figure(10.2, 5.8, nrows=2, height_ratios=[3.2, 1], sharex=True)
        column, others = panel.against, study.others(panel)
        background = (others[column].to_numpy(float), others[panel.metric].to_numpy(float))
        plot_laws(panel.drawn, ax=top, background=background, sizes=panel.sizes, title=title)
        if panel.floor is not None:
            draw_floor(top, panel.floor)
        outside_legend(top)
        plot_residuals(panel.drawn, ax=bottom)
        top.set_xlabel("")
        bottom.set_xlabel(axis_label(column, panel.full[0].conventions.get(column)))
        return save(figure, stem)


def draw_tornado(study: StudyReport, panel: Panel, stem: Path) -> list[Path]:
    """Which choice of the analyst moves the answer most."""
    assert panel.sensitivity is not None
    name = headline(panel.sensitivity)
    title = f"{study.title}: {panel.metric}, law {panel.full[0].law} under other choices"
    ax = plot_tornado(tornado(panel.sensitivity, name), name, title=title)
    return save(ax.get_figure(root=True), stem)


def to_json(studies: Sequence[StudyReport]) -> dict[str, Any]:
    """Every fit at full precision; `fit` excludes the held-out runs, `all_runs` does not.

    Bootstrap draws are stored with `all_runs` only, and so are the points where these are many.
    """
    return {
        "schema": 1,
        "versions": versions(),
        "studies": [
            {
                "study": s.study,
                "family": s.family,
                "n_runs": len(s.table),
                "conventions": dict(s.table.conventions),
                "dropped": [d.to_dict() for d in s.table.dropped],
                "decision": decision_to_json(s),
                "notes": list(s.notes),
                "seed_noise": {
                    m: None if n is None else {"sigma": n.sigma, "freedom": n.freedom, "log": n.log}
                    for m, n in s.noise.items()
                },
                "compute_optimal": optimal_to_json(s.optimal),
                "panels": [
                    {
                        "name": p.name,
                        "metric": p.metric,
                        "against": p.against,
                        "runs": p.rule,
                        "sensitivity": None
                        if p.sensitivity is None
                        else p.sensitivity.to_dict("records"),
                        "refused": [{"law": law, "reason": why} for law, why in p.refused],
                        "fits": [
                            {"law": f.law, "fit": _without_draws(f), "all_runs": whole.to_dict()}
                            for f, whole in zip(p.fits, p.full, strict=True)
                        ],
                    }
                    for p in s.panels
                ],
            }
            for s in studies
        ],
    }


def decision_to_json(study: StudyReport) -> dict[str, Any]:
    """The answer with its words, which other screens repeat."""
    if study.outlook is None:
        return {"verdict": "not determined", "lines": [study.no_outlook]}
    decision = study.outlook.decision
    plan = study.plan and study.plan.to_dict()
    words = {"verdict": decision.verdict, "reason": decision.reason, "lines": decision.lines()}
    return words | decision.to_dict() | {"next": plan}


def _without_draws(result: FitResult) -> dict[str, Any]:
    row = result.replace(samples={}).to_dict()
    many = ("data", "alternatives") if result.n_points > MANY else ()
    return {key: value for key, value in row.items() if key not in many}


def optimal_to_json(optimal: dict[str, Any]) -> dict[str, Any]:
    """Exponents with intervals as plain data; the fits behind them are left out."""

    def plain(row: dict[str, Any]) -> dict[str, Any]:
        kept = (str, int, float, list)
        out: dict[str, Any] = {k: v for k, v in row.items() if isinstance(v, kept)}
        for key in ("a", "b"):
            power = row.get(key)
            if isinstance(power, PowerOfCompute):
                out[key] = power.exponent
                out[f"{key}_interval"] = list(power.interval) if power.interval else None
        return out

    if "refused" in optimal:
        return optimal
    return {
        "consistent": optimal["consistent"],
        "approaches": [plain(row) for row in optimal["approaches"]],
        "conventions": [plain(row) for row in optimal["conventions"]],
    }
