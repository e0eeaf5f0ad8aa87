"""Top of a study's part of the page: what to train, and the forecast that says so, drawn."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from analysis.forecasting.decision import Outlook
from analysis.forecasting.registered import Registered, tally
from analysis.plot.outlook import COLOR, ladder_range
from analysis.plot.style import axis_label, log_tick_values
from analysis.report.parts import escaped, finite_list, rows_table, scatter, thinned, transparent
from analysis.report.study import StudyReport


def answer_html(study: StudyReport) -> str:
    """The decision, first line first; why there is none, where there is none."""
    if study.outlook is None:
        return f"<div class='answer'><p class='first'>{escaped(study.no_outlook)}</p></div>"
    decision = study.outlook.decision
    first, *rest = decision.lines()
    lines = [f"<p class='first'>{escaped(first)}</p>"]
    for line in map(str.strip, rest):
        text = escaped(line)
        lines.append(
            f"<p><code>{text}</code></p>" if line.startswith("fmscale ") else f"<p>{text}</p>"
        )
    about = "" if decision.practice is None else escaped(decision.practice.describe())
    return f"<p class='quiet'>{about}</p><div class='answer'>{''.join(lines)}</div>"


def plan_html(study: StudyReport) -> str:
    """Which runs would narrow the forecast most, or why none is proposed."""
    title = "<h3>Which run next</h3>"
    plan = study.plan
    if plan is None or not plan.runs:
        return f"{title}<p>{escaped(plan.opening() if plan else study.no_plan)}</p>"
    commands = "".join(f"<p><code>{escaped(command)}</code></p>" for command in plan.commands)
    return (
        f"{title}<p>{escaped(plan.opening())}</p>{rows_table(plan.rows())}"
        f"<p>{escaped(plan.closing())}</p>{commands}"
    )


def registered_html(forecasts: Sequence[Registered]) -> str:
    """Registered forecasts, how their runs came out, and files that were edited later."""
    if not forecasts:
        return ""
    rows = [row for one in forecasts for row in one.rows()]
    faults = "".join(f"<p class='warn'>{escaped(one.fault)}</p>" for one in forecasts if one.fault)
    return (
        f"<h2 id='registered'>Registered forecasts</h2><p>{escaped(tally(forecasts))}</p>"
        f"{rows_table(rows)}{faults}"
    )


def outlook_figure(outlook: Outlook) -> dict[str, Any]:
    """Plotly traces and layout: the ladder, the band that widens beyond it, the target."""
    band, decision = outlook.band, outlook.decision
    level = f"{decision.level:.0%}"
    runs = outlook.runs.iloc[thinned(np.arange(len(outlook.runs)))]
    edge = {"x": finite_list(band["C"]), "type": "scatter", "mode": "lines", "line": {"width": 0},
            "hoverinfo": "skip"}  # fmt: skip
    fill, half = ({"fill": "tonexty", "fillcolor": transparent(COLOR, a)} for a in (0.14, 0.28))
    traces: list[dict[str, Any]] = [
        {**edge, "y": finite_list(band["low"]), "showlegend": False},
        {**edge, **fill, "y": finite_list(band["high"]), "name": f"a new run, {level}"},
        {**edge, "y": finite_list(band["low50"]), "showlegend": False},
        {**edge, **half, "y": finite_list(band["high50"]), "name": "a new run, 50%"},
        {**edge, "y": finite_list(band["predicted"]), "name": "forecast, best allocation",
         "line": {"color": COLOR, "width": 2}},
        scatter(runs["C"], runs["metric"], list(runs["id"]), "runs",
                {"color": "#222222", "size": 7}),
        scatter([decision.budget.flops], [decision.loss["predicted"]], [decision.lines()[0]],
                "target", {"color": "#c2410c", "size": 13, "symbol": "star"}),
    ]  # fmt: skip
    traces[-1]["error_y"] = {
        "type": "data", "symmetric": False, "color": "#c2410c",
        "array": [decision.loss["high"] - decision.loss["predicted"]],
        "arrayminus": [decision.loss["predicted"] - decision.loss["low"]],
    }  # fmt: skip
    low, high = ladder_range(outlook)
    ticks = log_tick_values(low, high)
    y: dict[str, Any] = {"type": "log", "gridcolor": "#eee",
                         "title": {"text": axis_label("metric", decision.metric)}}  # fmt: skip
    if ticks:
        y |= {"tickvals": ticks, "ticktext": [f"{value:g}" for value in ticks]}
    largest = {
        "type": "line", "x0": outlook.largest, "x1": outlook.largest, "yref": "paper",
        "y0": 0, "y1": 1, "line": {"color": "#999", "dash": "dot", "width": 1},
    }  # fmt: skip
    return {
        "data": traces,
        "layout": {
            "template": "none",
            "margin": {"l": 70, "r": 20, "t": 20, "b": 60},
            "xaxis": {"type": "log", "exponentformat": "power", "gridcolor": "#eee",
                      "title": {"text": axis_label("C", None)}},
            "yaxis": y,
            "legend": {"orientation": "h", "y": -0.18},
            "shapes": [largest],
            "hovermode": "closest",
        },
    }  # fmt: skip
