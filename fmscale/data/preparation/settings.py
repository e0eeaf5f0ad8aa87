"""Everything that decides which documents are taken and what their tokens are."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from fmscale.data.file_names import endings

# Endings that are taken from a folder unless others are named.
SUFFIXES = (".txt", ".md", ".jsonl", ".ndjson", ".json", ".jsonl.gz", ".ndjson.gz", ".json.gz",
            ".parquet", ".arrow")  # fmt: skip
CHOICES = {
    "split": ("document", "tail"),
    "on_bad": ("stop", "drop", "replace"),
    "duplicates": ("keep", "exact", "near"),
}
# What Radford et al. 2019, section 2.1, say of WebText: duplicates removed, heuristics for quality,
# no Wikipedia. The karma of the links is a field of your own data: see `min_score`.
WEBTEXT: dict[str, Any] = {"duplicates": "near", "quality": True, "exclude": ("*wikipedia*",)}


@dataclass(frozen=True)
class Recipe:
    """How raw text becomes tokens. Equal recipes on equal input give equal shards.

    Raises:
        ValueError: naming the option, for values out of range or that contradict each other.
    """

    inputs: tuple[str, ...] = ()  # files and folders
    validation: tuple[str, ...] = ()  # held out as a whole; empty: a share of `inputs`
    hub: str | None = None  # a data set of the Hugging Face Hub instead of `inputs`
    hub_config: str | None = None
    hub_split: str = "train"  # also of a folder that holds several splits
    suffixes: tuple[str, ...] = SUFFIXES
    field: str = "text"  # of JSONL, Parquet and data sets
    source_field: str | None = None  # names a document's origin; None: its file
    score_field: str | None = None
    min_score: float | None = None  # documents whose score is lower are dropped
    exclude: tuple[str, ...] = ()  # patterns (fnmatch) of origins that are dropped
    quality: bool = False  # rules of Rae et al. 2021
    reference: tuple[str, ...] = ()  # good text: documents unlike it are dropped
    pareto: float = 9.0  # how strictly (Brown et al. 2020, appendix A)
    duplicates: str = "keep"  # "exact" also drops copies, "near" also near-duplicates
    similarity: float = 0.8  # Jaccard index of word 5-grams from which on "near" drops
    evaluations: tuple[str, ...] = ()  # sets whose leakage into the text is reported
    drop_leaks: bool = False
    on_bad: str = "stop"  # what to do with a document that cannot be read
    split: str = "document"  # hold out whole documents, or the "tail" of each
    val_fraction: float = 0.01  # share of documents, or of each document
    tokenizer: str = "bytes"  # "bytes", "bpe" (trained here), or a tokenizer.json
    vocab_size: int | None = None  # of "bpe"
    tokenizer_bytes: int = 100_000_000  # text that "bpe" is trained on, at most
    separator: str | None = None  # token after each document; None: the usual names are tried
    shard_bytes: int = 64_000_000  # of input, for one shard

    def __post_init__(self) -> None:
        for name, choices in CHOICES.items():
            value = getattr(self, name)
            if value not in choices:
                raise ValueError(
                    f"--{name.replace('_', '-')} {value}: choose one of {', '.join(choices)}"
                )
        endings(self.suffixes, "--suffixes")
        if bool(self.inputs) == bool(self.hub):
            raise ValueError("give files or folders to read, or --hub, and not both")
        if not self.validation and not 0 < self.val_fraction < 1:
            raise ValueError(
                f"--val-fraction {self.val_fraction}: give a share between 0 and 1, or the "
                "held-out text itself (--validation)"
            )
        if (self.score_field is None) != (self.min_score is None):
            raise ValueError("--score-field and --min-score belong together: give both or neither")
        if not 0 < self.similarity < 1:
            raise ValueError(f"--similarity {self.similarity}: give a share between 0 and 1")
        if self.drop_leaks and not self.evaluations:
            raise ValueError("--drop-leaks needs evaluation sets: give --evaluations")
        if not self.pareto > 0:
            raise ValueError(f"--pareto {self.pareto}: give a positive number")
        if self.shard_bytes < 1:
            raise ValueError(f"--shard-bytes {self.shard_bytes}: give at least 1")
        if self.tokenizer == "bpe":
            if self.vocab_size is None or self.vocab_size < 257:
                raise ValueError(
                    f"--vocab-size {self.vocab_size}: a byte-level BPE needs one of at least 257, "
                    "for 256 bytes and the separator"
                )
        elif self.vocab_size is not None:
            raise ValueError(
                f"--vocab-size {self.vocab_size} belongs to tokenizer bpe, which is trained here; "
                f"{self.tokenizer} brings its own"
            )

    @property
    def needs_first_pass(self) -> bool:
        """Whether documents are compared with one another, a reference or evaluation sets."""
        return self.duplicates != "keep" or bool(self.evaluations or self.reference)

    def plain(self, *inputs: str) -> Recipe:
        """How text beside the corpus is read: no origins, scores or filters, and no bad line."""
        return Recipe(inputs=inputs, suffixes=self.suffixes, field=self.field,
                      hub_split=self.hub_split, shard_bytes=self.shard_bytes)  # fmt: skip

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready form."""
        return {k: list(v) if isinstance(v, tuple) else v
                for k, v in dataclasses.asdict(self).items()}  # fmt: skip
