"""Small labelled tasks made of templates, so that fine-tuning can be seen to work at once."""

from __future__ import annotations

import random
from typing import Any

from fmscale.data.tasks.labelled_texts import Form

COLORS = ("red", "blue", "green", "black", "white", "yellow")
THINGS = ("box", "door", "car", "lamp", "book", "chair")
GOOD = ("good", "fast", "clean", "correct", "useful", "simple")
BAD = ("bad", "slow", "broken", "wrong", "useless", "complex")
FRAMES = ("the {} is {}", "this {} is very {}", "we found the {} {}", "a {} that is {}")


def toy_examples(form: Form, n: int, seed: int) -> list[dict[str, Any]]:
    """n examples of a form, a function of the seed; both labels are equally likely."""
    rng = random.Random(f"{form}-{seed}")
    return [_example(form, rng) for _ in range(n)]


def _example(form: Form, rng: random.Random) -> dict[str, Any]:
    thing, color = rng.choice(THINGS), rng.choice(COLORS)
    other = rng.choice([c for c in COLORS if c != color])
    yes = rng.random() < 0.5
    match form:
        case "classification":
            word = rng.choice(GOOD if yes else BAD)
            text = rng.choice(FRAMES).format(thing, word)
            return {"text": text, "label": "praise" if yes else "blame"}
        case "entailment":
            return {
                "premise": f"the {color} {thing} is here",
                "hypothesis": f"the {thing} is {color if yes else other}",
                "label": "follows" if yes else "contradicts",
            }
        case "similarity":
            first, second = rng.sample(FRAMES[:2], 2)
            return {
                "text_a": first.format(thing, color),
                "text_b": second.format(thing, color if yes else other),
                "label": "same" if yes else "different",
            }
        case "multiple_choice":
            choices = rng.sample([c for c in COLORS if c != color], 2)
            place = rng.randrange(3)
            choices.insert(place, color)
            return {"context": f"the {color} {thing}: its color is", "choices": choices,
                    "label": place}  # fmt: skip
