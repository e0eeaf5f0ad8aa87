"""The five word-scrambling tasks of GPT-3 (Brown et al. 2020, Sec. 3.9.2).

A line is "scrambled = word". The words are the most frequent ones of 5 to 14 letters of a text,
by default of the Python standard library's own sources, so that nothing has to be downloaded; the
paper took 10,000 from a list that we do not have.
"""

from __future__ import annotations

import functools
import hashlib
import random
import re
from collections import Counter
from pathlib import Path

from fmscale.data.tasks.prompt_task import Example, PromptTask
from fmscale.data.text.sources import SourceFiles

WORD_TASKS = (
    "cycle_letters_in_word", "mid_word_1_anagrams", "mid_word_2_anagrams",
    "random_insertion_in_word", "reversed_words",
)  # fmt: skip
N_WORDS = 10_000
INSERTED = " .!/"  # the characters of the examples that the paper prints
# Brown et al. 2020, App. G, Fig. G.24-G.28: the same sentence before all five tasks.
DESCRIPTION = "Please unscramble the letters into a word, and write that word:"


@functools.cache
def frequent_words(path: str | None = None, n: int = N_WORDS) -> tuple[str, ...]:
    """The n most frequent words of 5 to 14 lower-case letters, fewer if the text has fewer.

    The text is that of a file; None: the standard library's own sources.

    Raises:
        ValueError: for a file that does not exist or holds fewer than 20 such words.
    """
    if path is None:
        texts = [file.text for file in SourceFiles(None, (".py",)).read()]
    elif Path(path).is_file():
        texts = [Path(path).read_bytes()]
    else:
        raise ValueError(f"words_file = {path!r}: no such file. Give a text file, or null.")
    counts: Counter[bytes] = Counter()
    for text in texts:
        counts.update(re.findall(rb"(?<![A-Za-z0-9_])[a-z]{5,14}(?![A-Za-z0-9_])", text))
    # Words such as "eeeee", whose middle has one order only, are left out.
    usable = [word.decode() for word in counts if len(set(word[1:-1])) > 1]
    ranked = sorted(usable, key=lambda word: (-counts[word.encode()], word))[:n]
    if len(ranked) < 20:
        raise ValueError(
            f"words_file = {path!r} holds {len(ranked)} words of 5 to 14 letters; give at least 20."
        )
    return tuple(ranked)


def words_hash(words: tuple[str, ...]) -> str:
    """Twelve hexadecimal digits that name a list of words."""
    return hashlib.sha256("\n".join(words).encode()).hexdigest()[:12]


class WordTask(PromptTask):
    """One of `WORD_TASKS`: restore a word. Problem k is word k."""

    description = DESCRIPTION

    def __init__(self, name: str, words: tuple[str, ...]) -> None:
        self.name = name
        self.words = words
        self.n_problems = len(words)

    def example(self, problem: int, salt: int) -> Example:
        word = self.words[problem]
        return Example(f"\n{scramble(self.name, word, random.Random(salt))} =", f" {word}")


def scramble(task: str, word: str, rng: random.Random) -> str:
    """A word made unreadable in the way of one task; never the word itself where another exists."""
    match task:
        case "cycle_letters_in_word":
            shift = rng.randrange(1, len(word))
            return word[shift:] + word[:shift]
        case "mid_word_1_anagrams":
            return word[0] + _shuffled(word[1:-1], rng) + word[-1]
        case "mid_word_2_anagrams":
            return word[:2] + _shuffled(word[2:-2], rng) + word[-2:]
        case "random_insertion_in_word":
            return word[0] + "".join(rng.choice(INSERTED) + letter for letter in word[1:])
        case "reversed_words":
            return word[::-1]
    raise AssertionError(task)


def _shuffled(letters: str, rng: random.Random) -> str:
    """The letters in another order, if they have another."""
    if len(set(letters)) < 2:
        return letters
    while True:
        mixed = "".join(rng.sample(letters, len(letters)))
        if mixed != letters:
            return mixed
