"""How the answer moves when a choice does: one table, by default, for every fit.

Replications found that dropping a handful of points moved beta of Hoffmann et al. 2022 from 0.45
to 0.33; a fit that hides its choices hides this.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from analysis.refit import refit
from analysis.result import FitResult
from analysis.solver.global_fit import FitError
from analysis.tables.table import TableError

DELTAS = (1e-4, 1e-3, 1e-2)
TOP_DROPPED = (1, 2, 5, 10)
AS_FITTED = "as fitted"
EARLY = (0.1, 0.25)  # shares of the runs with the least data, left out as "still warming up"


def sensitivity(result: FitResult, deltas: Sequence[float] = DELTAS) -> pd.DataFrame:
    """Refits of the stored points under other choices.

    Returns:
        One row a variant: group (delta, objective, dropped, early, form, convention), variant,
        n_points, every parameter of the law, and `a` = beta/(alpha + beta) for joint laws.
    """
    frame = result.fitted()
    variants: list[tuple[str, str, pd.DataFrame, dict[str, Any]]] = [("base", AS_FITTED, frame, {})]
    if result.residual_log:
        for delta in deltas:
            options = {"objective": "huber", "delta": delta}
            variants.append(("delta", f"Huber delta {delta:g}", frame, options))
        for name in ("log_least_squares", "absolute"):
            variants.append(("objective", name, frame, {"objective": name}))
    order = np.argsort(frame["y"].to_numpy())
    for count in TOP_DROPPED:
        if count < len(frame) / 4:
            kept = frame.iloc[np.sort(order[:-count])]
            variants.append(("dropped", f"without the {count} highest", kept, {}))
    data = next((c for c in ("D", "S", "x", "C") if c in frame), None)
    for share in EARLY:
        count = int(share * len(frame))
        if data and count and len(frame) - count > 2 * len(result.parameters):
            late = np.sort(np.argsort(frame[data].to_numpy(), kind="stable")[count:])
            variants.append(("early", f"without {share:.0%}, least {data}", frame.iloc[late], {}))
    variants += [("form", form, frame, {"law": form}) for form in result.model.relatives]
    for letter, name, values in result.other_conventions():
        if letter in result.model.columns:
            other = frame.assign(**{letter: values})
            variants.append(("convention", f"{letter} = {name}", other, {}))
    return pd.DataFrame([_row(result, *variant) for variant in variants])


def _row(
    result: FitResult, group: str, name: str, frame: pd.DataFrame, options: dict[str, Any]
) -> dict[str, Any]:
    row: dict[str, Any] = {"group": group, "variant": name, "n_points": len(frame)}
    try:
        found = refit(result, frame, **options)
    except (FitError, TableError) as reason:
        return {**row, "refused": str(reason)}
    row |= found.parameters
    p = found.parameters
    if {"alpha", "beta"} <= set(p) and p["alpha"] + p["beta"] > 0:
        row["a"] = p["beta"] / (p["alpha"] + p["beta"])
    return row


def headline(table: pd.DataFrame) -> str:
    """The quantity to act on: the compute-optimal exponent, else the last parameter of the law."""
    if "a" in table and {"alpha", "beta"} <= set(table.columns):
        return "a"
    others = ("group", "variant", "n_points", "refused")
    own = table[table["group"] == "base"].notna().any()  # other laws have parameters of their own
    return str([c for c in table.columns if c not in others and own[c]][-1])


def tornado(table: pd.DataFrame, quantity: str) -> pd.DataFrame:
    """Range of one quantity over each group of choices, widest first.

    Returns:
        Columns group, low, high, low_variant, high_variant, base.
    """
    if quantity not in table:
        have = ", ".join(table.columns)
        raise ValueError(f"{quantity!r} is not in the sensitivity table: {have}")
    known = table[table[quantity].notna()]
    base = float(known.loc[known["group"] == "base", quantity].iloc[0])
    rows = []
    for group, part in known[known["group"] != "base"].groupby("group"):
        values, names = part[quantity].to_numpy(dtype=float), list(part["variant"])
        low, high = int(np.argmin(values)), int(np.argmax(values))
        rows.append({
            "group": group,
            "low": min(float(values[low]), base), "high": max(float(values[high]), base),
            "low_variant": names[low] if values[low] < base else AS_FITTED,
            "high_variant": names[high] if values[high] > base else AS_FITTED, "base": base,
        })  # fmt: skip
    out = pd.DataFrame(rows)
    if out.empty:
        return out
    width = out["high"] - out["low"]
    return out.loc[width.sort_values(ascending=False).index].reset_index(drop=True)
