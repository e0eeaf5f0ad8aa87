"""What lies in a folder of token shards; also two files `train.bin` and `val.bin` as nanoGPT's.

Standard library only: a sweep reads the vocabulary's size from here when it is planned.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from fmscale.data.checksums import holds, sha256
from fmscale.data.text.foreign_files import FILES, ITEM_BYTES, stated
from fmscale.runs.files import read_sealed

FORMAT_VERSION = 1
MANIFEST = "manifest.json"
TOKENIZER = "tokenizer.json"  # of every tokenizer but bytes
BUILDING = ".building"  # folder of a preparation that is not finished
SPLITS = ("train", "validation")


@dataclass(frozen=True)
class Shard:
    """One file of token ids."""

    path: Path
    n_tokens: int
    sha256: str | None = None
    byte_counts: Path | None = None  # bytes of each token, uint32; validation only
    byte_counts_sha256: str | None = None

    def damage(self, holds: Callable[[Path, str], bool] = holds) -> str | None:
        """What is wrong with its files, in a line; None if they hold what was written, or nothing
        says what that was."""
        pairs = ((self.path, self.sha256), (self.byte_counts, self.byte_counts_sha256))
        for path, expected in pairs:
            if path is not None and expected is not None and not holds(path, expected):
                return (
                    f"{path} is damaged: its SHA-256 is not {expected[:16]}..., as the manifest "
                    "says. Copy it again, or prepare the text again"
                )
        return None


@dataclass(frozen=True)
class Manifest:
    """A folder of token shards."""

    folder: Path
    tokenizer: str | None  # None: not stated
    vocab_size: int | None
    dtype: str  # "uint16" or "uint32"
    content: str  # stands for all tokens: part of the run's id
    shards: dict[str, list[Shard]]  # by split
    bytes_per_token: dict[str, float | None]  # by split; of the whole split
    n_not_restored: int | None  # validation texts that their tokens lose; None: never checked
    tokenizer_sha256: str | None = None
    separator: int | None = None
    is_foreign: bool = False  # its ids were never checked

    def n_tokens(self, split: str) -> int:
        return sum(shard.n_tokens for shard in self.shards[split])

    @staticmethod
    def read(folder: str | os.PathLike[str], vocab_size: int | None = None) -> Manifest:
        """Read a manifest and check that every file has its stated size.

        The configured `vocab_size` decides how files without a manifest are read.

        Raises:
            ValueError: naming the folder or file, if it holds no finished shards, a truncated one,
                or not the tokenizer that they were made with.
        """
        root = Path(folder)
        if (root / MANIFEST).exists():
            manifest = _own(root)
        elif (root / BUILDING).exists():
            raise ValueError(
                f"data.root = {folder} is not finished. Give the same command `fmscale prepare` "
                "again: it resumes where it was stopped"
            )
        elif (root / FILES["train"]).exists():
            manifest = _foreign(root, vocab_size)
        else:
            problem = "holds no token shards" if root.is_dir() else "does not exist"
            raise ValueError(
                f"data.root = {folder} {problem}. Make them with `fmscale prepare TEXT --out "
                f"{folder}`, or give a folder with train.bin and val.bin"
            )
        for shards in manifest.shards.values():
            for shard in shards:
                _check_size(shard, ITEM_BYTES[manifest.dtype])
        _check_tokenizer(manifest)
        return manifest


def _own(root: Path) -> Manifest:
    path = root / MANIFEST
    values = read_sealed(path, "copy it again, or prepare the text again")
    if values.get("format") != FORMAT_VERSION or "content_sha256" not in values:
        raise ValueError(
            f"{path} is not of format {FORMAT_VERSION}, which this release reads. "
            "Prepare the text again"
        )
    shards = {
        split: [
            Shard(
                root / entry["file"],
                entry["n_tokens"],
                entry["sha256"],
                root / entry["byte_counts"] if "byte_counts" in entry else None,
                entry.get("byte_counts_sha256"),
            )
            for entry in values[split]["shards"]
        ]
        for split in SPLITS
    }
    return Manifest(
        folder=root,
        tokenizer=values["tokenizer"]["name"],
        vocab_size=values["vocab_size"],
        dtype=values["dtype"],
        content=values["content_sha256"][:16],
        shards=shards,
        bytes_per_token={split: values[split]["bytes_per_token"] for split in SPLITS},
        n_not_restored=values["validation"].get("n_not_restored"),
        tokenizer_sha256=values["tokenizer"]["sha256"],
        separator=values["separator"],
    )


def _foreign(root: Path, vocab_size: int | None) -> Manifest:
    known = stated(root, vocab_size)
    shards = {}
    for split, name in FILES.items():
        n_tokens = (root / name).stat().st_size // ITEM_BYTES[known.dtype]
        shards[split] = [Shard(root / name, n_tokens, known.sha256.get(name))]
    return Manifest(
        folder=root,
        tokenizer=known.tokenizer,
        vocab_size=known.vocab_size,
        dtype=known.dtype,
        content=_sample_hash([shard.path for (shard,) in shards.values()], known.dtype),
        shards=shards,
        bytes_per_token={"train": None, "validation": known.bytes_per_token},
        n_not_restored=0,
        is_foreign=True,
    )


def _check_size(shard: Shard, item_bytes: int) -> None:
    expected = {shard.path: shard.n_tokens * item_bytes}
    if shard.byte_counts is not None:
        expected[shard.byte_counts] = shard.n_tokens * 4
    for path, size in expected.items():
        found = path.stat().st_size if path.exists() else None
        if found != size:
            problem = "is missing" if found is None else f"is truncated or damaged: {found} bytes"
            raise ValueError(
                f"{path} {problem}; its manifest states {shard.n_tokens} tokens ({size} bytes). "
                "Copy it again, or prepare the text again"
            )


def _check_tokenizer(manifest: Manifest) -> None:
    if manifest.tokenizer_sha256 is None:
        return
    path = manifest.folder / TOKENIZER
    if not path.exists():
        raise ValueError(f"{path} is missing: the shards beside it were made with it. Copy it too")
    found = hashlib.sha256(path.read_text().encode()).hexdigest()
    if found != manifest.tokenizer_sha256:
        raise ValueError(
            f"{path} is not the tokenizer that the shards beside it were made with: its SHA-256 is "
            f"{found[:16]}..., the manifest says {manifest.tokenizer_sha256[:16]}.... Copy the "
            "right one, or prepare the text again"
        )


def _sample_hash(paths: list[Path], dtype: str) -> str:
    """16 digits that stand for large files: their sizes and 64 blocks of each, evenly spaced; as
    other numbers, the same bytes are other tokens."""
    digest = hashlib.sha256(b"" if dtype == "uint16" else dtype.encode())
    for path in paths:
        size = path.stat().st_size
        digest.update(f"{size} ".encode())
        with path.open("rb") as file:
            for i in range(64):
                file.seek(size * i // 64)
                digest.update(file.read(4096))
            file.seek(max(0, size - 4096))
            digest.update(file.read(4096))
    return digest.hexdigest()[:16]


def verify(manifest: Manifest) -> list[str]:
    """Read every file and compare it with its checksum: a line for each that differs."""
    shards = [shard for split in manifest.shards.values() for shard in split]
    unknown = [f"{s.path} has no checksum to compare with" for s in shards if s.sha256 is None]
    found = (shard.damage(lambda path, expected: sha256(path) == expected) for shard in shards)
    return [*unknown, *(line for line in found if line is not None)]
