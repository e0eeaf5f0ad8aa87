"""Real ladders cut short: the runs below a cut are known, those at twice the cut or more are not.

The tables are read from a folder that the user names, with a `groups.json` that lists them:
source, name, file, `nd` (columns N, D, C, loss) or `x` (columns C, loss), and whether its column
`split` holds a published split. The tables themselves are not part of this project.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from analysis.forecasting import Forecaster, Ladder
from analysis.forecasting.combination import Backtest, Outlook

CUTS = (100, 30, 10, 4)
BINS = ("2-4", "4-10", "10-30", ">30")
EDGES = (4.0, 10.0, 30.0)
NEAREST = 2.0
FEWEST = {"surface": 10, "frontier": 5, "curve": 5}
NEAR = 1 + 1e-9
CAP = 60  # forecast runs of a case that are scored, evenly spread


@dataclass(frozen=True)
class Case:
    """One ladder, one cut; `own` is the half width of the planted law's own interval."""

    source: str
    name: str
    kind: str  # surface (N and D), frontier or curve (compute alone)
    cut: str
    outlook: Outlook
    backtests: list[Backtest]
    y: np.ndarray
    bin: np.ndarray
    own: np.ndarray | None = None


def real_cases(folder: Path) -> Iterator[Case]:
    for group in json.loads((folder / "groups.json").read_text()):
        frame = pd.read_csv(folder / group["file"])
        kinds = ["surface"] * bool(group["nd"]) + ["frontier"] * bool(group["frontier"])
        for kind in [*kinds, *["curve"] * bool(group["x"])]:
            rows = frontier(frame) if kind == "frontier" else frame
            for name, train, test in splits(frame, rows, bool(group["published"])):
                test = test[test["C"] >= NEAREST * train["C"].max() / NEAR]
                if enough(train, kind) and len(test):
                    yield make_case(group["source"], group["name"], kind, name, train, test)


def splits(
    frame: pd.DataFrame, rows: pd.DataFrame, published: bool
) -> Iterator[tuple[str, pd.DataFrame, pd.DataFrame]]:
    """Cuts snapped down to the largest compute really trained, and the published split."""
    largest, done = frame["C"].max(), set()
    for times in CUTS:
        below = frame.loc[frame["C"] <= largest / times * NEAR, "C"]
        if len(below) and (cut := below.max()) not in done:
            done.add(cut)
            yield f"1/{times}", rows[rows["C"] <= cut * NEAR], rows[rows["C"] > cut * NEAR]
    if published:
        yield "published", rows[rows["split"] == "train"], rows[rows["split"] == "test"]


def frontier(frame: pd.DataFrame) -> pd.DataFrame:
    """Runs better than every cheaper one."""
    rows = frame.sort_values(["C", "loss"])
    best = rows["loss"].cummin().shift()
    return rows[(rows["loss"] < best) | best.isna()]


def enough(train: pd.DataFrame, kind: str) -> bool:
    levels = kind != "surface" or min(train["N"].nunique(), train["D"].nunique()) >= 3
    return len(train) >= FEWEST[kind] and levels


def make_ladder(frame: pd.DataFrame, kind: str) -> Ladder:
    letters = ["N", "D"] if kind == "surface" else ["C"]
    logs = {c: np.log(frame[c].to_numpy(float)) for c in {*letters, "C", "loss"}}
    return Ladder(
        np.array([logs[c] for c in letters]), logs["C"], logs["loss"], np.ones(len(frame))
    )


def make_case(
    source: str, name: str, kind: str, cut: str, train: pd.DataFrame, test: pd.DataFrame
) -> Case:
    order = test["C"].sort_values(kind="stable").index
    test = test.loc[order[np.unique(np.linspace(0, len(test) - 1, CAP).round().astype(int))]]
    maker, asked = Forecaster(make_ladder(train, kind)), make_ladder(test, kind)
    distance = np.exp(asked.size - maker.ladder.top) * NEAR
    outlook = maker.outlook(asked.x, asked.size)
    bins = np.digitize(distance, EDGES)
    backtests = [thinned(b) for b in maker.backtests]
    return Case(source, name, kind, cut, outlook, backtests, asked.y, bins)


def thinned(backtest: Backtest) -> Backtest:
    """At most CAP runs, for speed."""
    if len(backtest.y) <= CAP:
        return backtest
    kept = np.linspace(0, len(backtest.y) - 1, CAP).round().astype(int)
    seen = backtest.outlook
    outlook = replace(
        seen,
        center=seen.center[..., kept],
        spread=seen.spread[..., kept],
        distance=seen.distance[kept],
    )
    return Backtest(outlook, backtest.y[kept])
