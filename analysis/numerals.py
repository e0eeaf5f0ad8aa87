"""Numbers as people write them in tables: 1,234,567, 70B, 3.6 PF-days, and headers with a unit."""

from __future__ import annotations

import re
from typing import Any

SUFFIXES = {"k": 1e3, "M": 1e6, "B": 1e9, "G": 1e9, "T": 1e12, "P": 1e15}
PF_DAY = 8.64e19  # FLOPs
HEADER_UNITS = {
    "thousand": 1e3, "million": 1e6, "billion": 1e9, "trillion": 1e12,
    "pf-day": PF_DAY, "pflop/s-day": PF_DAY, "petaflop/s-day": PF_DAY,
    "gflop": 1e9, "tflop": 1e12, "pflop": 1e15, "eflop": 1e18, "zflop": 1e21,
}  # fmt: skip
THOUSANDS = re.compile(r"[-+]?\d{1,3}(,\d{3})+(\.\d+)?")
NUMBER = r"[-+]?\d+(\.\d+)?(e[-+]?\d+)?"
SUFFIXED = re.compile(NUMBER + r"\s?[kMBGT]")
PERCENT = re.compile(NUMBER + r"\s?%")
BRACKET = re.compile(r"[(\[]\s*([^)\]]+?)\s*[)\]]\s*$")


def parse_unit(text: Any) -> float:
    """ "1e21", "2.5e9", "70B", "3T", "1,000", "1 PF-day" -> a number.

    Raises:
        ValueError: if the text is none of these.
    """
    words = str(text).strip().replace("_", "").replace(",", "")
    try:
        if words.lower().endswith("pf-day") or words.lower().endswith("pf-days"):
            return float(words.lower().split("pf-day")[0]) * PF_DAY
        if words and words[-1] in SUFFIXES:
            return float(words[:-1]) * SUFFIXES[words[-1]]
        return float(words)
    except ValueError as error:
        raise ValueError(f"{text!r} is not a number (examples: 1e21, 70B, 3.6 PF-days)") from error


def read_numeral(text: str) -> float | None:
    """A cell with thousands separators, a size suffix or a percent sign; None for other text."""
    text = text.strip()
    if is_percent(text):
        return float(text[:-1]) / 100
    if THOUSANDS.fullmatch(text) or SUFFIXED.fullmatch(text):
        return parse_unit(text.replace(" ", ""))
    return None


def is_percent(text: Any) -> bool:
    """True for "46.7%" and its like: a share, read as 0.467."""
    return isinstance(text, str) and PERCENT.fullmatch(text.strip()) is not None


def header_scale(name: str) -> float:
    """What a header says its numbers count: "Params (M)" 1e6, "Tokens [billions]" 1e9, else 1."""
    found = BRACKET.search(name)
    if found is None:
        return 1.0
    unit = found.group(1)
    if unit in SUFFIXES:
        return SUFFIXES[unit]
    return HEADER_UNITS.get(unit.lower().removesuffix("s"), 1.0)
