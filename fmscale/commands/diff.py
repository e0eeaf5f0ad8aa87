"""What differs between two runs, and which of it gives them different ids."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from fmscale.commands.arguments import make_parser
from fmscale.errors import config_errors_exit
from fmscale.public import with_public_names
from fmscale.runs import config_file
from fmscale.runs.find import FORMS, find
from fmscale.runs.hyperparameters import flatten
from fmscale.runs.identity import canonical, identity

EXAMPLE = """\
examples:
  fmscale diff gpt_2x24-524k-s1-20fe0f3392 gpt_2x24-524k-s1-59696fe450
  fmscale diff gpt_2x24-524k-s1-20fe gpt_2x24-524k-s1-5969     # unique beginnings suffice
  fmscale diff gpt_lr/gpt_2x24-524k-s1-20fe gpt_demo/gpt_2x24-524k-s1-5969
"""
ABSENT = "(absent)"


@dataclass(frozen=True)
class Difference:
    """One key of the configuration."""

    key: str
    first: Any
    second: Any
    in_identity: bool  # whether it changes the numbers, and so the id


def differences(first: Mapping[str, Any], second: Mapping[str, Any]) -> list[Difference]:
    """Keys in which two stored configurations differ; those that enter the id come first."""
    first, second = with_public_names(first), with_public_names(second)
    flat = [dict(flatten(config)) for config in (first, second)]
    counted = [dict(flatten(_identity(config))) for config in (first, second)]
    found = []
    for key in sorted({*flat[0], *flat[1]}):
        values = [side.get(key, ABSENT) for side in flat]
        if canonical(values[0]) != canonical(values[1]):
            in_identity = any(key in side for side in counted)
            found.append(Difference(key, values[0], values[1], in_identity))
    return sorted(found, key=lambda d: not d.in_identity)


def _identity(config: Mapping[str, Any]) -> dict[str, Any]:
    # An epoch limit does not change the numbers of a run that respects it.
    budget = {k: v for k, v in config["budget"].items() if k != "max_epochs"}
    return identity({**config, "budget": budget})


def main() -> None:
    """Entry point of `fmscale diff`."""
    parser = make_parser("diff", __doc__, EXAMPLE)
    parser.add_argument("first", help=FORMS)
    parser.add_argument("second")
    options = parser.parse_args()
    with config_errors_exit(ValueError):
        folders = [find(options.runs_dir, name) for name in (options.first, options.second)]
        found = differences(*(config_file.read(f.path / "config.yaml") for f in folders))
    console = Console()
    if not found:
        console.print("The two configurations are the same.")
        return
    table = Table()
    for name in ("key", *(f"{f.study}/{f.run_id}" for f in folders), "changes the id"):
        table.add_column(name, overflow="fold")
    for d in found:
        row = (d.key, str(d.first), str(d.second))
        table.add_row(*map(escape, row), "yes" if d.in_identity else "no")
    console.print(table)
