"""Parts of the page: escaped text, and points and lines as plotly draws them."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from analysis.plot.style import MANY


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


def finite_list(values: Any) -> list[float | None]:
    """JSON knows no infinity: a value that is not finite is missing."""
    return [float(v) if np.isfinite(v) else None for v in np.asarray(values, dtype=float)]


def transparent(color: str, alpha: float = 0.14) -> str:
    r, g, b = (int(color[i : i + 2], 16) for i in (1, 3, 5))
    return f"rgba({r},{g},{b},{alpha})"


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
