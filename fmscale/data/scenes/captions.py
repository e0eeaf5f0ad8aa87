"""Captions of scenes: words, phrases with synonyms, and a tokenizer of whole words.

A caption is a row of slots (lead-in, size, color, shape, ...), each filled with one of several
phrases of the same meaning or left empty. Slots are filled and joined for the whole batch at once.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fmscale.data.counter_random import random_uniform
from fmscale.data.scenes.grammar import (
    BACKGROUNDS,
    COLORS,
    POSITIONS,
    RELATIONS,
    SHAPES,
    SIZES,
    Mentions,
    SceneBatch,
)

PADDING = 0
_STYLE_STREAM = 0xCA

LEADS = ("a photo of", "a picture of", "an image of", "a drawing of", "there is", "this shows", "")
THINGS = ("thing", "object", "shape")  # what an unnamed shape is called
TOGETHER = ("and", "with")  # what joins two objects when the relation is left out
# First the plain name, which zero-shot prompts use, then the synonyms.
SYNONYMS: dict[str, tuple[str, ...]] = {
    "circle": ("circle", "disc", "dot"),
    "square": ("square", "box", "block"),
    "triangle": ("triangle", "wedge"),
    "diamond": ("diamond", "rhombus"),
    "cross": ("cross", "plus"),
    "ring": ("ring", "hoop"),
    "star": ("star",),
    "moon": ("moon", "crescent"),
    "red": ("red", "scarlet"),
    "green": ("green", "emerald"),
    "cyan": ("cyan", "turquoise"),
    "blue": ("blue", "azure"),
    "purple": ("purple", "violet"),
    "pink": ("pink", "rose"),
    "yellow": ("yellow", "golden"),
    "small": ("small", "little", "tiny"),
    "medium": ("medium", "middling"),
    "large": ("large", "big", "huge"),
    "top left": ("at the top left", "in the upper left corner"),
    "top": ("at the top", "at the upper edge"),
    "top right": ("at the top right", "in the upper right corner"),
    "left": ("at the left", "on the left side"),
    "center": ("in the center", "in the middle"),
    "right": ("at the right", "on the right side"),
    "bottom left": ("at the bottom left", "in the lower left corner"),
    "bottom": ("at the bottom", "at the lower edge"),
    "bottom right": ("at the bottom right", "in the lower right corner"),
    "left of": ("left of", "to the left of"),
    "right of": ("right of", "to the right of"),
    "above": ("above", "over"),
    "below": ("below", "under"),
}
BACKGROUND_FRAMES = ("on a {} background", "against {}")


class CaptionTokenizer:
    """One token per word. Id 0 pads; the end has the highest id, where the text tower's argmax
    finds it, as in CLIP.
    """

    name = "scene words"

    def __init__(self) -> None:
        self.words = _vocabulary()
        self.end = len(self.words) + 1
        self.vocab_size = len(self.words) + 2
        self._ids = {word: i for i, word in enumerate(self.words, start=1)}

    def ids(self, text: str) -> list[int]:
        """Token ids of a text, without the end token; an unknown word is an error."""
        unknown = [word for word in text.split() if word not in self._ids]
        if unknown:
            raise ValueError(
                f"text {text!r}: unknown words {unknown}. Use the words of the scene captions: "
                f"{' '.join(self.words)}."
            )
        return [self._ids[word] for word in text.split()]

    def encode(self, texts: Sequence[str], seq_len: int) -> np.ndarray:
        """Token ids (n, seq_len) int64, ended and padded."""
        rows = np.full((len(texts), seq_len), PADDING, dtype=np.int64)
        for row, text in zip(rows, texts, strict=True):
            ids = [*self.ids(text), self.end]
            if len(ids) > seq_len:
                raise ValueError(
                    f"text {text!r} needs {len(ids)} tokens with its end, but data.seq_len = "
                    f"{seq_len}. Shorten the text or raise data.seq_len."
                )
            row[: len(ids)] = ids
        return rows

    def decode(self, tokens: np.ndarray) -> list[str]:
        """Texts of token rows (n, seq_len)."""
        return [
            " ".join(self.words[i - 1] for i in row if i not in (PADDING, self.end))
            for row in tokens
        ]


class CaptionWriter:
    """Writes captions of up to `seq_len` token ids, for a whole batch of scenes at once."""

    def __init__(self, tokenizer: CaptionTokenizer, seq_len: int) -> None:
        self.tokenizer = tokenizer
        self.seq_len = seq_len
        self._phrases: list[list[int]] = [[]]  # phrase 0 is the empty one
        self._lead = self._options([LEADS])
        self._article = self._options([("a",)])
        self._size = self._options([_variants(name) for name in SIZES])
        self._color = self._options([_variants(name) for name in COLORS])
        self._shape = self._options([*(_variants(name) for name in SHAPES), THINGS])
        self._position = self._options([_variants(name) for name in POSITIONS])
        self._relation = self._options([*(_variants(name) for name in RELATIONS), TOGETHER])
        self._background = self._options(
            [tuple(frame.format(name) for frame in BACKGROUND_FRAMES) for name in BACKGROUNDS]
        )
        longest = max(len(phrase) for phrase in self._phrases)
        self._table = np.array([p + [PADDING] * (longest - len(p)) for p in self._phrases])
        if seq_len < self.max_tokens:
            raise ValueError(
                f"data.seq_len = {seq_len}, but the longest caption has {self.max_tokens} tokens. "
                f"Set data.seq_len={self.max_tokens} or more."
            )

    @property
    def max_tokens(self) -> int:
        """Tokens of the longest possible caption, its end included."""

        def longest(options: tuple[np.ndarray, np.ndarray]) -> int:
            first, count = options
            ids = range(int(first.min()), int((first + count).max()))
            return max(len(self._phrases[i]) for i in ids)

        thing = 1 + sum(longest(o) for o in (self._size, self._color, self._shape))
        middle = max(longest(self._position), longest(self._relation) + thing)
        return longest(self._lead) + thing + middle + longest(self._background) + 1

    def write(
        self, scenes: SceneBatch, mentions: Mentions, seed: int, indices: np.ndarray
    ) -> np.ndarray:
        """Captions (B, seq_len) int64; the choice of words depends on (seed, index) alone."""
        u = random_uniform(seed, _STYLE_STREAM, indices, 9)
        always = np.ones(len(scenes), dtype=bool)
        thing, together = len(SHAPES), len(RELATIONS)
        shape = np.where(mentions.shape, scenes.shape, thing)
        relation = np.where(mentions.relation, scenes.relation, together)
        zero = np.zeros(len(scenes), dtype=np.int64)
        slots = [
            _choose(self._lead, zero, u[:, 0], always),
            _choose(self._article, zero, u[:, 0], always),
            _choose(self._size, scenes.size[:, 0], u[:, 1], mentions.size[:, 0]),
            _choose(self._color, scenes.color[:, 0], u[:, 2], mentions.color[:, 0]),
            _choose(self._shape, shape[:, 0], u[:, 3], always),
            _choose(self._position, scenes.position, u[:, 4], mentions.position),
            _choose(self._relation, relation, u[:, 4], mentions.second),
            _choose(self._article, zero, u[:, 0], mentions.second),
            _choose(self._size, scenes.size[:, 1], u[:, 5], mentions.size[:, 1]),
            _choose(self._color, scenes.color[:, 1], u[:, 6], mentions.color[:, 1]),
            _choose(self._shape, shape[:, 1], u[:, 7], mentions.second),
            _choose(self._background, scenes.background, u[:, 8], mentions.background),
        ]
        words = self._table[np.stack(slots, axis=1)].reshape(len(scenes), -1)
        return self._close_up(words)

    def _close_up(self, words: np.ndarray) -> np.ndarray:
        """Move the words of each row to its left, then add the end token."""
        used = words != PADDING
        place = np.cumsum(used, axis=1) - 1
        rows, columns = np.nonzero(used)
        out = np.full((len(words), self.seq_len), PADDING, dtype=np.int64)
        out[rows, place[rows, columns]] = words[rows, columns]
        out[np.arange(len(words)), place[:, -1] + 1] = self.tokenizer.end
        return out

    def _options(self, groups: Sequence[Sequence[str]]) -> tuple[np.ndarray, np.ndarray]:
        """Add phrases; returns the first phrase id and the number of phrases of each group."""
        first, count = [], []
        for group in groups:
            first.append(len(self._phrases))
            count.append(len(group))
            self._phrases.extend(self.tokenizer.ids(text) for text in group)
        return np.array(first), np.array(count)


def _choose(
    options: tuple[np.ndarray, np.ndarray], value: np.ndarray, u: np.ndarray, used: np.ndarray
) -> np.ndarray:
    """Phrase ids (B,): one of the phrases of each value, or the empty phrase where not used."""
    first, count = options
    return np.where(used, first[value] + (u * count[value]).astype(np.int64), 0)


def _variants(name: str) -> tuple[str, ...]:
    return SYNONYMS.get(name, (name,))


def _vocabulary() -> tuple[str, ...]:
    names = (*SHAPES, *COLORS, *SIZES, *POSITIONS, *RELATIONS, *BACKGROUNDS)
    texts = [*LEADS, "a", *THINGS, *TOGETHER, *(frame.format("") for frame in BACKGROUND_FRAMES)]
    texts += [variant for name in names for variant in _variants(name)]
    return tuple(dict.fromkeys(word for text in texts for word in text.split()))
