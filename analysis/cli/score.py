"""fmscale-analysis score: was a registered forecast right?

Finds the run that a registered forecast was about, says hit or miss, and keeps the list.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from analysis.cli.options import add_shared, add_table_options, read_mapped, write_json
from analysis.cli.screen import wrapped
from analysis.forecasting.registered import (
    FOLDER,
    Registered,
    load_registered,
    outcome_texts,
    registered,
    score,
    tally,
)
from analysis.tables.table import RunTable

EXAMPLE = (
    "fmscale-analysis forecast runs/ladder --n 7e9 --d 140e9 --register big; "
    "fmscale-analysis score big runs/large"
)


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", help="of the forecast, as it was registered")
    add_table_options(parser)
    parser.add_argument("--registry", type=Path, default=FOLDER, help="its folder (forecasts)")
    add_shared(parser, "json")


def run(args: argparse.Namespace) -> int:
    entry = load_registered(args.name, args.registry)
    rows = score(args.name, read_mapped(args), args.registry)
    write_json(args.json, {"forecast": entry, "scores": rows})
    for row in rows:
        print(wrapped(outcome_line(row)))
    made = entry["table"]
    kept = registered(args.registry)
    (own,) = (one for one in kept if one.name == args.name)
    print(wrapped(f"  {own.question()} from {made['rows']} runs of {made['source']}"))
    print(f"  {tally(kept)}")
    print("\n".join(registered_lines([one for one in kept if one is not own])))
    return 0


def outcome_line(row: Mapping[str, Any]) -> str:
    said = outcome_texts(row)
    return (
        f"{said['outcome']}: {said['run']} reached {said['value']}, error {said['error']}, "
        f"interval score {said['interval score']}"
    )


def registered_lines(forecasts: Sequence[Registered], tables: Sequence[RunTable] = ()) -> list[str]:
    """Each registered forecast and how its runs came out; files that are none, and why.

    `tables` are studies that may have the run of an open forecast.
    """
    lines = []
    for one in forecasts:
        if one.entry is None:
            lines.append(f"  {one.name}: {one.fault}")
            continue
        lines.append(f"  {one.name}: {one.question()}")
        lines += [f"    {outcome_line(row)}" for row in one.outcomes]
        if not one.outcomes:
            there = [table.source for table in tables if one.may_be_scored(table)]
            commands = [f"    fmscale-analysis score {one.name} {place}" for place in there]
            lines += ["    open: its run is there", *commands] if there else ["    open"]
    return [wrapped(line) for line in lines]
