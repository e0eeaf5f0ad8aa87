"""Reads captions back, by word lists of its own: what the writer says is checked against this."""

from __future__ import annotations

from dataclasses import dataclass, field

from fmscale.data.scenes.grammar import (
    BACKGROUNDS,
    COLORS,
    POSITIONS,
    RELATIONS,
    SHAPES,
    SIZES,
    SceneBatch,
)

LEADS = ["a photo of", "a picture of", "an image of", "a drawing of", "there is", "this shows"]
SHAPE_WORDS = {
    **{"circle": "circle", "disc": "circle", "dot": "circle"},
    **{"square": "square", "box": "square", "block": "square"},
    **{"triangle": "triangle", "wedge": "triangle", "diamond": "diamond", "rhombus": "diamond"},
    **{"cross": "cross", "plus": "cross", "ring": "ring", "hoop": "ring", "star": "star"},
    **{"moon": "moon", "crescent": "moon", "thing": None, "object": None, "shape": None},
}
COLOR_WORDS = {
    **{"red": "red", "scarlet": "red", "green": "green", "emerald": "green", "cyan": "cyan"},
    **{"turquoise": "cyan", "blue": "blue", "azure": "blue", "purple": "purple"},
    **{"violet": "purple", "pink": "pink", "rose": "pink", "yellow": "yellow"},
    **{"golden": "yellow", "orange": "orange", "brown": "brown", "lime": "lime"},
}
SIZE_WORDS = {
    **{"small": "small", "little": "small", "tiny": "small", "medium": "medium"},
    **{"middling": "medium", "large": "large", "big": "large", "huge": "large"},
}
# The longer phrase comes first wherever one ends like another.
PLACES = {
    "at the top left": "top left",
    "in the upper left corner": "top left",
    "at the top right": "top right",
    "in the upper right corner": "top right",
    "at the bottom left": "bottom left",
    "in the lower left corner": "bottom left",
    "at the bottom right": "bottom right",
    "in the lower right corner": "bottom right",
    "at the top": "top",
    "at the upper edge": "top",
    "at the bottom": "bottom",
    "at the lower edge": "bottom",
    "at the left": "left",
    "on the left side": "left",
    "at the right": "right",
    "on the right side": "right",
    "in the center": "center",
    "in the middle": "center",
}
LINKS = {
    " to the left of a ": "left of",
    " to the right of a ": "right of",
    " left of a ": "left of",
    " right of a ": "right of",
    " above a ": "above",
    " over a ": "above",
    " below a ": "below",
    " under a ": "below",
    " and a ": None,
    " with a ": None,
}


@dataclass
class Claims:
    """What a caption says; an attribute it leaves out is None."""

    objects: list[dict[str, int | None]] = field(default_factory=list)
    relation: int | None = None
    position: int | None = None
    background: int | None = None


def read(text: str) -> Claims:
    """Claims of a caption; a caption that is not of the language is an error."""
    claims = Claims()
    rest = text
    for lead in LEADS:
        rest = rest.removeprefix(lead + " ")
    for i, name in enumerate(BACKGROUNDS):
        for ending in (f" on a {name} background", f" against {name}"):
            if rest.endswith(ending):
                claims.background, rest = i, rest.removesuffix(ending)
    for phrase, name in PLACES.items():
        if rest.endswith(" " + phrase):
            claims.position, rest = POSITIONS.index(name), rest.removesuffix(" " + phrase)
            break
    parts = [rest]
    for link, relation in LINKS.items():
        if link in rest:
            claims.relation = None if relation is None else RELATIONS.index(relation)
            first, second = rest.split(link)
            parts = [first, "a " + second]
            break
    claims.objects = [_read_object(part) for part in parts]
    return claims


def _read_object(text: str) -> dict[str, int | None]:
    article, *words = text.split()
    assert article == "a", text
    out: dict[str, int | None] = {"shape": None, "color": None, "size": None}
    if words[0] in SIZE_WORDS:
        out["size"] = SIZES.index(SIZE_WORDS[words.pop(0)])
    if words[0] in COLOR_WORDS:
        out["color"] = COLORS.index(COLOR_WORDS[words.pop(0)])
    (noun,) = words  # nothing else may be left
    name = SHAPE_WORDS[noun]
    out["shape"] = None if name is None else SHAPES.index(name)
    return out


def is_true(claims: Claims, scenes: SceneBatch, i: int) -> bool:
    """Whether every claim holds for scene i, whichever of its objects is named first."""
    n_objects = int(scenes.n_objects[i])
    if claims.background is not None and claims.background != scenes.background[i]:
        return False
    if claims.position is not None and (n_objects != 1 or claims.position != scenes.position[i]):
        return False
    if len(claims.objects) > n_objects:
        return False
    orders = [(0,)] if n_objects == 1 else [(0, 1), (1, 0)]
    return any(_true_in_order(claims, scenes, i, order) for order in orders)


def _true_in_order(claims: Claims, scenes: SceneBatch, i: int, order: tuple[int, ...]) -> bool:
    for said, k in zip(claims.objects, order, strict=False):
        for name, value in said.items():
            if value is not None and value != getattr(scenes, name)[i, k]:
                return False
    if claims.relation is None:
        return True
    relation = RELATIONS[scenes.relation[i]]
    if order == (1, 0):
        opposite = {"left of": "right of", "above": "below"}
        opposite |= {b: a for a, b in opposite.items()}
        relation = opposite[relation]
    return RELATIONS[claims.relation] == relation
