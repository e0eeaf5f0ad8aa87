"""The `fmscale` command: one word for each thing a person does with a study."""

from __future__ import annotations

import importlib
import os
import sys

from fmscale import __version__

# Imported only when called: `fmscale status` must not wait for torch.
COMMANDS = {
    "train": ("fmscale.train", "train one model, with one run for each budget"),
    "sweep": ("fmscale.train", "train a grid or a preset; finished runs are skipped"),
    "plan": (
        "fmscale.commands.plan",
        "size, FLOPs, time and price of a sweep, before it is launched",
    ),
    "prepare": ("fmscale.commands.prepare", "text to token shards, streamed and resumable"),
    "status": ("fmscale.commands.status", "done, running, failed and missing runs"),
    "retry": ("fmscale.commands.retry", "train failed and missing runs as they were asked for"),
    "diff": ("fmscale.commands.diff", "what differs between two runs, and why their ids do"),
    "evaluate": (
        "fmscale.commands.evaluate",
        "measure finished runs; the results join their records",
    ),
    "sample": ("fmscale.commands.sample", "text from trained runs, side by side"),
    "convert": ("fmscale.commands.convert", "a trained run in the format of another library"),
    "import": (
        "fmscale.commands.import_model",
        "a model of another library as a run, to be measured",
    ),
    "wandb": (
        "fmscale.commands.wandb",
        "upload a study to W&B, lay out its workspace or report",
    ),
    "coord-check": ("fmscale.commands.coord_check", "how far a step moves activations, by width"),
    "export": ("fmscale.commands.export", "the records of a study as one CSV file"),
}

USAGE = """\
usage: fmscale COMMAND [ARGUMENTS]

{commands}

Examples
  fmscale plan experiment=gpt_demo
  fmscale sweep experiment=gpt_demo
  fmscale status
  fmscale train model=gpt/4x128 budget.tokens=2e6
  fmscale-analysis report runs/gpt_demo --out reports/gpt_demo

fmscale COMMAND --help says more.
"""


def main() -> None:
    """Hand over to a command's own `main`, with the rest of the arguments."""
    lines = [f"  {name:11} {text}" for name, (_, text) in COMMANDS.items()]
    usage = USAGE.format(commands="\n".join(lines))
    arguments = sys.argv[1:]
    if not arguments or arguments[0] in ("-h", "--help"):
        print(usage, end="")
        return
    command, rest = arguments[0], arguments[1:]
    if command == "--version":
        print(f"fmscale {__version__}")
        return
    if command not in COMMANDS:
        print(f"error: unknown command {command!r}\n\n{usage}", file=sys.stderr)
        sys.exit(2)
    try:
        os.getcwd()
    except FileNotFoundError:
        sys.exit("error: the working folder was deleted; change to one that exists (cd)")
    if command == "sweep" and not {"-m", "--multirun"} & set(rest):
        rest = ["-m", *rest]
    sys.argv = [f"fmscale {command}", *rest]
    importlib.import_module(COMMANDS[command][0]).main()


if __name__ == "__main__":
    main()
