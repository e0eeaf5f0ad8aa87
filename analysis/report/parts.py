"""Parts of the page: escaped text, and points and lines as plotly draws them."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from analysis.plot.style import MANY, log_tick_values


def scatter(x: Any, y: Any, text: list[Any], name: str, marker: dict[str, Any]) -> dict[str, Any]:
    return {
        "x": finite_list(x),
        "y": finite_list(y),
        "text": [escaped(t) for t in text],  # plotly draws tags, and links among them
        "type": "scatter",
        "mode": "markers",
        "name": name,
        "marker": marker,
        "hovertemplate": "%{text}<br>%{x:.4g}, %{y:.5g}<extra></extra>",
    }


def line(x: Any, y: Any, look: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"x": finite_list(x), "y": finite_list(y), "type": "scatter", "mode": "lines",
            "line": look, **more}  # fmt: skip


def shaded(
    x: Any, low: Any, high: Any, color: str, alpha: float = 0.14, **more: Any
) -> list[dict[str, Any]]:
    """A band as two lines without width, the second filled down to the first."""
    r, g, b = (int(color[i : i + 2], 16) for i in (1, 3, 5))
    fill = {"fill": "tonexty", "fillcolor": f"rgba({r},{g},{b},{alpha})"}
    return [
        line(x, low, {"width": 0}, hoverinfo="skip", showlegend=False),
        line(x, high, {"width": 0}, hoverinfo="skip", **fill, **more),
    ]


def log_axis(low: float, high: float) -> dict[str, Any]:
    """A logarithmic axis with a few readable ticks between two values, where there are some."""
    ticks = log_tick_values(low, high)
    words = {"tickvals": ticks, "ticktext": [f"{value:g}" for value in ticks]} if ticks else {}
    return {"type": "log", **words}


def layout(x: dict[str, Any], y: dict[str, Any]) -> dict[str, Any]:
    """Of a figure with a logarithmic x axis and the legend below."""
    return {
        "template": "none",
        "margin": {"l": 70, "r": 20, "t": 20, "b": 60},
        "xaxis": {"type": "log", "gridcolor": "#eee", **x},
        "yaxis": {"gridcolor": "#eee", **y},
        "legend": {"orientation": "h", "y": -0.18},
        "hovermode": "closest",
    }


def finite_list(values: Any) -> list[float | None]:
    """JSON knows no infinity: a value that is not finite is missing."""
    return [float(v) if np.isfinite(v) else None for v in np.asarray(values, dtype=float)]


def rgb(rgba: tuple[float, float, float, float]) -> str:
    return "#" + "".join(f"{round(255 * c):02x}" for c in rgba[:3])


def escaped(text: str) -> str:
    return html.escape(str(text))


def rows_table(rows: Sequence[Mapping[str, str]]) -> str:
    """A table of texts with the names of the first row as its head; nothing of no rows."""
    if not rows:
        return ""
    lines = [("th", list(rows[0])), *(("td", list(row.values())) for row in rows)]
    cells = ["".join(f"<{tag}>{escaped(cell)}</{tag}>" for cell in line) for tag, line in lines]
    return "<table>" + "".join(f"<tr>{line}</tr>" for line in cells) + "</table>"


def thinned(rows: Any) -> Any:
    """As many rows as a page can show, evenly spaced."""
    return rows[:: -(-len(rows) // MANY)] if len(rows) > MANY else rows
