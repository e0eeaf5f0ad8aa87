"""Raw text to token shards: streamed in constant memory, in parallel, resumed where it stopped.

Reads folders of text, JSONL (also .gz), Parquet, data sets saved by Hugging Face `datasets`, and
with the extra `hub` the Hub itself. The same command after a crash does what is missing.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.table import Table

from fmscale.commands import arguments
from fmscale.data.preparation.build import build_shards
from fmscale.data.preparation.settings import CHOICES, SUFFIXES, WEBTEXT, Recipe
from fmscale.data.text.manifest import BUILDING, MANIFEST, Manifest, verify
from fmscale.errors import config_errors_exit

EXAMPLE = """\
examples:
  fmscale prepare my_texts --out my_shards
  fmscale prepare pages.jsonl.gz --out my_shards --tokenizer bpe --vocab-size 4096
  fmscale prepare crawl/ --out my_shards --recipe webtext --field content --source-field url \\
          --evaluations lambada.jsonl
  fmscale prepare --hub roneneldan/TinyStories --out stories --tokenizer tokenizer.json
  fmscale prepare --verify my_shards

then:
  fmscale train data=shards data.root=my_shards
"""


class Bars:
    """A bar with time left for each stage, on a terminal; elsewhere nothing until the end."""

    def __init__(self) -> None:
        self.progress = Progress(
            TextColumn("{task.description:>7}"),
            BarColumn(bar_width=30),
            DownloadColumn(),
            TransferSpeedColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=Console(stderr=True),
        )
        self.task: TaskID | None = None

    def begin(self, what: str, total: int) -> None:
        self.task = self.progress.add_task(what, total=total)

    def advance_to(self, done: int) -> None:
        assert self.task is not None
        self.progress.update(self.task, completed=done)


def make_parser() -> argparse.ArgumentParser:
    """All options; their names are those of `Recipe`."""
    parser = arguments.make_parser("prepare", __doc__, EXAMPLE, store=False)
    add = parser.add_argument
    add("inputs", nargs="*", help="files and folders of text")
    add("--out", type=Path, help="folder of the shards")
    add("--overwrite", action="store_true", help="replace the shards in --out")
    add("--verify", type=Path, metavar="SHARDS", help="compare with the checksums")
    add("--workers", type=int, default=len(os.sched_getaffinity(0)), help="processes (%(default)s)")
    add = parser.add_argument_group("reading").add_argument
    add("--suffixes", nargs="+", default=SUFFIXES,
        help=f"endings taken from folders ({' '.join(SUFFIXES)})")  # fmt: skip
    add("--field", default="text", help="of JSONL and tables (%(default)s)")
    add("--source-field", help="names each document's origin; default: its file")
    add("--hub", metavar="OWNER/NAME", help="a data set of the Hugging Face Hub")
    add("--hub-config")
    add("--hub-split", default="train", help="also of saved folders (%(default)s)")
    add("--on-bad", choices=CHOICES["on_bad"], default="stop",
        help="with documents that cannot be read (%(default)s)")  # fmt: skip
    add = parser.add_argument_group("validation").add_argument
    add("--val-fraction", type=float, default=0.01, help="share held out (%(default)s)")
    add("--split", choices=CHOICES["split"], default="document",
        help="hold out whole documents, or the tail of each (%(default)s)")  # fmt: skip
    add("--validation", nargs="+", default=(), help="held-out text of one's own")
    add = parser.add_argument_group("tokens").add_argument
    add("--tokenizer", default="bytes", help="bytes, bpe (trained here), or a tokenizer.json")
    add("--vocab-size", type=int, help="of bpe, the separator included")
    add("--tokenizer-bytes", type=float, default=1e8, help="text bpe is trained on (%(default)g)")
    add("--separator", help="token after each document; default: the usual ones")
    add("--shard-bytes", type=float, default=6.4e7, help="input of one shard (%(default)g)")
    add = parser.add_argument_group("cleaning").add_argument
    add("--recipe", choices=("webtext",),
        help="as WebText: --duplicates near --quality --exclude '*wikipedia*'")  # fmt: skip
    add("--duplicates", choices=CHOICES["duplicates"], default="keep")
    add("--similarity", type=float, default=0.8,
        help="Jaccard index of word 5-grams of near-duplicates (%(default)s)")  # fmt: skip
    add("--quality", action="store_true", help="rules of Rae et al. 2021")
    add(
        "--reference", nargs="+", default=(), metavar="GOOD",
        help="text known to be good; what a classifier finds unlike it is dropped, as for GPT-3",
    )  # fmt: skip
    add("--pareto", type=float, default=9.0, help="how strictly: GPT-3's alpha (%(default)s)")
    add("--exclude", nargs="+", default=(), help="patterns of origins to drop")
    add("--score-field", help="drop documents with less than --min-score of it")
    add("--min-score", type=float)
    add("--evaluations", nargs="+", default=(), help="sets looked for in the text, by 13-grams")
    add("--drop-leaks", action="store_true", help="drop documents they are in")
    return parser


def make_recipe(options: argparse.Namespace) -> Recipe:
    """The recipe that the options describe."""
    chosen: dict[str, Any] = {
        key: tuple(value) if isinstance(value, list) else value
        for key, value in vars(options).items()
        if key in Recipe.__dataclass_fields__
    }
    if options.recipe == "webtext":
        chosen |= {**WEBTEXT, "exclude": (*WEBTEXT["exclude"], *options.exclude)}
    for name in ("tokenizer_bytes", "shard_bytes"):
        chosen[name] = int(chosen[name])
    return Recipe(**chosen)


def print_manifest(manifest: dict[str, Any], out: Path) -> None:
    """Counts, what was dropped and why, what leaked, and how to train on it."""
    console = Console()
    table = Table(title=str(out), title_justify="left")
    for name in ("split", "documents", "bytes", "tokens", "bytes/token", "shards"):
        table.add_column(name, justify="left" if name == "split" else "right")
    for split in ("train", "validation"):
        part = manifest[split]
        table.add_row(
            split, f"{part['n_documents']:,}", f"{part['n_bytes']:,}", f"{part['n_tokens']:,}",
            f"{part['bytes_per_token']:.4f}", str(len(part["shards"])),
        )  # fmt: skip
    console.print(table)
    if dropped := manifest["dropped"]["documents"]:
        reasons = Table(title="dropped", title_justify="left")
        for name in ("reason", "documents", "bytes"):
            reasons.add_column(name, justify="left" if name == "reason" else "right")
        for reason, count in sorted(dropped.items(), key=lambda item: -item[1]):
            n_bytes = manifest["dropped"]["bytes"].get(reason, 0)
            reasons.add_row(reason, f"{count:,}", f"{n_bytes:,}")
        console.print(reasons)
    if lost := manifest["validation"].get("n_not_restored"):
        console.print(
            f"The tokenizer does not give back {lost:,} of the "
            f"{manifest['validation']['n_documents']:,} validation documents: losses on these "
            "shards are per token alone, without bits per byte",
            highlight=False,
        )
    if others := manifest.get("left_out"):
        listed = ", ".join(f"{n:,} {ending}" for ending, n in others.items())
        console.print(f"Not read, by their endings (--suffixes): {listed}", highlight=False)
    if likeness := manifest.get("likeness"):
        console.print(
            f"Likeness to the reference, learned from {likeness['n_reference']:,} of its documents "
            f"against {likeness['n_raw']:,}: area under the ROC curve "
            f"{likeness['held_out_auc']:.3f} on those held out (0.5: it cannot tell them apart)",
            highlight=False,
        )
    if leakage := manifest["leakage"]:
        leaks = Table(title=f"leakage, {leakage['n_gram']}-grams", title_justify="left")
        for name in ("evaluation set", "examples", "too short", "leaked", "share"):
            leaks.add_column(name, justify="left" if name == "evaluation set" else "right")
        for path, one in leakage["sets"].items():
            share = one["share_leaked"]
            leaks.add_row(
                path, str(one["n_examples"]), str(one["n_too_short"]), str(one["n_leaked"]),
                "" if share is None else f"{share:.1%}",
            )  # fmt: skip
        console.print(leaks)
    console.print(
        f"{manifest['tokenizer']['name']}, {manifest['vocab_size']:,} tokens in the vocabulary. "
        f"Train on it:\n  fmscale train data=shards data.root={out}",
        highlight=False,
        soft_wrap=True,
    )


def main() -> None:
    """Entry point of `fmscale prepare`."""
    parser = make_parser()
    options = parser.parse_args()
    if options.out is None and options.verify is None:
        parser.error("--out is missing: name the folder of the shards")
    try:
        with config_errors_exit(ValueError, OSError):
            _verify(options.verify) if options.verify is not None else _prepare(options)
    except KeyboardInterrupt:
        sys.exit(f"\nStopped. The same command goes on where {options.out} was left.")


def _verify(shards: Path) -> None:
    if problems := verify(Manifest.read(shards)):
        sys.exit("\n".join(problems))
    print(f"{shards}: every file agrees with its checksum")


def _prepare(options: argparse.Namespace) -> None:
    if options.workers < 1:
        raise ValueError(f"--workers {options.workers}: give at least 1")
    recipe = make_recipe(options)
    if options.overwrite:
        _remove(options.out)
    bars = Bars()
    with bars.progress:
        result = build_shards(recipe, options.out, options.workers, bars)
    print_manifest(result, options.out)


def _remove(out: Path) -> None:
    """Remove shards, finished or not; nothing else."""
    if out.exists() and not ((out / MANIFEST).exists() or (out / BUILDING).exists()):
        raise ValueError(f"--overwrite: {out} holds no shards, so it is left alone")
    shutil.rmtree(out, ignore_errors=True)
