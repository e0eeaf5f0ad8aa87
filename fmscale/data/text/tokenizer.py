"""Tokenizers of running text: bytes, and whatever a tokenizer.json describes."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

# Tokens that usual vocabularies put after a document, in the order in which they are tried.
SEPARATORS = ("<|endoftext|>", "<|end_of_text|>", "</s>", "<eos>", "<|eos|>", "[SEP]")
OWN_SEPARATOR = SEPARATORS[0]
# What tells tokenizers apart, and whether one loses case, spaces or letters.
PROBE = "def f(x):\n    return 'ä €' + x\tThe quick brown fox; 1,234.5"


class TextTokenizer(Protocol):
    """What turns text into token ids and back."""

    name: str
    vocab_size: int
    separator: int  # token put after every document
    dtype: np.dtype  # smallest unsigned type that holds every id

    def encode(self, text: bytes) -> np.ndarray: ...

    def decode(self, tokens: np.ndarray) -> bytes: ...

    def encode_batch(self, texts: Sequence[str]) -> list[np.ndarray]:
        """Token ids of each text, without separators."""

    def count_bytes(self, texts: Sequence[str]) -> list[np.ndarray]:
        """UTF-8 bytes that each token of `encode_batch` stands for; all bytes of a text but those
        after its last token."""

    def restore(self, tokens: Sequence[np.ndarray]) -> list[str]:
        """The texts of what `encode_batch` gives, as far as their tokens hold them."""


def tokenizer_of(data: Any) -> TextTokenizer | None:
    """The tokenizer of some data; None where their tokens stand for no text."""
    return getattr(data, "tokenizer", None)


class ByteTokenizer:
    """One token per byte. The separator is the zero byte, which no text file contains."""

    name = "bytes"
    vocab_size = 256
    separator = 0
    dtype = np.dtype(np.uint8)

    def encode(self, text: bytes) -> np.ndarray:
        """Token ids (n_bytes,) uint8."""
        return np.frombuffer(text, dtype=np.uint8)

    def decode(self, tokens: np.ndarray) -> bytes:
        """The bytes of token ids (n,); separators stay zero bytes."""
        return np.asarray(tokens).astype(np.uint8).tobytes()

    def encode_batch(self, texts: Sequence[str]) -> list[np.ndarray]:
        return [self.encode(text.encode()) for text in texts]

    def count_bytes(self, texts: Sequence[str]) -> list[np.ndarray]:
        return [np.ones(len(text.encode()), dtype=np.uint32) for text in texts]

    def restore(self, tokens: Sequence[np.ndarray]) -> list[str]:
        return [self.decode(one).decode() for one in tokens]


class FileTokenizer:
    """The tokenizer that a tokenizer.json of the `tokenizers` library describes.

    Args:
        separator: token put after every document, by name or id; None tries the usual ones.

    Raises:
        ValueError: naming the file, if it cannot be read or has no such token.
    """

    def __init__(self, path: str | Path, separator: str | int | None = None) -> None:
        from tokenizers import Tokenizer

        self.path = Path(path)
        if not self.path.is_file():
            raise ValueError(
                f"--tokenizer {path}: there is no such file. Give bytes, bpe, or the path of a "
                "tokenizer.json"
            )
        text = self.path.read_text()
        try:
            self.tokenizer = Tokenizer.from_str(text)
        except Exception as error:  # the library raises plain Exceptions
            raise ValueError(f"--tokenizer {path} is no tokenizer.json: {error}") from error
        self.tokenizer.no_padding()
        self.tokenizer.no_truncation()
        # A text that spells a special token is text.
        self.tokenizer.encode_special_tokens = True
        vocabulary = self.tokenizer.get_vocab(with_added_tokens=True)
        self.sha256 = hashlib.sha256(text.encode()).hexdigest()
        self.vocab_size = max(vocabulary.values()) + 1  # ids may have holes
        self.name = f"{self.tokenizer.model.__class__.__name__.lower()}-{self.vocab_size}"
        self.separator = (
            separator
            if isinstance(separator, int)
            else _separator(vocabulary, separator, self.path)
        )
        self.dtype = np.min_scalar_type(self.vocab_size - 1)

    def encode(self, text: bytes) -> np.ndarray:
        """Token ids (n,); bytes that are not UTF-8 are replaced."""
        return self.encode_batch([text.decode(errors="replace")])[0]

    def decode(self, tokens: np.ndarray) -> bytes:
        """The text of token ids (n,), special tokens included."""
        ids = np.asarray(tokens).tolist()
        text: str = self.tokenizer.decode(ids, skip_special_tokens=False)
        return text.encode()

    def encode_batch(self, texts: Sequence[str]) -> list[np.ndarray]:
        encoded = self.tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)
        return [np.array(one.ids, dtype=self.dtype) for one in encoded]

    def count_bytes(self, texts: Sequence[str]) -> list[np.ndarray]:
        # A token's bytes end where its characters end; what the tokenizer skips before it counts
        # to it, and of several tokens of one character the first has all of its bytes.
        counts = []
        encoded = self.tokenizer.encode_batch(list(texts), add_special_tokens=False)
        for text, one in zip(texts, encoded, strict=True):
            ends = np.array([end for _, end in one.offsets], dtype=np.int64)
            ends = np.maximum.accumulate(ends) if len(ends) else ends
            counts.append(np.diff(_byte_offsets(text)[ends], prepend=0).astype(np.uint32))
        return counts

    def restore(self, tokens: Sequence[np.ndarray]) -> list[str]:
        ids = [one.tolist() for one in tokens]
        return self.tokenizer.decode_batch(ids, skip_special_tokens=False)


def _byte_offsets(text: str) -> np.ndarray:
    """Bytes before each character, and before the end: (n_characters + 1,) int64."""
    data = np.frombuffer(text.encode(), dtype=np.uint8)
    starts = np.flatnonzero((data & 0xC0) != 0x80)
    return np.append(starts, len(data))


def _separator(vocabulary: dict[str, int], wanted: str | None, path: Path) -> int:
    for name in (wanted,) if wanted is not None else SEPARATORS:
        if name in vocabulary:
            return vocabulary[name]
    tried = repr(wanted) if wanted is not None else " nor ".join(SEPARATORS)
    raise ValueError(
        f"--tokenizer {path} has no token {tried} to put after a document. Name one of its tokens "
        "(--separator)"
    )


def byte_level_bpe(texts: Iterator[str], vocab_size: int, special_tokens: Sequence[str]) -> Any:
    """A trained `tokenizers.Tokenizer`; of fewer tokens, if the text has too few pairs."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=list(special_tokens),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def train_bpe(texts: Iterator[str], vocab_size: int) -> Any:
    """A byte-level BPE (Radford et al. 2019) with `<|endoftext|>` as token 0.

    Raises:
        ValueError: if the text has too few distinct pairs for the vocabulary.
    """
    tokenizer = byte_level_bpe(texts, vocab_size, [OWN_SEPARATOR])
    found = tokenizer.get_vocab_size()
    if found < vocab_size:
        raise ValueError(
            f"--vocab-size {vocab_size}, but the text yields only {found} tokens. Lower it to "
            f"{found}, or give more text"
        )
    return tokenizer


def open_tokenizer(spec: str, separator: str | None = None) -> ByteTokenizer | FileTokenizer:
    """The tokenizer `bytes`, or that of a tokenizer.json."""
    return ByteTokenizer() if spec == "bytes" else FileTokenizer(spec, separator)
