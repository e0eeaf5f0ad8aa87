"""Closing screen of `make demo`: what was measured, where it lies, what to type and to train."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.panel import Panel
from rich.table import Table

from analysis.cli.screen import wrapped
from fmscale.commands.export import rows
from fmscale.runs.identity import short_number
from fmscale.runs.store import Study

STUDIES = ("gpt_demo", "clip_demo")
NEXT = """\
Open {report} in a browser.
  source .venv/bin/activate
  fmscale status                        # every run
  fmscale sweep experiment=gpt_demo     # again: trains nothing
  fmscale plan model=gpt/2x40,gpt/2x72 budget.tokens=[1e6,2e6] --price 2.50
  fmscale sweep model=gpt/2x40,gpt/2x72 budget.tokens=[1e6,2e6] study=mine
  fmscale-analysis report runs/mine --out reports/mine"""


def measured(study: Study) -> list[str]:
    """One row of the table: what a study spans and where it ended."""
    table = rows(study)
    done = [row for row in table if row["status"] == "completed"]
    unit = "n_tokens" if done[0]["family"] == "gpt" else "n_samples"

    def span(column: str) -> str:
        values = [row[column] for row in done]
        return f"{short_number(min(values))} - {short_number(max(values))}"

    best = min(done, key=lambda row: row["val_loss"])
    result = f"{best['val_loss']:.3f} nats"
    if "zero_shot_error" in best:
        result += f", zero-shot error {best['zero_shot_error']:.0%}"
    return [
        study.path.name, f"{len(done)} of {len(study.manifest())}", span("n_params_non_embedding"),
        f"{span(unit)} {unit.removeprefix('n_')}", f"{best['model']}: {result}",
    ]  # fmt: skip


def headline(study: dict[str, Any]) -> list[str]:
    """The laws against compute, with the error on the held-out largest runs."""
    lines = []
    for panel in study["panels"]:
        if panel["against"] != "C":
            continue
        for entry in panel["fits"]:
            formula = entry["all_runs"]["formula"]
            error = (entry["fit"].get("held_out") or {}).get("mean_absolute_relative_error")
            missed = f"   held-out error {error:.1%}" if error is not None else ""
            lines.append(f"{study['study']:10} {panel['metric']:16} {formula:30}{missed}")
    return lines


def advice(study: dict[str, Any]) -> str:
    """What to train, as the report decides it, for a screen of 80 columns."""
    return "\n".join(wrapped(f"  {line}") for line in study["decision"]["lines"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs_dir", type=Path)
    parser.add_argument("report_dir", type=Path)
    options = parser.parse_args()
    console = Console()
    table = Table(title="measured on this machine", title_justify="left")
    for name in ("study", "runs", "N non-embedding", "D", "lowest loss"):
        table.add_column(name)
    for name in STUDIES:
        table.add_row(*measured(Study.open(options.runs_dir, name)))
    console.print(table)
    fits = json.loads((options.report_dir / "fits.json").read_text())
    for study in fits["studies"]:
        for line in headline(study):
            console.print(line, highlight=False, soft_wrap=True)
    figures = f"Figures (PNG, SVG) and fit cards: {options.report_dir}/"
    report = options.report_dir / "report.html"
    console.print(Panel(f"{figures}\n\n{NEXT.format(report=report)}", title="what next"))
    for study in fits["studies"]:
        console.print(f"What to train, by {study['study']}:", style="bold", highlight=False)
        console.print(advice(study), highlight=False, soft_wrap=True, markup=False)


if __name__ == "__main__":
    main()
