"""Top of a study's part of the page: what to train, and the forecast that says so, drawn."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from analysis.forecasting.decision import Outlook
from analysis.forecasting.registered import Registered, tally
from analysis.plot.outlook import COLOR, TARGET, ladder_range
from analysis.plot.style import axis_label
from analysis.report.parts import (
    escaped,
    layout,
    line,
    log_axis,
    rows_table,
    scatter,
    shaded,
    thinned,
)
from analysis.report.study import StudyReport


def answer_html(study: StudyReport) -> str:
    """The decision, first line first; why there is none, where there is none."""
    if study.outlook is None:
        return f"<div class='answer'><p class='first'>{escaped(study.no_outlook)}</p></div>"
    decision = study.outlook.decision
    first, *rest = decision.lines()
    lines = [f"<p class='first'>{escaped(first)}</p>"]
    for said in map(str.strip, rest):
        text = escaped(said)
        command = said.startswith("fmscale ")
        lines.append(f"<p><code>{text}</code></p>" if command else f"<p>{text}</p>")
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
    c, x = decision.budget.flops, band["C"]
    traces: list[dict[str, Any]] = [
        *shaded(x, band["low"], band["high"], COLOR, 0.14, name=f"a new run, {level}"),
        *shaded(x, band["low50"], band["high50"], COLOR, 0.28, name="a new run, 50%"),
        line(x, band["predicted"], {"color": COLOR, "width": 2}, hoverinfo="skip",
             name="forecast, best allocation"),
        scatter(runs["C"], runs["metric"], list(runs["id"]), "runs",
                {"color": "#222222", "size": 7}),
        scatter([c], [decision.loss["predicted"]], [decision.lines()[0]], "target",
                {"color": TARGET, "size": 13, "symbol": "star"}),
    ]  # fmt: skip
    traces[-1]["error_y"] = {
        "type": "data", "symmetric": False, "color": TARGET,
        "array": [decision.loss["high"] - decision.loss["predicted"]],
        "arrayminus": [decision.loss["predicted"] - decision.loss["low"]],
    }  # fmt: skip
    largest = {
        "type": "line", "x0": outlook.largest, "x1": outlook.largest, "yref": "paper",
        "y0": 0, "y1": 1, "line": {"color": "#999", "dash": "dot", "width": 1},
    }  # fmt: skip
    x_axis = {"exponentformat": "power", "title": {"text": axis_label("C")}}
    y_axis = {"title": {"text": axis_label("metric", decision.metric)}}
    y_axis |= log_axis(*ladder_range(outlook))
    return {"data": traces, "layout": layout(x_axis, y_axis) | {"shapes": [largest]}}
