"""Whether a document is kept, and the reason if it is not."""

from __future__ import annotations

from fnmatch import fnmatch
from hashlib import blake2b

from fmscale.data.preparation import quality
from fmscale.data.preparation.document import Document, Unreadable
from fmscale.data.preparation.settings import Recipe

KEPT = "kept"
# Verdicts are stored as numbers: new reasons go to the end.
REASONS = (KEPT, "undecodable", "not_json", "missing_field", "empty", "zero_byte",
           "excluded_source", "low_score", *quality.REASONS, "exact_duplicate", "near_duplicate",
           "leak", "unlike_reference", "unknown_format")  # fmt: skip
CODES = {reason: code for code, reason in enumerate(REASONS)}


def judge(found: Document | Unreadable, recipe: Recipe) -> str:
    """What can be said of a document by itself: `KEPT`, or a reason to drop it."""
    if isinstance(found, Unreadable):
        return found.reason
    if not found.text:
        return "empty"
    if recipe.tokenizer == "bytes" and "\0" in found.text:
        if recipe.on_bad == "stop":
            raise ValueError(
                f"{found.where} holds a zero byte, which the tokenizer bytes puts after each "
                "document. Choose --on-bad drop, or another tokenizer"
            )
        return "zero_byte"
    if any(fnmatch(found.source.lower(), pattern.lower()) for pattern in recipe.exclude):
        return "excluded_source"
    if found.score is not None and recipe.min_score is not None and found.score < recipe.min_score:
        return "low_score"
    return (quality.quality_problem(found.text) if recipe.quality else None) or KEPT


def fingerprint(text: str) -> bytes:
    """128 bits that stand for the text."""
    return blake2b(text.encode(), digest_size=16).digest()


def is_held_out(text: str, val_fraction: float) -> bool:
    """Whether a document belongs to validation: by its content alone, so copies stay together."""
    return int.from_bytes(fingerprint(text)[:8], "big") < val_fraction * 2.0**64
