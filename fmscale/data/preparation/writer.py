"""One piece of the input as one shard: documents in, token files out, in constant memory."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from fmscale.data.checksums import to_disk
from fmscale.data.preparation.document import Document, Piece
from fmscale.data.preparation.keep_or_drop import KEPT, REASONS, is_held_out, judge
from fmscale.data.preparation.readers import read_piece
from fmscale.data.preparation.settings import Recipe
from fmscale.data.text.manifest import SPLITS
from fmscale.data.text.tokenizer import ByteTokenizer, FileTokenizer, open_tokenizer
from fmscale.runs.files import write_json

BATCH_BYTES = 1 << 20  # text handed to the tokenizer at once


class SplitWriter:
    """Appends documents to the token file of one split; nothing is visible before `finish`."""

    def __init__(
        self, folder: Path, name: str, tokenizer: ByteTokenizer | FileTokenizer, dtype: str
    ) -> None:
        self.path = folder / f"{name}.bin"
        self.tokenizer = tokenizer
        self.dtype = np.dtype(dtype)
        self.digest, self.counts_digest = hashlib.sha256(), hashlib.sha256()
        self.waiting: list[str] = []
        self.n_waiting = 0  # characters
        self.n_documents = self.n_tokens = self.n_bytes = self.n_not_restored = 0
        # Where tokens are not bytes, validation knows the bytes of each, and whether they give the
        # text back: bits per byte are exact, or there are none.
        counts_bytes = name.startswith("validation") and not isinstance(tokenizer, ByteTokenizer)
        self.counts_path = self.path.with_suffix(".bytes") if counts_bytes else None
        self.file = _temporary(self.path).open("wb")
        self.counts_file = _temporary(self.counts_path).open("wb") if self.counts_path else None

    def put(self, text: str) -> None:
        """Append a document; documents are tokenized many at a time."""
        self.waiting.append(text)
        self.n_waiting += len(text)
        if self.n_waiting >= BATCH_BYTES:
            self._flush()

    def _flush(self) -> None:
        """Write the tokens of the waiting documents, a separator after each."""
        texts, self.waiting, self.n_waiting = self.waiting, [], 0
        if not texts:
            return
        sizes = [len(text.encode()) for text in texts]
        tokens = self.tokenizer.encode_batch(texts)
        end = np.array([self.tokenizer.separator], dtype=self.dtype)
        data = np.concatenate([part for one in tokens for part in (one, end)])
        raw = data.astype(self.dtype, copy=False).tobytes()
        self.file.write(raw)
        self.digest.update(raw)
        if self.counts_file is not None:
            restored = zip(texts, self.tokenizer.restore(tokens), strict=True)
            self.n_not_restored += sum(text != back for text, back in restored)
            for size, counts in zip(sizes, self.tokenizer.count_bytes(texts), strict=True):
                rest = size - int(counts.sum()) + 1  # a document's end counts as one byte
                raw = np.append(counts, np.uint32(rest)).astype(np.uint32).tobytes()
                self.counts_file.write(raw)
                self.counts_digest.update(raw)
        self.n_documents += len(texts)
        self.n_tokens += len(data)
        self.n_bytes += sum(sizes) + len(texts)

    def finish(self) -> dict[str, Any] | None:
        """Give the files their names; None, and no file, if there was no document."""
        self._flush()
        for file in (self.file, self.counts_file):
            if file is not None:
                file.flush()
                os.fsync(file.fileno())
                file.close()
        if not self.n_documents:
            self.discard()
            return None
        entry: dict[str, Any] = {
            "file": self.path.name,
            "n_documents": self.n_documents,
            "n_tokens": self.n_tokens,
            "n_bytes": self.n_bytes,
            "sha256": self.digest.hexdigest(),
        }
        os.replace(_temporary(self.path), self.path)
        if self.counts_path is not None:
            os.replace(_temporary(self.counts_path), self.counts_path)
            entry |= {
                "byte_counts": self.counts_path.name,
                "byte_counts_sha256": self.counts_digest.hexdigest(),
                "n_not_restored": self.n_not_restored,
            }
        to_disk(self.path.parent)
        return entry

    def discard(self) -> None:
        """Remove what was written."""
        for file, path in ((self.file, self.path), (self.counts_file, self.counts_path)):
            if file is not None and path is not None:
                file.close()
                _temporary(path).unlink(missing_ok=True)


def _temporary(path: Path) -> Path:
    """The name while writing; of this process, since another may have been left behind."""
    return path.with_name(f".{path.name}.{os.getpid()}")


def write_shard(
    piece: Piece,
    number: int,
    recipe: Recipe,
    spec: str,
    dtype: str,
    codes: np.ndarray | None,
    folder: Path,
    note: Path,
    report: Callable[[int], None],
) -> None:
    """Write the token files of one piece, then a note of what they hold: the shard is finished.

    Args:
        spec: of the tokenizer, as `open_tokenizer` takes it.
        codes: codes of all documents from the first pass; None: each is judged by itself.
        note: JSON file; its presence says that the shard is complete.
        report: called with the characters of text read since the last call.
    """
    tokenizer = open_tokenizer(spec, recipe.separator)
    dropped: Counter[str] = Counter()
    dropped_bytes: Counter[str] = Counter()
    writers = {s: SplitWriter(folder, f"{s}-{number:05d}", tokenizer, dtype) for s in SPLITS}
    try:
        for row, found in enumerate(read_piece(piece, recipe)):
            reason = judge(found, recipe) if codes is None else REASONS[codes[row]]
            report(len(found.text) if isinstance(found, Document) else 0)
            if reason != KEPT:
                dropped[reason] += 1
                if isinstance(found, Document):
                    dropped_bytes[reason] += len(found.text.encode())
                continue
            assert isinstance(found, Document)
            for split, text in divide(found.text, piece, recipe):
                writers[split].put(text)
        entries = {split: writer.finish() for split, writer in writers.items()}
    except BaseException:
        for writer in writers.values():
            writer.discard()
        raise
    write_json(note, {**entries, "dropped": dropped, "dropped_bytes": dropped_bytes})


def divide(text: str, piece: Piece, recipe: Recipe) -> Iterator[tuple[str, str]]:
    """Which splits a document goes to, with its part for each."""
    if piece.split is not None:
        yield piece.split, text
    elif recipe.split == "document":
        yield "validation" if is_held_out(text, recipe.val_fraction) else "train", text
    else:
        cut = len(text) - round(recipe.val_fraction * len(text))
        for split, part in (("train", text[:cut]), ("validation", text[cut:])):
            if part:
                yield split, part
