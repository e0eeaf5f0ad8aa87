"""Text from trained runs, side by side: the same prompts and seed for every size."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.panel import Panel

from fmscale.convert import load_run, load_tokenizer
from fmscale.diff import find
from fmscale.runs.store import RunFolder, Study

EXAMPLE = """\
examples:
  fmscale sample gpt_2x72-8.39M --prompt "def main(" --tokens 200 --top-k 40
  fmscale sample --study gpt_demo --prompt "import " --temperature 0.8
"""


def longest_runs(study: Study) -> list[RunFolder]:
    """The finished run of each size and seed that read most, by size."""
    best: dict[tuple[str, int], tuple[float, int, RunFolder]] = {}
    for folder in study.runs():
        if not folder.is_finished() or folder.record().status != "completed":
            continue
        record = folder.record().to_dict()
        key = (record["model"], record["seed"])
        entry = (record["n_steps"], record["n_params_total"], folder)
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
    parser.add_argument("runs", nargs="*", help="run ids, or unique beginnings of them")
    parser.add_argument("--study", help="the longest run of every size of a study")
    parser.add_argument("--prompt", action="append", help="may be repeated")
    parser.add_argument("--tokens", type=int, default=160, help="how many to add")
    parser.add_argument("--temperature", type=float, default=0.8, help="0: the likeliest token")
    parser.add_argument("--top-k", type=int)
    parser.add_argument("--top-p", type=float)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--runs-dir", default=os.environ.get("FMSCALE_RUNS_DIR", "runs"))
    options = parser.parse_args()
    try:
        folders = [find(Path(options.runs_dir), name) for name in options.runs]
        if options.study:
            folders += longest_runs(Study.open(options.runs_dir, options.study))
        if not folders:
            raise ValueError("name runs, or a study with finished runs by --study")
        _print(folders, options)
    except ValueError as error:
        sys.exit(f"error: {error}")


def _print(folders: list[RunFolder], options: argparse.Namespace) -> None:
    import torch

    from fmscale.evaluation.sampling import generate

    console = Console()
    for prompt in options.prompt or ["def "]:
        for folder in folders:
            model, config = load_run(folder)
            tokenizer = load_tokenizer(config)
            if tokenizer is None:
                raise ValueError(f"run {folder.run_id} reads no text: its tokens stand for none")
            read = torch.from_numpy(tokenizer.encode(prompt.encode()).astype("int64"))[None]
            tokens = generate(
                model, read, options.tokens, temperature=options.temperature,
                top_k=options.top_k, top_p=options.top_p, seed=options.seed,
            )  # fmt: skip
            own = tokens[0][tokens[0] < tokenizer.vocab_size].numpy()  # a mixture has other ids
            text = tokenizer.decode(own).decode(errors="replace").replace("\0", "\n")
            console.print(Panel(escape(text), title=folder.run_id, title_align="left"))


if __name__ == "__main__":
    main()
