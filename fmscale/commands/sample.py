"""Text from trained runs, side by side: the same prompts and seed for every size."""

from __future__ import annotations

import argparse
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.panel import Panel

from fmscale.commands.arguments import make_parser, open_study
from fmscale.commands.convert import load_run, load_tokenizer
from fmscale.errors import config_errors_exit
from fmscale.runs.files import skip_broken
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
        with skip_broken():  # the other sizes are sampled
            record = folder.record()
            key, n_steps = (record.model, record.seed), record.n_steps or 0
            if record.status == "completed" and (key not in best or n_steps > best[key][0]):
                best[key] = (n_steps, record.n_params_total, folder)
    return [folder for _, _, folder in sorted(best.values(), key=lambda e: e[1])]


def main() -> None:
    """Entry point of `fmscale sample`."""
    parser = make_parser("sample", __doc__, EXAMPLE)
    parser.add_argument("runs", nargs="*", help=FORMS)
    parser.add_argument("--study", help="the longest run of every size of a study")
    parser.add_argument("--prompt", action="append", help="may be repeated")
    parser.add_argument("--tokens", type=int, default=160, help="how many to add")
    parser.add_argument("--temperature", type=float, default=0.8, help="0: the likeliest token")
    parser.add_argument("--top-k", type=int)
    parser.add_argument("--top-p", type=float)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="also write a Markdown page")
    options = parser.parse_args()
    with config_errors_exit(ValueError, OSError):
        folders = [find(options.runs_dir, name) for name in options.runs]
        if options.study:
            folders += longest_runs(open_study(options.runs_dir, options.study))
        for prompt in options.prompt or []:
            if prompt.encode(errors="ignore").decode() != prompt:
                raise ValueError(f"--prompt {prompt!r} is not UTF-8; convert it")
        if not folders:
            raise ValueError("name runs, or a study with finished runs by --study")
        _write(folders, options)


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
