"""Rules that tell running text from lists, code, and what a web page leaves behind.

The rules and limits are those of Rae et al. 2021, appendix A1.1, for English.
"""

from __future__ import annotations

import re

STOP_WORDS = frozenset(("the", "be", "to", "of", "and", "that", "have", "with"))
_LETTER = re.compile(r"[^\W\d_]")
REASONS = ("too_few_words", "too_many_words", "word_length", "symbols", "bullets", "ellipses",
           "letters", "stop_words")  # fmt: skip


def quality_problem(text: str) -> str | None:
    """The first rule that a text breaks, or None."""
    words = text.split()
    n = len(words)
    if n < 50:
        return "too_few_words"
    if n > 100_000:
        return "too_many_words"
    if not 3 <= sum(map(len, words)) / n <= 10:
        return "word_length"
    if max(text.count("#"), text.count("...") + text.count("…")) > 0.1 * n:
        return "symbols"
    lines = [line for raw in text.splitlines() if (line := raw.strip())]
    if sum(line.startswith(("-", "*", "•", "‣")) for line in lines) > 0.9 * len(lines):
        return "bullets"
    if sum(line.endswith(("...", "…")) for line in lines) > 0.3 * len(lines):
        return "ellipses"
    if sum(_LETTER.search(word) is not None for word in words) < 0.8 * n:
        return "letters"
    if len(STOP_WORDS & {word.lower() for word in words}) < 2:
        return "stop_words"
    return None
