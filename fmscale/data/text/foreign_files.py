"""Token files that others wrote: train.bin and val.bin as nanoGPT's, and what stands beside them.

Such a file is numbers and nothing else. What is not stated is seen from the vocabulary and from
the numbers; where both leave a doubt, it is asked. Standard library only, as all that plans.
"""

from __future__ import annotations

import json
import pickle
from array import array
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

FILES = {"train": "train.bin", "validation": "val.bin"}  # nanoGPT's names
SIDECAR = "meta.json"  # beside them; every key is optional
SIDECAR_KEYS = ("vocab_size", "tokenizer", "dtype", "bytes_per_token", "sha256")
PICKLE = "meta.pkl"  # nanoGPT's own, of its tokenizer of characters
ITEM_BYTES = {"uint16": 2, "uint32": 4}
_SAMPLE = 1 << 16  # bytes looked at in two places of a file
_SMALL = 8  # the upper half of a 32-bit token is below it, for vocabularies up to 524,288
_LLM_C = "llm.c's, with a header of 1,024 bytes: cut it off (tail -c +1025)"
# How files begin that are more than token ids.
HEADERS = {
    b"\x93NUMPY": "a .npy array: write its numbers alone (array.tofile)",
    b"PK\x03\x04": "a zip archive, as numpy.savez and torch.save write: write the numbers alone",
    b"\x1f\x8b\x08": "compressed with gzip: unpack it",
    (20240520).to_bytes(4, "little"): _LLM_C,
    (20240801).to_bytes(4, "little"): _LLM_C,
}


@dataclass(frozen=True)
class Stated:
    """What is known of the files of a folder."""

    dtype: str
    vocab_size: int | None = None
    tokenizer: str | None = None
    bytes_per_token: float | None = None
    sha256: dict[str, str] = field(default_factory=dict)


def stated(root: Path, vocab_size: int | None) -> Stated:
    """What meta.json or meta.pkl, the configured vocabulary and the files themselves say.

    Raises:
        ValueError: naming the file, if they contradict each other, or nothing decides.
    """
    values = _read_sidecar(root / SIDECAR)
    if "vocab_size" not in values and (root / PICKLE).exists():
        values["vocab_size"] = _pickled_vocab_size(root / PICKLE)
    known = values.get("vocab_size") or vocab_size
    needs_32 = known is not None and known > 1 << 16
    dtype = values.get("dtype", "uint32" if needs_32 else "uint16")
    if dtype not in ITEM_BYTES:
        raise ValueError(f"{root / SIDECAR}: dtype {dtype!r}; use one of {', '.join(ITEM_BYTES)}")
    if needs_32 and dtype == "uint16":
        raise ValueError(
            f"{root / SIDECAR} states uint16, which cannot hold the ids of a vocabulary of "
            f'{known}. State "dtype": "uint32", or the right vocabulary'
        )
    for name in FILES.values():
        if not (root / name).exists():
            raise ValueError(f"{root} holds {FILES['train']} but no {name}. Put both there")
        _check_content(root / name, dtype, "dtype" in values)
    return Stated(**{**values, "dtype": dtype})


def _read_sidecar(path: Path) -> dict[str, Any]:
    if not path.exists():
        return {}
    try:
        values: Any = json.loads(path.read_text())
    except ValueError as error:
        raise ValueError(f"{path} is not JSON: {error}. Repair or remove it") from error
    if not isinstance(values, dict):
        raise ValueError(f"{path} is no JSON object. Repair or remove it")
    unknown = sorted(set(values) - set(SIDECAR_KEYS))
    if unknown:
        raise ValueError(f"{path}: unknown keys {unknown}; known are {', '.join(SIDECAR_KEYS)}")
    size = values.get("vocab_size")
    if size is not None and (not isinstance(size, int) or size < 1):
        raise ValueError(f"{path}: vocab_size {size!r} is no whole number above 0")
    return values


class _PlainValues(pickle.Unpickler):
    """Reads numbers, texts and containers; refuses whatever could run code."""

    def find_class(self, module: str, name: str) -> Any:
        raise ValueError(f"it names {module}.{name}, and could run code")


def _pickled_vocab_size(path: Path) -> int:
    try:
        with path.open("rb") as file:
            size = _PlainValues(file).load()["vocab_size"]
    # A damaged pickle raises whatever its bytes happen to spell.
    except Exception as error:
        raise ValueError(
            f"{path} cannot be read ({type(error).__name__}: {error}). State vocab_size in "
            f"{SIDECAR} beside it"
        ) from error
    if not isinstance(size, int) or size < 1:
        raise ValueError(f"{path}: vocab_size {size!r} is no whole number above 0. State it in "
                         f"{SIDECAR} beside it")  # fmt: skip
    return size


def _check_content(path: Path, dtype: str, is_stated: bool) -> None:
    """Refuse a file whose numbers are not of the type as which they would be read."""
    size = path.stat().st_size
    with path.open("rb") as file:
        sample = file.read(_SAMPLE)
        file.seek(size // 2 // 8 * 8)
        sample += file.read(_SAMPLE)
    for begin, what in HEADERS.items():
        if sample.startswith(begin):
            raise ValueError(f"{path} is {what}")
    if size % ITEM_BYTES[dtype]:
        raise ValueError(
            f"{path} is truncated, or of another type: {size} bytes are no whole number of {dtype} "
            f"tokens. Copy or make it again, or state dtype in {SIDECAR}"
        )
    width = _width(sample)
    if width == 8:
        raise ValueError(f"{path} holds 64-bit numbers. Write them as uint16 or uint32")
    if width == 4 and dtype == "uint16" and not is_stated:
        raise ValueError(
            f"{path}: every second 16-bit number is below {_SMALL}, as in a file of 32-bit tokens. "
            f'State which it is in {SIDECAR} beside it: {{"dtype": "uint32"}} or "uint16"'
        )


def _width(sample: bytes) -> int:
    """Bytes of one number, as far as its empty halves show them."""
    numbers = array("H", sample[: len(sample) // 8 * 8])  # little-endian, as such files are
    first, *upper = (numbers[i::4] for i in range(4))
    if any(first) and not any(upper[0]) and not any(upper[2]):
        return 4 if any(upper[1]) else 8  # every second number, or three of four, is zero
    if max(first, default=0) < _SMALL:
        return 2  # small ids look alike in every width
    if not any(upper[1]) and not any(upper[2]) and max(upper[0]) < _SMALL:
        return 8
    return 4 if max(upper[0]) < _SMALL and max(upper[2]) < _SMALL else 2
