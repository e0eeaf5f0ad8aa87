"""Training objectives: (model, batch) -> dict with the scalar "loss" and extras to log."""

from typing import Any

from fmscale.public import load

# What configurations name, and the module where it lies today; see `fmscale.public`.
PUBLIC = {
    "CaptionLikelihood": "caption_likelihood",
    "Contrastive": "contrastive",
    "NextToken": "next_token",
    "PairwiseSigmoid": "sigmoid",
}


def __getattr__(name: str) -> Any:
    return load(__name__, PUBLIC, name)
