"""report.html: one file with plotly inside, so it opens from a disk without a network."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np

from analysis.diagnostics.lack_of_fit import LACK_OF_FIT
from analysis.forecasting.registered import Registered
from analysis.json_values import finite
from analysis.optima.isoflop import PowerOfCompute
from analysis.plot.fits import curve, label
from analysis.plot.style import MANY, axis_label, short_number, size_colors, some_sizes
from analysis.report.answer import answer_html, outlook_figure, plan_html, registered_html
from analysis.report.fit_card import fit_card
from analysis.report.parts import (
    escaped,
    layout,
    line,
    log_axis,
    rgb,
    rows_table,
    scatter,
    shaded,
    thinned,
)
from analysis.report.study import Panel, StudyReport
from analysis.result import FitResult

CSS = """
body{font:15px/1.5 system-ui,sans-serif;margin:0 auto;max-width:1080px;padding:24px;color:#1d1d1f}
h1{font-size:26px;margin:0 0 4px}h2{margin-top:44px;border-bottom:1px solid #ddd;padding-bottom:4px}
h3{margin:34px 0 4px}table{border-collapse:collapse;font-size:13px;margin:8px 0 16px}
td,th{border-bottom:1px solid #e4e4e4;padding:4px 10px 4px 0;text-align:left;vertical-align:top}
code{background:#f4f4f6;padding:1px 4px;border-radius:3px}.quiet{color:#666;font-size:13px}
.warn{color:#8a5300}details{margin:6px 0}
pre{background:#f7f7f9;padding:10px;overflow:auto;font-size:12px}
.answer{border-left:4px solid #2a6fb0;background:#f3f7fb;padding:10px 16px;margin:12px 0}
.answer p{margin:2px 0}.answer .first{font-size:18px;font-weight:600}
.figure{height:520px}nav a{margin-right:14px}
"""


def render_html(
    studies: Sequence[StudyReport], made: str = "", forecasts: Sequence[Registered] = ()
) -> str:
    """The whole page: `made` says when and by which command, `forecasts` are those registered of
    these studies."""
    from plotly.offline import get_plotlyjs

    body: list[str] = []
    figures: dict[str, dict[str, Any]] = {}
    for study in studies:
        name = escaped(study.study)
        body.append(f"<h2 id='{name}'>{name} ({escaped(study.family)})</h2>")
        body.append(answer_html(study))
        if study.outlook:
            key = f"f{len(figures)}"
            figures[key] = outlook_figure(study.outlook)
            body.append(f"<div class='figure' id='{key}'></div>")
        notes = "".join(f"<li>{escaped(note)}</li>" for note in study.cautions())
        body.append(f"<p>{_count(len(study.table), 'run')}</p><ul>{notes}</ul>")
        if study.table.dropped:
            items = "".join(f"<li>{escaped(str(d))}</li>" for d in study.table.dropped)
            body.append(f"<details open><summary>Left out</summary><ul>{items}</ul></details>")
        body.append(_optimal(study))
        for panel in study.panels:
            if not panel.fits:
                body.append(f"<h3>{escaped(panel.name)}</h3>" + _refusals(panel))
                continue
            key = f"f{len(figures)}"
            figures[key] = panel_figure(study, panel)
            body.append(f"<h3>{escaped(panel.metric)} against {panel.letters}</h3>")
            few = f" Of more than {MANY} runs some are drawn." if len(study.table) > MANY else ""
            body.append(
                f"<p class='quiet'>{escaped(panel.rule)}; diamonds are held out of the check."
                f"{few}</p>"
            )
            body.append(f"<div class='figure' id='{key}'></div>{_table(panel)}{_refusals(panel)}")
            body.append(_sensitivity(panel))
            body += [
                f"<details><summary>Fit card: {escaped(r.law)}</summary>"
                f"<pre>{escaped(fit_card(r))}</pre></details>"
                for r in panel.answers
            ]
        body.append(plan_html(study))
    body.append(registered_html(forecasts))
    links = "".join(f"<a href='#{escaped(s.study)}'>{escaped(s.study)}</a>" for s in studies)
    # In a script no "<" may remain: "</script" would end it, "<!--" keep it from ending.
    data = json.dumps(finite(figures), allow_nan=False).replace("<", "\\u003c")
    return (
        "<!doctype html><html lang='en'><head><meta charset='utf-8'>"
        "<meta name='viewport' content='width=device-width,initial-scale=1'>"
        f"<link rel='icon' href='data:,'><title>Scaling laws</title><style>{CSS}</style>"
        f"<script>{get_plotlyjs()}</script></head><body><h1>Scaling laws</h1>"
        f"<p class='quiet'>{escaped(made)}</p>"
        "<p class='quiet'>Points are runs (hover for their id); lines are laws fitted to all runs, "
        "with 95 % bands of the mean curve that hold if the law is true; the held-out error is of "
        f"the same law without the held-out runs.</p><nav>{links}</nav>{''.join(body)}"
        f"<script>const figures={data};"
        "for(const[id,f]of Object.entries(figures)){"
        "Plotly.newPlot(id,f.data,f.layout,{responsive:true,displaylogo:false});}"
        "document.body.dataset.ready='yes';</script></body></html>"
    )


def panel_figure(study: StudyReport, panel: Panel) -> dict[str, Any]:
    """Plotly traces and layout of one panel."""
    fits = panel.drawn
    first = fits[0]
    joint = panel.against == "joint"
    letter = first.model.columns[1] if joint else first.model.columns[0]
    shown = letter if joint else panel.against
    traces: list[dict[str, Any]] = []
    others = study.others(panel)
    if not joint and len(others):
        shown_runs = others.iloc[thinned(np.arange(len(others)))]
        x, y = shown_runs[panel.against], shown_runs[panel.metric]
        look = {"color": "#c9c9c9", "size": 5}
        traces.append(scatter(x, y, list(shown_runs["run_id"]), "other runs", look))
    traces += _runs(first, letter, panel.sizes)
    if joint:
        traces += _joint_curves(first, panel.sizes)
    else:
        grid = curve(fits, letter)
        for result in fits:
            name, band = label(result).replace("\n", " "), result.predict({letter: grid})
            traces += _band(grid, band, result.model.color, name)
    y = np.array(first.data["y"], dtype=float)
    log_y = bool((y > 0).all())
    if panel.floor is not None:
        look = {"color": "#444444", "width": 1.2, "dash": "dash"}
        ends, level = curve(fits, letter)[[0, -1]], panel.floor
        traces.append(line(ends, [level, level], look, name=f"floor {level:.3g}"))
        y = np.append(y, level)
    y_axis: dict[str, Any] = {"title": {"text": axis_label("metric", panel.metric)}}
    if log_y:
        ratio = (y.max() / y.min()) ** 0.25 * 1.02
        low, high = float(y.min() / ratio), float(y.max() * ratio)
        y_axis |= log_axis(low, high) | {"range": [float(np.log10(low)), float(np.log10(high))]}
    x_axis = {
        "dtick": "D2",  # 1, 2, 5
        "exponentformat": "power" if shown == "C" else "SI",
        "title": {"text": axis_label(shown, first.conventions.get(shown))},
    }
    return {"data": traces, "layout": layout(x_axis, y_axis)}


def _runs(result: FitResult, letter: str, sizes: Any) -> list[dict[str, Any]]:
    x, y = np.array(result.data[letter], dtype=float), np.array(result.data["y"], dtype=float)
    held = np.array(result.data["held_out"], dtype=bool)
    names = np.array(result.data["id"], dtype=object)
    colors = {size: rgb(rgba) for size, rgba in size_colors(sizes.tolist()).items()}
    shown = some_sizes(sizes.tolist())
    # Each size is a trace of its own, with a name; of very many, all are one.
    groups = shown if len(shown) == len(colors) else [None]
    out = []
    for size in groups:
        for flag, symbol in ((False, "circle"), (True, "diamond-open")):
            at = thinned(np.flatnonzero((sizes == size if size else True) & (held == flag)))
            if not len(at):
                continue
            color = colors[size] if size else [colors[v] for v in sizes[at]]
            name = f"N = {short_number(size)}" if size else "runs"
            width, area = (2, 11) if flag else (0, 8)
            marker = {"color": color, "symbol": symbol, "size": area, "line": {"width": width}}
            name += " (held out)" if flag else ""
            out.append(scatter(x[at], y[at], list(names[at]), name, marker))
    return out


def _joint_curves(result: FitResult, sizes: Any) -> list[dict[str, Any]]:
    over, along = result.model.columns
    grid = curve([result], along)
    colors = size_colors(sizes.tolist())
    out = []
    for size in some_sizes(sizes.tolist()):
        band = result.predict({over: np.full_like(grid, size), along: grid})
        name = f"{result.law}, N = {short_number(size)}"
        out += _band(grid, band, rgb(colors[size]), name, legend=False)
    return out


def _band(grid: Any, band: Any, color: str, name: str, legend: bool = True) -> list[dict[str, Any]]:
    mean = line(grid, band["mean"], {"color": color, "width": 2}, name=name, showlegend=legend)
    if band["low"].isna().any():
        return [mean]
    return [*shaded(grid, band["low"], band["high"], color, showlegend=False), mean]


def _table(panel: Panel) -> str:
    names = ("law", "formula", "parameters (95 % if this law is true)", "held-out error", "fit")
    head = "<tr>" + "".join(f"<th>{name}</th>" for name in names) + "</tr>"
    rows = []
    for r in panel.answers:
        parameters = "<br>".join(
            f"{escaped(n)} = {v:.6g} {escaped(r.interval_text(n))}" for n, v in r.parameters.items()
        )
        held = r.held_out and r.held_out["mean_absolute_relative_error"]
        error = "-"
        if r.held_out and held is not None:
            error = f"{held:.2%} ({_count(r.held_out['n'], 'run')})"
        own = [
            w for w in r.warnings if not w.startswith(LACK_OF_FIT)
        ]  # those are among the cautions
        warnings = "".join(f"<br><span class='warn'>{escaped(w)}</span>" for w in own)
        rows.append(
            f"<tr><td>{escaped(r.law)}</td><td><code>{escaped(r.formula())}</code></td>"
            f"<td>{parameters}</td>"
            f"<td>{error}</td><td>{r.n_points} points; {escaped(r.interval_method)}"
            f"{warnings}</td></tr>"
        )
    return f"<table>{head}{''.join(rows)}</table>"


def _count(n: int, noun: str) -> str:
    return f"{n} {noun}" if n == 1 else f"{n} {noun}s"


def _sensitivity(panel: Panel) -> str:
    """The first law under other choices of the analyst."""
    table = panel.sensitivity
    if table is None:
        return ""
    names = [str(c) for c in table.columns if c not in ("group", "refused")]
    rows = [{name: _cell(row[name]) for name in names} for row in table.to_dict("records")]
    title = f"Sensitivity of {escaped(panel.full[0].law)} to the choices of the analysis"
    return f"<details><summary>{title}</summary>{rows_table(rows)}</details>"


def _cell(value: object) -> str:
    if isinstance(value, float):
        return "-" if np.isnan(value) else f"{value:.5g}"
    return str(value)


def _optimal(study: StudyReport) -> str:
    """Compute-optimal exponents three ways, and approach 3 under each counting convention."""
    found = study.optimal
    title = "<h3>Compute-optimal size and data: N* ~ C^a, D* ~ C^b</h3>"
    if "refused" in found:
        return f"{title}<p class='warn'>{escaped(found['refused'])}</p>"
    verdict = {
        True: "The approaches agree within their intervals.",
        False: "The approaches do not agree.",
        None: "Fewer than two approaches have an interval: they cannot be held against each other.",
    }
    rows = "".join(
        f"<tr><td>{escaped(r['approach'])}</td>{_power(r.get('a'))}{_power(r.get('b'))}"
        f"<td>{escaped(r.get('reason', ''))}</td></tr>"
        for r in found["approaches"]
    )
    conventions = "".join(
        f"<tr><td>N = {escaped(r['N'])}, C = {escaped(r['C'])}</td>{_power(r['a'])}{_power(r['b'])}"
        f"<td>C = {escaped(r['rule'])}</td></tr>"
        for r in found["conventions"]
    )
    head = "<th>a</th><th>b</th><th></th></tr>"
    return (
        f"{title}<p class='quiet'>{verdict[found['consistent']]} Exponents with 95 % intervals.</p>"
        f"<table><tr><th>approach</th>{head}{rows}</table>"
        "<details><summary>Approach 3 under each way to count parameters and compute</summary>"
        f"<table><tr><th>counted</th>{head}{conventions}</table></details>"
    )


def _power(law: PowerOfCompute | None) -> str:
    if law is None:
        return "<td>-</td>"
    ends = "" if law.interval is None else f" [{law.interval[0]:.3f}, {law.interval[1]:.3f}]"
    return f"<td>{law.exponent:.3f}{ends}</td>"


def _refusals(panel: Panel) -> str:
    return "".join(
        f"<p class='warn'>{escaped(law)}: {escaped(why)}</p>" for law, why in panel.refused
    )
