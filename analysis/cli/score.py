"""fmscale-analysis score: a registered forecast against the run that was then made."""

from __future__ import annotations

import argparse
from pathlib import Path

import pandas as pd

from analysis.cli.options import add_json_option, add_table_options, read_mapped, write_json
from analysis.cli.screen import table_text
from analysis.registered import FOLDER, load_registered, score, scores

EXAMPLE = (
    "fmscale-analysis forecast runs/ladder --n 7e9 --d 140e9 --register big; "
    "fmscale-analysis score big runs/large"
)


def add(parsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = parsers.add_parser(
        "score",
        help="was a registered forecast right?",
        description="Finds the run that a registered forecast was about, says hit or miss, and "
        "keeps the list.",
        epilog=f"example: {EXAMPLE}",
    )
    parser.add_argument("name", help="of the forecast, as it was registered")
    add_table_options(parser)
    parser.add_argument("--registry", type=Path, default=FOLDER, help="its folder (forecasts)")
    add_json_option(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    entry = load_registered(args.name, args.registry)
    rows = score(args.name, read_mapped(args), args.registry)
    write_json(args.json, {"forecast": entry, "scores": rows})
    for row in rows:
        print(
            f"{'hit' if row['hit'] else 'miss'}: {row['run']} reached {row['value']:.4g}, forecast "
            f"{row['predicted']:.4g} [{row['low']:.4g}, {row['high']:.4g}], "
            f"error {row['error']:+.1%}, interval score {row['interval_score']:.3g}"
        )
    print(f"  registered {entry['registered_at']} from {entry['table']['rows']} runs of "
          f"{entry['table']['source']}")  # fmt: skip
    kept = scores(args.registry)
    print(f"  {sum(row['hit'] for row in kept)} of {len(kept)} scored forecasts of "
          f"{args.registry} hold their run")  # fmt: skip
    shown = pd.DataFrame(kept)[["name", "run", "value", "predicted", "hit", "error"]]
    print(table_text(shown))
    return 0
