"""Numbers as people write them in tables: 1,234,567, 1.234,5, 70B, 46.7%, headers with a unit.

A cell alone may be two numbers: 3,765 is 3.765 in Berlin and 3765 in Boston. So a cell is read
under a decimal mark, and the mark is found from whole columns.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

SUFFIXES = {"k": 1e3, "m": 1e6, "b": 1e9, "g": 1e9, "t": 1e12, "p": 1e15}
PF_DAY = 8.64e19  # FLOPs
HEADER_UNITS = {
    "thousand": 1e3, "million": 1e6, "billion": 1e9, "trillion": 1e12,
    "k": 1e3, "m": 1e6, "b": 1e9, "mn": 1e6, "mio": 1e6, "bn": 1e9, "mrd": 1e9, "tn": 1e12,
    "pf-day": PF_DAY, "pflop/s-day": PF_DAY, "petaflop/s-day": PF_DAY,
    "gflop": 1e9, "tflop": 1e12, "pflop": 1e15, "eflop": 1e18, "zflop": 1e21,
}  # fmt: skip
# Spaces of typesetters, apostrophes and the minus sign of word processors.
PLAIN = str.maketrans(dict.fromkeys("\u00a0\u2009\u202f", " ") | {"\u2019": "'", "\u2212": "-"})
CELL = re.compile(
    r"(?P<sign>[-+]?)(?P<body>[\d.,'_ ]*[\d.,])(?P<exponent>e[-+]?\d+)?\s?(?P<tail>%|[kmbgtp])?",
    re.IGNORECASE,
)
# Digits in groups of three, by one mark all through, before a decimal mark.
GROUPED = r"(?:\d+|[1-9]\d{{0,2}}([{groups}])\d{{3}}(?:\1\d{{3}})*)(?:{mark}\d*)?|{mark}\d+"
BODIES = {
    ".": re.compile(GROUPED.format(groups=",'_ ", mark=r"\.")),
    ",": re.compile(GROUPED.format(groups=".'_ ", mark=",")),
}
UNGROUPED = re.compile(r"\d*[.,]?\d*")
BRACKET = re.compile(r"[(\[]\s*([^)\]]+?)\s*[)\]]\s*$")
IN_WORDS = re.compile(r"(?:^|[\s_,])(thousand|million|billion|trillion)s?$", re.IGNORECASE)
POWER_OF_TEN = re.compile(r"(?:[x\u00d7*]\s?)?(?:1e|10\^|10\*\*)\+?(\d{1,2})", re.IGNORECASE)


def readings(text: str) -> dict[str, float]:
    """What a cell is under each decimal mark, "." and ","; empty for text that is no number.

    A size suffix multiplies (70B, 70b: 7e10) and a percent sign divides (46.7%: 0.467).
    """
    found = CELL.fullmatch(text.strip().translate(PLAIN))
    if found is None:
        return {}
    body, exponent = found["body"], found["exponent"] or ""
    if exponent and not UNGROUPED.fullmatch(body):
        return {}
    tail = (found["tail"] or "").lower()
    factor = 1.0 if tail in ("", "%") else SUFFIXES[tail]
    out = {}
    for mark, whole in BODIES.items():
        # Groups of three and an exponent do not go together: 1,234e6 has a decimal comma.
        if not whole.fullmatch(body) or (exponent and any(g in body for g in ".," if g != mark)):
            continue
        digits = re.sub(rf"[^\d{re.escape(mark)}]", "", body).replace(mark, ".")
        value = float(found["sign"] + digits + exponent)
        out[mark] = value / 100 if tail == "%" else value * factor
    return out


def decimal_marks(cells: Iterable[str]) -> tuple[str, str]:
    """The decimal mark under which all cells of a column are numbers, and a cell that tells it.

    Returns:
        "." or ","; "" where no mark matters; "3.765" or "3,765" where either will do and the
        numbers differ; "mixed" where one cell needs the one and another the other; "text" where a
        cell is no number.
    """
    telling: dict[str, str] = {}  # mark -> first cell that is a number under no other
    differs: dict[str, str] = {}  # mark that it holds -> first cell that is two numbers
    for cell in cells:
        read = readings(cell)
        if not read:
            return "text", cell
        if len(read) == 1:
            telling.setdefault(next(iter(read)), cell)
        elif read["."] != read[","]:
            differs.setdefault("," if "," in cell else ".", cell)
    if len(telling) == 1:
        return next(iter(telling.items()))
    if telling or len(differs) == 2:
        return "mixed", next(iter((telling or differs).values()))
    return next(((f"3{mark}765", cell) for mark, cell in differs.items()), ("", ""))


def parse_unit(text: Any) -> float:
    """ "1e21", "2.5e9", "70B", "3T", "1,000", "1 PF-day" -> a number.

    Raises:
        ValueError: if the text is none of these.
    """
    words = str(text).strip()
    days = re.fullmatch(r"(.*?)\s*pf-days?", words, re.IGNORECASE)
    read = readings(days[1] if days else words)
    if "." in read:
        return read["."] * (PF_DAY if days else 1.0)
    try:
        return float(words)
    except ValueError as error:
        raise ValueError(f"{text!r} is not a number (examples: 1e21, 70B, 3.6 PF-days)") from error


def is_percent(text: Any) -> bool:
    """True for "46.7%" and its like: a share, read as 0.467."""
    return isinstance(text, str) and text.rstrip().endswith("%") and bool(readings(text))


def has_suffix(text: Any) -> bool:
    """True for "70B": the cell itself says what it counts."""
    return isinstance(text, str) and text.rstrip()[-1:].lower() in SUFFIXES and bool(readings(text))


def header_scale(name: str) -> float:
    """What a header says its numbers count: "Params (M)" 1e6, "Tokens [billions]" 1e9, else 1."""
    found = BRACKET.search(name)
    if found is None:
        spelled = IN_WORDS.search(name)
        return HEADER_UNITS[spelled[1].lower()] if spelled else 1.0
    power = POWER_OF_TEN.fullmatch(found[1])
    if power:
        return 10.0 ** int(power[1])
    if found[1] in ("G", "T", "P"):  # in lower case they are other units
        return SUFFIXES[found[1].lower()]
    unit = found[1].lower().removeprefix("in ")
    return HEADER_UNITS.get(unit.removesuffix("s") or unit, 1.0)
