"""Text from trained runs, side by side: the same prompts and seed for every size."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.panel import Panel

from fmscale.commands.convert import load_run, load_tokenizer
from fmscale.runs.files import Broken
from fmscale.runs.find import FORMS, find
from fmscale.runs.store import RunFolder, Study

EXAMPLE = """\
examples:
  fmscale sample gpt_2x72-8.39M --prompt "def main(" --tokens 200 --top-k 40
  fmscale sample --study gpt_demo --prompt "import " --temperature 0.8
  fmscale sample --study gpt_demo --out samples.md          # fixed prompts, all sizes side by side
"""


def longest_runs(study: Study) -> list[RunFolder]:
    """The finished run of each size and seed that read most, by size."""
    best: dict[tuple[str, int | None], tuple[float, int, RunFolder]] = {}
    for folder in study.runs():
        if not folder.is_finished():
            continue
        try:
            record = folder.record().to_dict()
        except Broken as error:  # the other sizes are sampled
            print(error, file=sys.stderr)
            continue
        if record["status"] != "completed":
            continue
        key = (record["model"], record.get("seed"))
        entry = (record.get("n_steps", 0), record["n_params_total"], folder)
        if key not in best or entry[0] > best[key][0]:
            best[key] = entry
    return [folder for _, _, folder in sorted(best.values(), key=lambda e: e[1])]


def main() -> None:
    """Entry point of `fmscale sample`."""
    parser = argparse.ArgumentParser(
        prog="fmscale sample",
        description=__doc__,
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("runs", nargs="*", help=FORMS)
    parser.add_argument("--study", help="the longest run of every size of a study")
    parser.add_argument("--prompt", action="append", help="may be repeated")
    parser.add_argument("--tokens", type=int, default=160, help="how many to add")
    parser.add_argument("--temperature", type=float, default=0.8, help="0: the likeliest token")
    parser.add_argument("--top-k", type=int)
    parser.add_argument("--top-p", type=float)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--runs-dir", default=os.environ.get("FMSCALE_RUNS_DIR", "runs"))
    parser.add_argument("--out", type=Path, help="also write a Markdown page")
    options = parser.parse_args()
    try:
        folders = [find(Path(options.runs_dir), name) for name in options.runs]
        if options.study:
            folders += longest_runs(Study.open(options.runs_dir, options.study))
        for prompt in options.prompt or []:
            if prompt.encode(errors="ignore").decode() != prompt:
                raise ValueError(f"--prompt {prompt!r} is not UTF-8; convert it")
        if not folders:
            raise ValueError("name runs, or a study with finished runs by --study")
        _write(folders, options)
    except ValueError as error:
        sys.exit(f"error: {error}")


def _write(folders: list[RunFolder], options: argparse.Namespace) -> None:
    from fmscale.evaluation.language.samples import PROMPTS, continuation

    loaded = []
    for folder in folders:
        model, config = load_run(folder)
        tokenizer = load_tokenizer(config)
        if tokenizer is None:
            raise ValueError(f"run {folder.run_id} reads no text: its tokens stand for none")
        loaded.append((folder.run_id, model, tokenizer))
    console, page = Console(), ["# Samples", ""]
    for prompt in options.prompt or PROMPTS:
        page += [f"## `{prompt.strip()}`", ""]
        for run_id, model, tokenizer in loaded:
            text = continuation(
                model, tokenizer, prompt, options.tokens, temperature=options.temperature,
                top_k=options.top_k, top_p=options.top_p, seed=options.seed,
            )  # fmt: skip
            console.print(Panel(escape(text), title=run_id, title_align="left"))
            page += [f"**{run_id}**", "", "~~~text", text, "~~~", ""]
    if options.out is not None:
        options.out.write_text("\n".join(page))
        console.print(f"{options.out} written", highlight=False)


if __name__ == "__main__":
    main()
