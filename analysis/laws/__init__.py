"""Scaling laws by name. `LAWS[name]()` makes one; `register` adds yours for this process.

A file of this folder that defines laws is all that new ones need.
"""

from __future__ import annotations

import pkgutil
from collections.abc import Callable
from importlib import import_module

from analysis.laws.law import Array, Columns, Law, Parameter
from analysis.laws.sums import SumLaw, Term


def _named(module: str) -> dict[str, Callable[[], Law]]:
    """The laws that a module of this folder defines."""
    classes = [v for v in vars(import_module(module)).values() if isinstance(v, type)]
    own = [c for c in classes if issubclass(c, Law) and c.name and c.__module__ == module]
    return {law.name: law for law in own}


LAWS: dict[str, Callable[[], Law]] = dict(
    sorted(
        law
        for file in pkgutil.iter_modules(__path__, f"{__name__}.")
        for law in _named(file.name).items()
    )
)
BUILT_IN = frozenset(LAWS)


def get_law(law: str | Law, breaks: int = 1) -> Law:
    """A law by name, by MODULE:CLASS when it is one's own (or the law itself).

    Raises:
        ValueError: names the known laws, or what is wrong with the class.
    """
    if isinstance(law, Law):
        return law
    if ":" in law:
        return remember(_imported(law))
    if law not in LAWS:
        raise ValueError(
            f"law={law!r}: choose one of {', '.join(LAWS)}, or MODULE:CLASS of your own"
        )
    return LAWS[law](breaks) if law == "broken_power" else LAWS[law]()  # type: ignore[call-arg]


def _imported(place: str) -> Law:
    """An instance of MODULE:CLASS."""
    module, _, name = place.partition(":")
    try:
        found = getattr(import_module(module), name)
        if not (isinstance(found, type) and issubclass(found, Law)):
            raise TypeError("no subclass of analysis.Law")
        law: Law = found()
        if not (law.name and law.parameters):
            raise TypeError("a law has a name and parameters")
    except Exception as error:  # whatever the user's module raises
        raise ValueError(f"law={place!r}: {type(error).__name__}: {error}") from error
    return law


def place_of(law: Law) -> str | None:
    """MODULE:CLASS of a law of one's own, by which `get_law` finds it in another process."""
    cls = type(law)
    hidden = cls.__module__ == "__main__" or "<locals>" in cls.__qualname__
    return None if law.name in BUILT_IN or hidden else f"{cls.__module__}:{cls.__qualname__}"


def standard_laws(*columns: str) -> list[str]:
    """Names of the laws of these columns that every report and fan fits, our own first."""
    laws = [make() for make in LAWS.values()]
    return [law.name for law in laws if law.standard and law.columns == columns]


def remember(law: Law) -> Law:
    """Register a law of the user's by its name, so that its fits can predict.

    Raises:
        ValueError: if its name is that of another law.
    """
    if law.name not in BUILT_IN:
        LAWS[law.name] = lambda: law
    elif type(LAWS[law.name]()) is not type(law):
        raise ValueError(f"there is a law named {law.name!r}: give {type(law).__name__} another")
    return law


def register(law: Callable[[], Law]) -> Callable[[], Law]:
    """Class decorator: make a law of your own available by its name."""
    remember(law())
    return law


__all__ = [
    "BUILT_IN", "LAWS", "Array", "Columns", "Law", "Parameter", "SumLaw", "Term", "get_law",
    "place_of", "register", "remember", "standard_laws",
]  # fmt: skip
