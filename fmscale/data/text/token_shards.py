"""Prepared tokens as training data: the folders of `fmscale prepare`, and nanoGPT's files.

Bits per byte are exact: the bytes of every validation token are stored beside it, and those of the
validation sequences are added up. A document's end counts as one byte, whatever the tokenizer, so
that values of different tokenizers on the same text can be compared.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import cached_property
from typing import Any

import numpy as np

from fmscale.data.text.manifest import TOKENIZER, Manifest, Shard
from fmscale.data.text.sequence_data import SequenceData
from fmscale.data.text.token_sequences import check_sizes
from fmscale.data.text.tokenizer import PROBE, ByteTokenizer, FileTokenizer, TextTokenizer

MOST_VAL_TOKENS = 262_144  # unless more are asked for
_READ_AT_ONCE = 1 << 22  # tokens, when ids are checked


class TokenShards(SequenceData):
    """Token ids of a folder as sequences for next-token prediction.

    Args:
        root: folder that `fmscale prepare` wrote, or one with train.bin and val.bin.
        vocab_size: must be what the manifest states; for files that state nothing, more than
            every id.
        content: the manifest's mark of the tokens themselves, part of the run's id.
        n_val_tokens: size of the fixed validation set: sequences evenly spaced over the split;
            None takes all, at most 262,144.
        n_unique_tokens: data budget U; None takes all. A smaller budget is a subset of a larger
            one and spans all documents.
        rest: see `TextData`.

    Raises:
        ValueError: naming field or file, for anything that does not fit together.
    """

    def __init__(
        self,
        root: str | os.PathLike[str],
        seq_len: int,
        vocab_size: int,
        content: str | None = None,
        name: str = "shards",
        n_val_tokens: int | None = None,
        val_batch_size: int = 32,
        n_unique_tokens: int | None = None,
    ) -> None:
        check_sizes(seq_len, val_batch_size, n_val_tokens, n_unique_tokens)
        self.manifest = Manifest.read(root, vocab_size)
        stated = self.manifest.vocab_size
        if stated is not None and vocab_size != stated:
            raise ValueError(
                f"data.vocab_size = {vocab_size}, but the shards in {root} were made with a "
                f"vocabulary of {stated} ({self.manifest.tokenizer}). Leave data.vocab_size out, "
                "or prepare the text with the other tokenizer."
            )
        if content is not None and content != self.manifest.content:
            raise ValueError(
                f"data.content = {content}, but the tokens in {root} are {self.manifest.content}: "
                "the run started on other text. Give its folder, or omit data.content for a new "
                "run."
            )
        sha256 = self.manifest.tokenizer_sha256
        known = self.manifest.tokenizer or f"unknown tokenizer of {root}"
        self.tokenizer_id = f"{known} {sha256[:10]}" if sha256 else known
        self.name = name
        self.seq_len = seq_len
        self.vocab_size = vocab_size
        self.n_val_tokens = n_val_tokens
        self.val_batch_size = val_batch_size
        self.n_unique_tokens = n_unique_tokens

    @staticmethod
    def complete(settings: Mapping[str, Any]) -> dict[str, Any]:
        """What the manifest states, for settings that leave it out; needs no torch.

        Raises:
            ValueError: naming the folder, if there is none, or if nothing states the vocabulary.
        """
        if settings.get("root") is None:
            raise ValueError(
                "data.root has no value: give data.root=<folder of shards>, made by "
                "`fmscale prepare TEXT --out <folder>`"
            )
        manifest = Manifest.read(settings["root"], settings.get("vocab_size"))
        found: dict[str, Any] = {}
        if settings.get("vocab_size") is None:
            if manifest.vocab_size is None:
                raise ValueError(
                    f"data.vocab_size has no value, and nothing in {settings['root']} states it. "
                    "Give data.vocab_size=50257 (GPT-2's), or write it into meta.json beside the "
                    'files: {"vocab_size": 50257, "tokenizer": "gpt2"}'
                )
            found["vocab_size"] = manifest.vocab_size
        if settings.get("content") is None:
            found["content"] = manifest.content
        return found

    @cached_property
    def tokenizer(self) -> TextTokenizer | None:
        """What turns text into these tokens; None for files that came without it."""
        if self.manifest.is_foreign:
            return None
        if self.manifest.tokenizer == "bytes":
            return ByteTokenizer()
        return FileTokenizer(self.manifest.folder / TOKENIZER, self.manifest.separator)

    @cached_property
    def val_bytes_per_token(self) -> float | None:
        """Bytes of the validation tokens by their number; None where nothing states it, or where
        the tokens do not give the text back: a loss per byte would be one of other bytes."""
        lost = self.manifest.n_not_restored
        if lost is None and self.tokenizer is not None:  # made before it was counted
            lost = self.tokenizer.restore(self.tokenizer.encode_batch([PROBE])) != [PROBE]
        if lost:
            return None
        shards = self.manifest.shards["validation"]
        if self.manifest.tokenizer == "bytes" or any(s.byte_counts is None for s in shards):
            return self.manifest.bytes_per_token["validation"]
        counts = [np.memmap(str(s.byte_counts), dtype=np.uint32, mode="r") for s in shards]
        total = self._validation.rows(self._held_out, counts)[:, 1:].sum(dtype=np.int64)
        return float(total) / (len(self._held_out) * self.seq_len)

    def prepare(self) -> None:
        """Open the files; the ids of those that `fmscale prepare` has not written are read."""
        _ = self.n_items, self._held_out
        if self.manifest.is_foreign:
            for split, shards in self.manifest.shards.items():
                for shard, array in zip(shards, self._arrays(split), strict=True):
                    self._check_ids(shard, array)

    def describe(self) -> dict[str, object]:
        """Counts and hashes, as stored in every record."""
        return {
            "name": self.name,
            "tokenizer": self.manifest.tokenizer,
            "vocab_size": self.vocab_size,
            "seq_len": self.seq_len,
            "content": self.manifest.content,
            "n_unique_tokens": self.n_items * self.seq_len,
            "n_val_tokens": len(self._held_out) * self.seq_len,
            "n_train_tokens": self.manifest.n_tokens("train"),
            "n_validation_tokens": self.manifest.n_tokens("validation"),
            "val_bytes_per_token": self.val_bytes_per_token,
        }

    @cached_property
    def _held_out(self) -> np.ndarray:
        every = self._validation.n_sequences * self.seq_len
        wanted = self.n_val_tokens
        return self._validation.spread(min(every, MOST_VAL_TOKENS) if wanted is None else wanted)

    def _arrays(self, split: str) -> list[np.ndarray]:
        """Map the files of a split, after a look at their checksums."""
        for shard in self.manifest.shards[split]:
            if (damage := shard.damage()) is not None:
                raise ValueError(damage)
        # A plain view of the map: the memmap subclass makes every fancy index slower.
        return [
            np.asarray(np.memmap(shard.path, dtype=self.manifest.dtype, mode="r"))
            for shard in self.manifest.shards[split]
        ]

    def _check_ids(self, shard: Shard, array: np.ndarray) -> None:
        for first in range(0, len(array), _READ_AT_ONCE):
            part = array[first : first + _READ_AT_ONCE]
            if part.max() >= self.vocab_size:
                place = first + int(np.argmax(part >= self.vocab_size))
                raise ValueError(
                    f"{shard.path}: token {place} is {array[place]}, outside the vocabulary of "
                    f"data.vocab_size = {self.vocab_size}. Give the size of the tokenizer that "
                    f"made it; if its numbers are not little-endian {self.manifest.dtype}, convert "
                    "it, or state dtype in meta.json."
                )
